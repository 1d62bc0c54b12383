/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/revert.h"

#include "engine/callbacks.h"
#include "engine/check.h"
#include "engine/switch.h"
#include "engine/transaction.h"

typedef struct {
	HvpTarget *target;
	const char *name;
	const char *sha256; /* NULL: any */
	const HvpOptions *options;
	HvpResult *result;
	HvpDeadline deadline;
	HvpTransaction *transaction;
	HvpApplied *applied;
	GPtrArray *older; /* HvpKlpPatch: what came before it and is in force */
	HvpChanges *changes;
} Revert;

static void revert_clear(Revert *self)
{
	hvp_transaction_free(self->transaction);
	hvp_applied_free(self->applied);
	g_clear_pointer(&self->older, g_ptr_array_unref);
	hvp_changes_free(self->changes);
}

static bool check_state(const HvpApplied *applied, GError **error)
{
	switch (applied->state) {
	case HVP_RECORD_SWITCHED:
		return true;
	case HVP_RECORD_ORIGINAL:
		return hvp_error_set(
			error, HVP_ERROR_NOT_FOUND,
			"%s is loaded but not in force (an interrupted operation?): run "
			"hvpatch recover",
			applied->name);
	case HVP_RECORD_BUSY:
		return hvp_error_set(error, HVP_ERROR_BUSY, "the guest is changing its text: %s",
				     applied->why);
	default:
		return hvp_error_set(error, HVP_ERROR_TAMPERED,
				     "the guest's text is not as recorded: %s; nothing is written",
				     applied->why);
	}
}

static bool is_wanted(const Revert *self, const char *sha256)
{
	return self->sha256 == NULL || g_strcmp0(self->sha256, sha256) == 0;
}

/* Versions of a patch have their module's name in common. */
static bool check_digest(const Revert *self, GError **error)
{
	const char *found = self->applied->record->sha256;

	return is_wanted(self, found) ||
	       hvp_error_set(error, HVP_ERROR_NOT_FOUND,
			     "the %s that is applied is of another file: its SHA-256 is %s, not %s",
			     self->name, found, self->sha256);
}

static bool find_patch(Revert *self, GError **error)
{
	g_clear_pointer(&self->applied, hvp_applied_free);
	self->applied = hvp_applied_read(self->target, self->name, error);
	return self->applied != NULL && check_digest(self, error) &&
	       check_state(self->applied, error);
}

static void note_result(Revert *self)
{
	const GArray *sites = self->applied->record->sites;

	self->result->sha256 = g_strdup(self->applied->record->sha256);
	for (guint i = 0; i < sites->len; i++) {
		const HvpRecordSite *site = &g_array_index(sites, HvpRecordSite, i);

		hvp_result_add_function(self->result, site->object ? site->object : "vmlinux",
					site->name, site->old.start, site->new_function,
					site->site.site);
	}
}

/* As find_patch(), under the lock, and with the callbacks that are due. */
static bool find_due(Revert *self, GError **error)
{
	if (!find_patch(self, error))
		return false;
	if (self->applied->klp == NULL)
		return hvp_error_set(error, HVP_ERROR_TAMPERED,
				     "the guest's klp_patch of %s cannot be read", self->name);
	return hvp_callbacks_drop_undone(self->applied->klp, self->transaction->journal, error);
}

/* Of a module that has come since, whose callbacks the core has run, those that undo are due. */
static bool check_pinned(Revert *self, GError **error)
{
	const HvpKlpPatch *klp = self->applied->klp;

	for (guint i = 0; i < hvp_klp_patch_count(klp); i++) {
		const char *name = hvp_klp_patch_get(klp, i)->name;
		const HvpModule *module = name ? hvp_modules_find(self->target->modules, name)
					       : NULL;

		if (module != NULL && !hvp_pins_has(self->transaction->pins, module))
			return hvp_error_set(error, HVP_ERROR_BUSY,
					     "the guest has loaded module %s meanwhile: try again",
					     name);
	}
	return true;
}

static bool plan(Revert *self, GError **error)
{
	g_auto(HvpCheckPlaces) places = { 0 };

	self->changes = hvp_changes_new();
	return find_due(self, error) && check_pinned(self, error) &&
	       hvp_check_places_read(self->target, NULL, &places, error) &&
	       hvp_changes_retire(self->changes, self->target, places.ftrace, places.sites,
				  self->applied, error);
}

/* What must not run any more after the switch. */
static bool watch(Revert *self, GError **error)
{
	HvpOracle *oracle = self->transaction->oracle;

	hvp_oracle_plan(oracle, self->applied->record, self->applied->text,
			HVP_ORACLE_NEW_CODE_GOES);
	return hvp_oracle_watch(oracle, self->transaction->keeper, self->changes,
				&self->result->longest_pause_usec, error);
}

static bool run_callbacks(Revert *self, HvpKlpCallback which, GError **error)
{
	return hvp_transaction_run_callbacks(self->transaction, self->options, self->applied->klp,
					     which, self->older, &self->result->longest_pause_usec,
					     error);
}

/* What was found before the lock was taken may be gone; what is there now stays. */
static bool prepare(Revert *self, GError **error)
{
	if (!find_due(self, error))
		return false;
	self->older = hvp_applied_read_older(self->target, self->applied->module, NULL);
	return hvp_transaction_pin_objects(self->transaction, self->options, self->applied->klp,
					   &self->result->longest_pause_usec, error);
}

/*
 * Nobody may be in any text of the module: a tail call leaves no frame of the function that
 * made it, so function by function would not do.
 */
static bool switch_back(Revert *self, GError **error)
{
	HvpForbidden forbidden[] = { { self->applied->text, self->name },
				     { self->applied->init_text, self->name } };
	HvpSwitch job = { .target = self->target,
			  .keeper = self->transaction->keeper,
			  .options = self->options,
			  .forbidden = forbidden,
			  .forbidden_count = G_N_ELEMENTS(forbidden),
			  .changes = self->changes,
			  .oracle = self->transaction->oracle };

	hvp_options_progress(self->options, "switching back", 0, 0);
	return hvp_switch_run(&job, self->deadline, self->result, error);
}

/*
 * The patch stays in force: what its pre_unpatch callbacks undid, post_patch does again. True: it
 * turned out that it is not, and that all is finished.
 */
static bool stay(Revert *self, bool callbacks_ran, GError **error)
{
	g_autoptr(GError) reason = NULL;

	if (callbacks_ran && !hvp_transaction_is_undone(self->transaction, *error) &&
	    self->applied != NULL && self->applied->klp != NULL &&
	    !run_callbacks(self, HVP_KLP_POST_PATCH, &reason))
		g_prefix_error(error, "(its post_patch callbacks did not run again: %s) ",
			       reason->message);
	return hvp_transaction_abandon(g_steal_pointer(&self->transaction), self->options,
				       error) == HVP_TRANSACTION_FINISHED;
}

static bool is_unloaded_by_now(Revert *self)
{
	return hvp_target_refresh_modules(self->target, NULL) &&
	       hvp_modules_find(self->target->modules, self->name) == NULL;
}

/*
 * The module is not unloaded. A pause that took too long, or a keeper that died, cut only a call
 * off: recovering tries once more. True: then it is. Else the journal stays open, so that recover,
 * or the next command, does what is left to do.
 */
static bool unload_again(Revert *self, GError **reason)
{
	if (!hvp_transaction_is_undone(self->transaction, *reason)) {
		g_clear_pointer(&self->transaction, hvp_transaction_free);
		return false;
	}
	if (hvp_transaction_abandon(g_steal_pointer(&self->transaction), self->options, reason) ==
	    HVP_TRANSACTION_OPEN)
		return false;
	if (is_unloaded_by_now(self))
		return true;
	if (*reason == NULL)
		hvp_error_set(reason, HVP_ERROR_UNDONE, "the keeper ended");
	return false;
}

/* Unloads the module, unless the guest's owner has switched that off since: then it stays, unused.
 */
static bool put_away(Revert *self, GError **error)
{
	g_autoptr(GError) reason = NULL;
	HvpPolicy policy;

	if (!hvp_policy_read(self->target->kernel, self->target->modules, &policy, error))
		return false;
	if (policy.modules_disabled)
		self->result->message = g_strdup_printf("%s is reverted but stays loaded, unused: "
							"kernel.modules_disabled",
							self->name);
	else if (!hvp_transaction_unload(self->transaction, self->options, self->applied->klp,
					 self->older, self->name, self->applied->module,
					 &self->result->longest_pause_usec, &reason) &&
		 unload_again(self, &reason))
		return true;
	if (reason == NULL) {
		if (hvp_transaction_close(g_steal_pointer(&self->transaction), error))
			return true;
		g_prefix_error(error, "the old code is in force, but: ");
		return false;
	}
	g_propagate_prefixed_error(error, g_steal_pointer(&reason),
				   "the old code is in force, but the module is not unloaded (run "
				   "hvpatch recover): ");
	return false;
}

/*
 * What a killed one left would be in the way of the check already. *@ret_done: that was a revert
 * of this patch, and it is over now.
 */
static bool recover(Revert *self, bool *ret_done, GError **error)
{
	g_autoptr(HvpRecovery) recovery = NULL;

	*ret_done = false;
	if (self->target->machine == NULL)
		return true;
	if (!hvp_transaction_recover(self->target, self->options, &recovery, error))
		return false;
	if (recovery == NULL || !recovery->finished ||
	    g_strcmp0(recovery->operation, "revert") != 0 ||
	    g_strcmp0(recovery->patch, self->name) != 0 || !is_wanted(self, recovery->sha256) ||
	    !is_unloaded_by_now(self))
		return true;
	self->result->kind = HVP_RESULT_REVERTED;
	self->result->message = hvp_recovery_describe(recovery);
	*ret_done = true;
	return true;
}

static bool run(Revert *self, GError **error)
{
	bool done, called;

	if (!recover(self, &done, error) || done)
		return done;
	hvp_options_progress(self->options, "checking", 0, 0);
	if (!find_patch(self, error))
		return false;
	note_result(self);
	if (!hvp_options_check_wanted(self->options, error))
		return false;
	self->transaction = hvp_transaction_open(self->target, "revert", self->name,
						 self->applied->record->sha256, self->options,
						 error);
	if (self->transaction == NULL)
		return false;
	called = prepare(self, error) && run_callbacks(self, HVP_KLP_PRE_UNPATCH, error);
	if (!called || !plan(self, error) || !watch(self, error) || !switch_back(self, error)) {
		bool finished = stay(self, called, error);

		if (finished)
			self->result->kind = HVP_RESULT_REVERTED;
		return finished;
	}
	/* The old code is in force again: from here on only the module is left to be put away. */
	self->result->kind = HVP_RESULT_REVERTED;
	hvp_options_progress(self->options, HVP_STEP_SWITCHED, 0, 0);
	return put_away(self, error);
}

HvpResult *hvp_revert(HvpTarget *target, const char *name, const char *sha256,
		      const HvpOptions *options, GError **error)
{
	HvpResult *result = hvp_result_new();
	gint64 started = g_get_monotonic_time();
	Revert revert = { .target = target,
			  .name = name,
			  .sha256 = sha256,
			  .options = options,
			  .result = result,
			  .deadline = hvp_deadline_in(options->timeout_usec) };
	GError *reason = NULL;

	result->patch = g_strdup(name);
	if (!run(&revert, &reason)) {
		if (result->kind != HVP_RESULT_REVERTED)
			result->kind = hvp_result_kind_of(reason);
		g_propagate_error(error, reason);
	}
	revert_clear(&revert);
	result->total_usec = g_get_monotonic_time() - started;
	return result;
}
