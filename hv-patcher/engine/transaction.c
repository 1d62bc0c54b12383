/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/transaction.h"

#include "call/borrow.h"
#include "engine/applied.h"
#include "engine/boot.h"
#include "engine/callbacks.h"
#include "engine/core-wait.h"
#include "engine/klp-core.h"
#include "engine/leftovers.h"
#include "engine/loader.h"
#include "engine/lost-calls.h"
#include "engine/readiness.h"
#include "engine/record.h"
#include "engine/switch.h"

#include <string.h>

/* Less than a worker has in all: who ends it in mid-way does not hear why. */
#define ADOPT_USEC (60 * G_USEC_PER_SEC)
/* The operation that changes nothing. */
#define LOOK "look"
/* The step of an operation that goes by kvm, with the RAM jobs that there were before. */
#define BY_KVM_STEP "kvm"
/* The step before which an operation by kvm has not used the gdb stub. */
#define ECHO_STEP "echo"
#define CATCH_USEC (15 * G_USEC_PER_SEC)
#define CALL_USEC (60 * G_USEC_PER_SEC)
#define QMP_USEC (5 * G_USEC_PER_SEC)
#define UNUSED_USEC (10 * G_USEC_PER_SEC)
#define UNUSED_RETRY_USEC (20 * 1000)

typedef enum { BY_GDBSTUB, BY_KVM } Way;

static bool is_change(const char *operation)
{
	return operation != NULL && strcmp(operation, LOOK) != 0;
}

static const char *operation_of(const HvpJournalState *state)
{
	return g_hash_table_lookup(state->begin, "operation");
}

static bool start_keeper(HvpTransaction *self, Way way, GError **error)
{
	HvpQmp *qmp = hvp_machine_get_qmp(self->target->machine);
	int fd = qmp ? hvp_qmp_get_fd(qmp) : -1;

	if (qmp == NULL && way == BY_GDBSTUB)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "without the VM's monitor there is no gdb stub");
	if (qmp != NULL && fd < 0)
		return hvp_error_set(error, HVP_ERROR_INTERNAL,
				     "the monitor connection is given away");
	self->keeper = hvp_keeper_start(fd, hvp_journal_get_fd(self->journal), error);
	if (self->keeper == NULL)
		return false;
	/* Under KVM nothing but memory and registers is ours. */
	hvp_keeper_set_trap_kind(self->keeper,
				 way == BY_KVM ? HVP_KEEPER_SPINS : self->target->trap_kind);
	hvp_keeper_set_guard(self->keeper, self->target->owner.check_no_job,
			     self->target->owner.data);
	/* From now on the keeper alone speaks on it; it has taken the descriptor over. */
	if (qmp != NULL)
		(void)hvp_qmp_steal_fd(qmp);
	return way == BY_GDBSTUB || hvp_target_hand_over(self->target, self->keeper, error);
}

static HvpTransaction *transaction_new(HvpTarget *target, GError **error)
{
	g_autoptr(HvpTransaction) self = g_new0(HvpTransaction, 1);

	if (target->machine == NULL) {
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "a dump cannot be changed");
		return NULL;
	}
	self->target = target;
	self->journal = hvp_journal_open(target->machine, target->journal_folder, error);
	if (self->journal == NULL)
		return NULL;
	self->pins = hvp_pins_new(self->journal);
	self->oracle = hvp_oracle_new(target);
	return g_steal_pointer(&self);
}

/* The monitor again, after a keeper took the connection. */
static bool reconnect(HvpTarget *target, GError **error)
{
	return hvp_machine_reconnect(target->machine, hvp_deadline_in(QMP_USEC), error);
}

/* Frames, hooks and writes of a keeper that died: another takes them over and finishes. */
static bool adopt(HvpTransaction *self, const HvpJournalState *state, GError **error)
{
	return hvp_keeper_adopt(
		self->keeper, (const HvpKeeperFrame *)(void *)state->frames->data,
		state->frames->len, (const HvpKeeperHook *)(void *)state->hooks->data,
		state->hooks->len, (const HvpKeeperSpin *)(void *)state->spins->data,
		state->spins->len, (const HvpKeeperWrite *)(void *)state->writes->data,
		state->writes->len, false, hvp_deadline_in(ADOPT_USEC), error);
}

/* What was allocated and neither handed to the guest's loader nor freed. */
static bool free_buffers(HvpBorrow *borrow, HvpTransaction *self, const HvpJournalState *state,
			 GError **error)
{
	static const char *const keys[] = { HVP_LOADER_FILE, HVP_LOADER_RECORD };
	HvpGva buffer;

	for (guint i = 0; i < G_N_ELEMENTS(keys); i++)
		if (hvp_loader_find_buffer(state, keys[i], &buffer) &&
		    !hvp_loader_free_buffer(borrow, self->journal, keys[i], buffer,
					    hvp_deadline_in(CATCH_USEC), error))
			return false;
	return true;
}

/* The callbacks that end a patch's life, once. @patch may be NULL: none are due. */
static bool run_post_unpatch(HvpBorrow *borrow, HvpTransaction *self, const HvpKlpPatch *patch,
			     const GPtrArray *older, HvpDeadline deadline, GError **error)
{
	return patch == NULL || !hvp_klp_patch_has_callback(patch, HVP_KLP_POST_UNPATCH) ||
	       (hvp_klp_core_present(borrow, self->target, patch, self->pins, error) &&
		hvp_loader_callbacks(borrow, self->target, patch, HVP_KLP_POST_UNPATCH, self->pins,
				     older, self->journal, deadline, error));
}

/*
 * While a patch is handed to the core its objects begin behind vmlinux's. The module's own exit
 * must not find it so: some free the array from its beginning.
 */
static bool restore_objects(HvpBorrow *borrow, HvpTransaction *self, HvpLeftover *leftover,
			    const HvpJournalState *state, GError **error)
{
	HvpKlpPatch *klp = leftover->klp;
	HvpGva address, first;

	if (klp == NULL || !hvp_journal_state_find(state, "objects", &first.value) ||
	    !hvp_journal_state_has(state, "klp", klp->address.value) ||
	    klp->first_object.value == first.value)
		return true;
	address = klp->address;
	if (!hvp_klp_core_restore_objects(borrow, self->target->kernel, address, first, error))
		return false;
	hvp_klp_patch_free(klp);
	leftover->klp = hvp_klp_patch_read_own(self->target->kernel, &leftover->module, address,
					       NULL);
	return true;
}

static bool run_leftover_post_unpatch(HvpBorrow *borrow, HvpTransaction *self,
				      HvpLeftover *leftover, const HvpJournalState *state,
				      GError **error)
{
	if (leftover->klp != NULL)
		hvp_callbacks_drop_post_unpatch(leftover->klp, state);
	return run_post_unpatch(borrow, self, leftover->klp, leftover->older,
				hvp_deadline_in(CATCH_USEC), error);
}

static bool unload_leftover(HvpBorrow *borrow, HvpTransaction *self, HvpLeftover *leftover,
			    const HvpJournalState *state, GError **error)
{
	const HvpModule *module = &leftover->module;
	HvpLoaderReference reference = HVP_LOADER_DROP_REFERENCE;

	if (!restore_objects(borrow, self, leftover, state, error))
		return false;
	if (module->refcount <= 1 || hvp_journal_state_has(state, "dropped", module->address.value))
		reference = HVP_LOADER_NO_REFERENCE;
	if (!run_leftover_post_unpatch(borrow, self, leftover, state, error))
		return false;
	hvp_oracle_withdraw(self->oracle, module->text);
	return hvp_loader_unload(borrow, self->target, module->name, module->address, reference,
				 self->journal, hvp_deadline_in(CATCH_USEC), error);
}

static bool has_buffers(const HvpJournalState *state)
{
	HvpGva ignored;

	return hvp_loader_find_buffer(state, HVP_LOADER_FILE, &ignored) ||
	       hvp_loader_find_buffer(state, HVP_LOADER_RECORD, &ignored);
}

/*
 * Whoever resumed the VM behind a dead keeper's back may have let tasks into code that was rolled
 * back since: the module stays until they are out.
 */
static bool prove_unused(HvpTransaction *self, const HvpModule *module, GError **error)
{
	HvpForbidden forbidden[] = { { module->text, module->name },
				     { module->init_text, module->name } };
	HvpDeadline deadline = hvp_deadline_in(UNUSED_USEC);

	/* A task that cannot be judged at one moment can at another. */
	do {
		g_autoptr(HvpSweep) sweep = hvp_switch_look(self->target, self->keeper, error);

		if (sweep == NULL)
			return false;
		if (hvp_prove(sweep, forbidden, G_N_ELEMENTS(forbidden)))
			return true;
		g_usleep(UNUSED_RETRY_USEC);
	} while (!hvp_deadline_passed(deadline));
	return hvp_error_set(
		error, HVP_ERROR_BUSY,
		"a task stands in module %s, which is to be unloaded: see hvpatch tasks "
		"--stacks, try again",
		module->name);
}

static bool put_away(HvpBorrow *borrow, HvpTransaction *self, const GArray *leftovers,
		     const HvpJournalState *state, GError **error)
{
	for (guint i = 0; i < leftovers->len; i++)
		if (!unload_leftover(borrow, self, &g_array_index(leftovers, HvpLeftover, i), state,
				     error))
			return false;
	return free_buffers(borrow, self, state, error);
}

/*
 * The patch that is in force and whose post_patch callbacks are due: an apply was interrupted
 * behind its switch, or a revert before it, when pre_unpatch had run.
 */
static HvpKlpPatch *find_unfinished(HvpTransaction *self, const HvpJournalState *state)
{
	const char *name = g_hash_table_lookup(state->begin, "patch");
	const HvpModule *module = name ? hvp_modules_find(self->target->modules, name) : NULL;
	bool applied = state->committed && g_strcmp0(operation_of(state), "apply") == 0;
	g_autoptr(HvpRecord) record = NULL;
	HvpKlpPatch *klp;
	guint64 ignored;

	if (module == NULL ||
	    (!applied && !hvp_journal_state_find(state, "pre-unpatch", &ignored)))
		return NULL;
	record = hvp_record_read(self->target->kernel, module, NULL);
	if (record == NULL || !record->in_force)
		return NULL;
	klp = hvp_klp_patch_read_own(self->target->kernel, module, record->klp_patch, NULL);
	if (klp != NULL)
		hvp_callbacks_drop_post_patch(klp, state, applied);
	return klp;
}

static bool finish_callbacks(HvpTransaction *self, const HvpJournalState *state, GError **error)
{
	g_autoptr(HvpKlpPatch) patch = find_unfinished(self, state);
	g_autoptr(GPtrArray) older = NULL;

	if (patch == NULL)
		return true;
	older = hvp_applied_read_older(self->target, patch->module, state);
	return hvp_transaction_run_callbacks(self, &(HvpOptions){ 0 }, patch, HVP_KLP_POST_PATCH,
					     older, &(gint64){ 0 }, error);
}

/* From now on the owners of the patched modules may unload them. */
static void stop_watching_pinned(HvpTransaction *self)
{
	for (guint i = 0; i < hvp_modules_count(self->target->modules); i++) {
		const HvpModule *module = hvp_modules_get(self->target->modules, i);

		if (hvp_pins_has(self->pins, module) && !self->target->keeps_watching)
			hvp_oracle_withdraw(self->oracle, module->text);
	}
}

/* The references that the operation held to patched modules. */
static bool drop_pins(HvpTransaction *self, GError **error)
{
	HvpBorrow *borrow;
	bool ok;

	if (hvp_pins_count(self->pins) == 0)
		return true;
	stop_watching_pinned(self);
	borrow = hvp_borrow_catch(self->keeper, self->target->kernel, hvp_deadline_in(CATCH_USEC),
				  error);
	if (borrow == NULL)
		return false;
	ok = hvp_pins_drop(self->pins, borrow, hvp_deadline_in(CALL_USEC), error);
	return hvp_borrow_release(borrow, NULL, ok ? error : NULL) && ok;
}

/* The modules of what is left are put away while patched modules are still pinned. */
static bool unload_leftovers(HvpTransaction *self, const HvpJournalState *state, GError **error)
{
	g_autoptr(GArray) leftovers = hvp_leftovers_find(self->target, state, error);
	g_autoptr(HvpBorrow) borrow = NULL;
	bool ok;

	if (leftovers == NULL)
		return false;
	if (leftovers->len == 0 && !has_buffers(state))
		return true;
	for (guint i = 0; i < leftovers->len; i++) {
		const HvpModule *module = &g_array_index(leftovers, HvpLeftover, i).module;

		if (!prove_unused(self, module, error) ||
		    !hvp_core_wait_release(self->keeper, self->target->kernel, module->address,
					   error))
			return false;
	}
	borrow = hvp_borrow_catch(self->keeper, self->target->kernel, hvp_deadline_in(CATCH_USEC),
				  error);
	if (borrow == NULL)
		return false;
	ok = put_away(borrow, self, leftovers, state, error);
	if (!hvp_borrow_release(g_steal_pointer(&borrow), NULL, ok ? error : NULL))
		return false;
	return ok;
}

static bool clean_guest(HvpTransaction *self, const HvpJournalState *state, GError **error)
{
	if (!hvp_target_refresh_modules(self->target, error))
		return false;
	hvp_pins_take_over(self->pins, state, self->target->modules);
	return finish_callbacks(self, state, error) && unload_leftovers(self, state, error) &&
	       drop_pins(self, error);
}

/* Leaves a started keeper, so that the VM is as its owner knows it, and takes the monitor back. */
static bool leave(HvpTransaction *self, GError **error)
{
	if (!hvp_keeper_detach(self->keeper, error))
		return false;
	g_clear_pointer(&self->keeper, hvp_keeper_free);
	return reconnect(self->target, error);
}

static bool echo(HvpTransaction *self, const GArray *pages, GError **error)
{
	return hvp_journal_step(self->journal, ECHO_STEP, pages->len, error) &&
	       hvp_target_need_monitor(self->target, "copying what was changed once more", error) &&
	       start_keeper(self, BY_GDBSTUB, error) && hvp_keeper_attach(self->keeper, error) &&
	       hvp_echo_write(self->target->machine, self->keeper, pages, error) &&
	       leave(self, error);
}

/*
 * Leaves, and sees to it that whoever copies the guest's memory has it as it is now. @state (may
 * be NULL) is what was taken over.
 */
static bool leave_and_echo(HvpTransaction *self, const HvpJournalState *state, GError **error)
{
	g_autoptr(GArray) pages = hvp_keeper_get_pages(self->keeper);
	bool needed;

	if (!leave(self, error))
		return false;
	if (state != NULL)
		hvp_echo_add_places(pages, state);
	/* Who only looked has written nothing. */
	if (self->echo == NULL || pages->len == 0)
		return true;
	if (!hvp_echo_is_needed(self->echo, &needed, error))
		return false;
	return !needed || echo(self, pages, error);
}

/*
 * What was begun through the gdb stub has left its breakpoints there. An operation by kvm that has
 * left a gdb server was over but for its echo, and the VM may stand.
 */
static Way way_of(const HvpTransaction *self, const HvpJournalState *state, bool leftover)
{
	bool changed = leftover || state->frames->len > 0 || state->writes->len > 0;

	if (self->echo != NULL)
		return leftover ? BY_GDBSTUB : BY_KVM;
	return self->target->by_kvm && !changed ? BY_KVM : BY_GDBSTUB;
}

static bool take_over(HvpTransaction *self, HvpJournalState *state, bool leftover, GError **error)
{
	/* Whoever looked for lost calls has left, and not removed spin traps. */
	bool dirty = leftover || state->attached || state->frames->len > 0 ||
		     state->writes->len > 0 || state->spins->len > 0;
	guint64 jobs;
	Way way;

	if (is_change(operation_of(state)) && hvp_journal_state_find(state, BY_KVM_STEP, &jobs))
		self->echo = hvp_echo_new_since(self->target, jobs);
	way = way_of(self, state, leftover);

	if (!start_keeper(self, way, error) || !hvp_journal_step_recovery(self->journal, error) ||
	    (way == BY_KVM && !hvp_lost_calls_drop(self->target, self->keeper, self->journal, state,
						   error)))
		return false;
	return (dirty ? adopt(self, state, error) : hvp_keeper_attach(self->keeper, error)) &&
	       hvp_journal_refresh_calls(self->journal, state, error);
}

static bool recover_from(HvpTransaction *self, HvpJournalState *state, GError **error)
{
	bool leftover;

	if ((is_change(operation_of(state)) && !hvp_readiness_check_way(self->target, error)) ||
	    !hvp_machine_find_debugger(self->target->machine, hvp_deadline_in(QMP_USEC), &leftover,
				       error) ||
	    !take_over(self, state, leftover, error))
		return false;
	hvp_oracle_decide(self->oracle, state->committed ? HVP_PLUGIN_CONFIRM : HVP_PLUGIN_CANCEL);
	if (!clean_guest(self, state, error))
		return false;
	return leave_and_echo(self, state, error) && hvp_journal_end(self->journal, error);
}

/*
 * Where the gdb stub was used, it may have been left, and the VM to it: the monitor tells. Not
 * before a keeper was about to attach.
 */
static bool reach(HvpTransaction *self, const HvpJournalState *state, GError **error)
{
	guint64 ignored;

	return !state->attached ||
	       (hvp_journal_state_find(state, BY_KVM_STEP, &ignored) &&
		!hvp_journal_state_find(state, ECHO_STEP, &ignored)) ||
	       hvp_target_need_monitor(self->target, "finishing an interrupted operation", error);
}

static bool recover(HvpTransaction *self, const HvpOptions *options, HvpRecovery **ret_recovery,
		    GError **error)
{
	g_autoptr(HvpJournalState) state = NULL;

	*ret_recovery = NULL;
	if (!hvp_journal_read_unfinished(self->journal, &state, error))
		return false;
	if (state == NULL) {
		bool leftover;

		if (!hvp_machine_find_debugger(self->target->machine, hvp_deadline_in(QMP_USEC),
					       &leftover, error))
			return false;
		if (!leftover)
			return true;
		/* A server of ours without a journal: close it, nothing else is known. */
		state = hvp_journal_state_new_attached();
	} else if (!reach(self, state, error)) {
		return false;
	}
	if (hvp_boot_has_changed(self->target->kernel, state)) {
		hvp_journal_state_free(state);
		state = hvp_journal_state_new_attached();
	}
	hvp_options_progress(options, "finishing an interrupted operation", 0, 0);
	if (!recover_from(self, state, error)) {
		g_prefix_error(error, "recovering: ");
		return false;
	}
	*ret_recovery = hvp_recovery_new(state);
	return true;
}

bool hvp_transaction_recover(HvpTarget *target, const HvpOptions *options,
			     HvpRecovery **ret_recovery, GError **error)
{
	g_autoptr(HvpTransaction) self = transaction_new(target, error);
	g_autoptr(HvpRecovery) recovery = NULL;

	if (self == NULL || !recover(self, options, &recovery, error))
		return false;
	if (ret_recovery != NULL)
		*ret_recovery = g_steal_pointer(&recovery);
	return true;
}

static bool check_oracle(HvpTransaction *self, GError **error)
{
	hvp_oracle_enter_boot(self->oracle, hvp_boot_get_place(self->target->kernel));
	return hvp_oracle_check(self->oracle, error);
}

/* The jobs that there were are asked for before the keeper has the monitor. */
static bool note_way(HvpTransaction *self, const char *operation, GError **error)
{
	guint64 jobs = 0;

	if (!self->target->by_kvm)
		return true;
	g_clear_pointer(&self->echo, hvp_echo_free);
	if (is_change(operation)) {
		self->echo = hvp_echo_new(self->target, error);
		if (self->echo == NULL)
			return false;
		jobs = hvp_echo_get_jobs(self->echo);
	}
	return hvp_journal_step(self->journal, BY_KVM_STEP, jobs, error);
}

HvpTransaction *hvp_transaction_open(HvpTarget *target, const char *operation, const char *patch,
				     const char *sha256, const HvpOptions *options, GError **error)
{
	g_autoptr(HvpTransaction) self = transaction_new(target, error);
	g_autoptr(HvpRecovery) recovery = NULL;

	if (self == NULL || (is_change(operation) && !hvp_readiness_check_way(target, error)) ||
	    !recover(self, options, &recovery, error) || !hvp_readiness_check(target, error) ||
	    !hvp_journal_begin(self->journal, operation, patch, sha256, error) ||
	    !hvp_boot_note(target->kernel, self->journal, error) || !check_oracle(self, error) ||
	    !note_way(self, operation, error) ||
	    !start_keeper(self, target->by_kvm ? BY_KVM : BY_GDBSTUB, error) ||
	    !hvp_keeper_attach(self->keeper, error))
		return NULL;
	return g_steal_pointer(&self);
}

bool hvp_transaction_open_for_looking(HvpTarget *target, HvpTransaction **ret_transaction,
				      GError **error)
{
	*ret_transaction = NULL;
	if (target->machine == NULL || !hvp_machine_was_running(target->machine))
		return true;
	*ret_transaction = hvp_transaction_open(target, LOOK, "", "", &(HvpOptions){ 0 }, error);
	return *ret_transaction != NULL;
}

static bool has_lost_keeper(const HvpTransaction *self)
{
	return self != NULL && self->keeper != NULL && hvp_keeper_is_lost(self->keeper);
}

bool hvp_transaction_close(HvpTransaction *self, GError **error)
{
	bool ok;

	/*
	 * A switch that was announced and not made. Where one was made that the oracle does not
	 * know of, the journal stays open, so that recovering tells it.
	 */
	hvp_oracle_decide(self->oracle, HVP_PLUGIN_CANCEL);
	ok = drop_pins(self, error) &&
	     (self->echo ? leave_and_echo(self, NULL, error)
			 : hvp_keeper_detach(self->keeper, error)) &&
	     hvp_oracle_check(self->oracle, error) && hvp_journal_end(self->journal, error);
	if (!ok && has_lost_keeper(self)) {
		g_clear_error(error);
		return hvp_transaction_recover_undone(self, self->target, &(HvpOptions){ 0 }, NULL,
						      error);
	}
	hvp_transaction_free(self);
	return ok;
}

bool hvp_transaction_is_undone(const HvpTransaction *self, const GError *error)
{
	return g_error_matches(error, HVP_ERROR, HVP_ERROR_UNDONE) || has_lost_keeper(self);
}

/* The keeper ended the session by itself and left; what it could not put away is put away now. */
bool hvp_transaction_recover_undone(HvpTransaction *self, HvpTarget *target,
				    const HvpOptions *options, HvpRecovery **ret_recovery,
				    GError **error)
{
	hvp_transaction_free(self);
	return reconnect(target, error) &&
	       hvp_transaction_recover(target, options, ret_recovery, error);
}

/* A keeper that died may have decided the switch, and the tool did not hear of it. */
static HvpTransactionEnd recover_lost(HvpTransaction *self, const HvpOptions *options,
				      GError **reason, GError **error)
{
	bool was_lost = has_lost_keeper(self);
	g_autoptr(HvpRecovery) recovery = NULL;

	if (!hvp_transaction_recover_undone(self, self->target, options, &recovery, reason))
		return HVP_TRANSACTION_OPEN;
	if (!was_lost)
		return HVP_TRANSACTION_LEFT;
	g_clear_error(error);
	if (recovery != NULL && recovery->finished)
		return HVP_TRANSACTION_FINISHED;
	hvp_error_set(error, HVP_ERROR_UNDONE, "the keeper ended; rolled back and resumed");
	return HVP_TRANSACTION_LEFT;
}

HvpTransactionEnd hvp_transaction_abandon(HvpTransaction *self, const HvpOptions *options,
					  GError **error)
{
	g_autoptr(GError) reason = NULL;
	HvpTransactionEnd end = HVP_TRANSACTION_OPEN;

	if (hvp_transaction_is_undone(self, *error))
		end = recover_lost(self, options, &reason, error);
	else if (g_error_matches(*error, HVP_ERROR, HVP_ERROR_VM_GONE) ||
		 g_error_matches(*error, HVP_ERROR, HVP_ERROR_INCONSISTENT))
		hvp_transaction_free(self);
	else if (hvp_transaction_close(self, &reason))
		end = HVP_TRANSACTION_LEFT;
	if (reason != NULL)
		g_prefix_error(error, "(leaving was not clean: %s; run hvpatch recover) ",
			       reason->message);
	return end;
}

HvpBorrow *hvp_transaction_borrow(HvpTransaction *self, const HvpOptions *options, GError **error)
{
	hvp_options_progress(options, "waiting for a guest thread", 0, 0);
	return hvp_borrow_catch(self->keeper, self->target->kernel, hvp_deadline_in(CATCH_USEC),
				error);
}

bool hvp_transaction_run_callbacks(HvpTransaction *self, const HvpOptions *options,
				   const HvpKlpPatch *patch, HvpKlpCallback which,
				   const GPtrArray *older, gint64 *longest_usec, GError **error)
{
	HvpBorrow *borrow;
	bool ok;

	if (!hvp_klp_patch_has_callback(patch, which))
		return true;
	borrow = hvp_transaction_borrow(self, options, error);
	if (borrow == NULL)
		return false;
	ok = hvp_loader_callbacks(borrow, self->target, patch, which, self->pins, older,
				  self->journal, hvp_deadline_in(CALL_USEC), error);
	return hvp_borrow_release(borrow, longest_usec, ok ? error : NULL) && ok;
}

bool hvp_transaction_pin_objects(HvpTransaction *self, const HvpOptions *options,
				 const HvpKlpPatch *patch, gint64 *longest_usec, GError **error)
{
	HvpBorrow *borrow;
	bool ok;

	if (!hvp_klp_patch_has_modules(patch))
		return true;
	borrow = hvp_transaction_borrow(self, options, error);
	if (borrow == NULL)
		return false;
	ok = hvp_target_refresh_modules(self->target, error) &&
	     hvp_pins_take_objects(self->pins, borrow, self->target, patch,
				   hvp_deadline_in(CALL_USEC), error);
	return hvp_borrow_release(borrow, longest_usec, ok ? error : NULL) && ok;
}

/* Its exit code may run yet, and afterwards others may lie where it was. */
static void withdraw_module(HvpTransaction *self, const char *name, HvpGva address)
{
	const HvpModule *module = hvp_modules_find(self->target->modules, name);

	if (module != NULL && module->address.value == address.value)
		hvp_oracle_withdraw(self->oracle, module->text);
}

bool hvp_transaction_unload(HvpTransaction *self, const HvpOptions *options,
			    const HvpKlpPatch *patch, const GPtrArray *older, const char *name,
			    HvpGva module, gint64 *longest_usec, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(CALL_USEC);
	HvpBorrow *borrow;
	bool ok;

	if (!hvp_core_wait_release(self->keeper, self->target->kernel, module, error))
		return false;
	borrow = hvp_transaction_borrow(self, options, error);
	if (borrow == NULL)
		return false;
	ok = run_post_unpatch(borrow, self, patch, older, deadline, error);
	withdraw_module(self, name, module);
	ok = ok &&
	     hvp_loader_unload(borrow, self->target, name, module, HVP_LOADER_DROP_REFERENCE,
			       self->journal, deadline, error);
	return hvp_borrow_release(borrow, longest_usec, ok ? error : NULL) && ok;
}

void hvp_transaction_free(HvpTransaction *self)
{
	if (self == NULL)
		return;
	hvp_keeper_free(self->keeper);
	hvp_pins_free(self->pins);
	hvp_echo_free(self->echo);
	hvp_oracle_free(self->oracle);
	hvp_journal_free(self->journal);
	g_free(self);
}
