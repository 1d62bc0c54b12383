/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/apply.h"

#include "call/guest-write.h"
#include "engine/core-wait.h"
#include "engine/loader.h"
#include "engine/switch.h"
#include "engine/transaction.h"

#include <string.h>

#define LOAD_USEC (60 * G_USEC_PER_SEC)
#define RECORD_BUDGET_USEC G_USEC_PER_SEC

/* What one apply gathers on its way. */
typedef struct {
	HvpTarget *target;
	const HvpPatch *patch;
	const HvpOptions *options;
	HvpResult *result;
	HvpDeadline deadline;
	HvpTransaction *transaction;
	GPtrArray *older;     /* HvpApplied: in force before */
	GPtrArray *older_klp; /* their HvpKlpPatch, borrowed */
	HvpKlpPatch *klp;
	HvpRecord *record;
	HvpChanges *changes;
	GArray *forbidden; /* HvpForbidden */
	GPtrArray *names;  /* of cold parts */
	HvpKthreadRule *rule; /* NULL without a manifest */
} Apply;

static void apply_init(Apply *self)
{
	self->changes = hvp_changes_new();
	self->record = hvp_record_new(self->patch->name, self->patch->sha256);
	self->older_klp = g_ptr_array_new();
	self->forbidden = g_array_new(FALSE, TRUE, sizeof(HvpForbidden));
	self->names = g_ptr_array_new_with_free_func(g_free);
}

static void apply_clear(Apply *self)
{
	hvp_transaction_free(self->transaction);
	g_clear_pointer(&self->older, g_ptr_array_unref);
	g_ptr_array_unref(self->older_klp);
	hvp_klp_patch_free(self->klp);
	hvp_record_free(self->record);
	hvp_changes_free(self->changes);
	g_array_unref(self->forbidden);
	g_ptr_array_unref(self->names);
	hvp_kthread_rule_free(self->rule);
}

static void forbid(Apply *self, HvpGvaRange range, const char *name)
{
	HvpForbidden forbidden = { range, name };

	g_array_append_val(self->forbidden, forbidden);
}

/*
 * The unlikely paths that the compiler moved away, NAME.cold and NAME.cold.N, are the function as
 * well. Of namesakes all are taken: too many is safe.
 */
static void forbid_cold_parts(Apply *self, const char *name)
{
	char *cold = g_strconcat(name, ".cold", NULL);
	g_autoptr(GArray) ranges = hvp_kernel_functions_named(self->target->kernel, cold);

	g_ptr_array_add(self->names, cold);
	for (guint i = 0; i < ranges->len; i++)
		forbid(self, g_array_index(ranges, HvpGvaRange, i), cold);
}

/* A module's functions have their cold parts among its own symbols. */
static void forbid_module_cold_parts(Apply *self, HvpModule *object, const char *name)
{
	char *cold = g_strconcat(name, ".cold", NULL);
	g_autoptr(GArray) ranges = hvp_modules_functions_named(self->target->modules, object, cold);

	g_ptr_array_add(self->names, cold);
	for (guint i = 0; i < ranges->len; i++)
		forbid(self, g_array_index(ranges, HvpGvaRange, i), cold);
}

static bool is_named_before(const Apply *self, HvpGva start)
{
	for (guint i = 0; i < self->record->sites->len; i++)
		if (g_array_index(self->record->sites, HvpRecordSite, i).old.start.value ==
		    start.value)
			return true;
	return false;
}

static void note_function(Apply *self, const HvpCheckFunction *found, HvpGva new_function)
{
	const HvpFunctionFacts *facts = &found->facts;
	HvpRecordSite site = { .object = g_strdup(facts->object),
			       .module = facts->module,
			       .name = g_strdup(facts->name),
			       .position = facts->position,
			       .old = facts->old,
			       .slot = facts->slot.ip,
			       .new_function = new_function,
			       .site = found->site };

	g_array_append_val(self->record->sites, site);
	hvp_changes_add_text(self->changes, &found->site,
			     found->released ? hvp_gva(0) : facts->slot.record);
	hvp_result_add_function(self->result, facts->object ? facts->object : "vmlinux",
				facts->name, facts->old.start, new_function, found->site.site);
}

static bool plan_function(Apply *self, HvpCheckPlaces *places, HvpModule *object,
			  const HvpKlpFunction *function, GError **error)
{
	HvpCheckFunction found = { 0 };
	bool ok;

	if (!hvp_check_function(places, object, function->name, function->position, &found, error))
		return false;
	ok = hvp_plan_jump(&found.site, function->new_function, error);
	if (ok && is_named_before(self, found.facts.old.start))
		ok = hvp_error_set(error, HVP_ERROR_BAD_DATA, "the patch names %s twice",
				   found.facts.name);
	if (ok) {
		note_function(self, &found, function->new_function);
		forbid(self, found.facts.old, function->name);
		if (object == NULL)
			forbid_cold_parts(self, function->name);
		else
			forbid_module_cold_parts(self, object, function->name);
	}
	hvp_check_function_clear(&found);
	return ok;
}

static bool plan_object(Apply *self, HvpCheckPlaces *places, const HvpKlpObject *object,
			GError **error)
{
	HvpModule *module = NULL;

	if (object->name != NULL) {
		module = hvp_changes_expect_module(self->changes, self->target->modules,
						   object->name);
		/* The guest's core patches it when it comes. */
		if (module == NULL)
			return true;
		if (!hvp_pins_has(self->transaction->pins, module))
			return hvp_error_set(error, HVP_ERROR_BUSY,
					     "the guest has loaded module %s meanwhile: try again",
					     object->name);
	}
	for (guint i = 0; i < object->functions->len; i++)
		if (!plan_function(self, places, module,
				   &g_array_index(object->functions, HvpKlpFunction, i), error))
			return false;
	return true;
}

/* Any text of a patch that goes will be freed: nobody may be in there. */
static bool replace(Apply *self, HvpCheckPlaces *places, const HvpApplied *older, GError **error)
{
	forbid(self, older->text, older->name);
	forbid(self, older->init_text, older->name);
	return hvp_changes_retire(self->changes, self->target, places->ftrace, places->sites, older,
				  error) &&
	       hvp_journal_step(self->transaction->journal, "replaced", older->module.value, error);
}

static bool check_overlap(Apply *self, const HvpApplied *older, GError **error)
{
	for (guint i = 0; i < hvp_klp_patch_count(self->klp); i++) {
		const HvpKlpObject *object = hvp_klp_patch_get(self->klp, i);

		for (guint j = 0; j < object->functions->len; j++) {
			const HvpKlpFunction *function = &g_array_index(object->functions,
									HvpKlpFunction, j);

			if (hvp_applied_has_function(older, object->name, function->name))
				return hvp_error_set(
					error, HVP_ERROR_CONFLICT,
					"%s is patched already by %s, which the patch does not "
					"replace",
					function->name, older->name);
		}
	}
	return true;
}

static bool plan_older(Apply *self, HvpCheckPlaces *places, GError **error)
{
	for (guint i = 0; i < self->older->len; i++) {
		const HvpApplied *older = g_ptr_array_index(self->older, i);

		if (self->klp->replaces ? !replace(self, places, older, error)
					: !check_overlap(self, older, error))
			return false;
	}
	return true;
}

/* What is in force now, under the lock, and so but for modules that come and go. */
static bool read_older(Apply *self, GError **error)
{
	g_clear_pointer(&self->older, g_ptr_array_unref);
	g_ptr_array_set_size(self->older_klp, 0);
	self->older = hvp_applied_read_all(self->target, error);
	if (self->older == NULL)
		return false;
	for (guint i = 0; i < self->older->len; i++) {
		const HvpApplied *older = g_ptr_array_index(self->older, i);

		if (older->state != HVP_RECORD_SWITCHED)
			return hvp_error_set(error, HVP_ERROR_CONFLICT,
					     "%s is in the guest and not in force (%s)",
					     older->name, hvp_record_state_name(older->state));
		if (older->klp != NULL)
			g_ptr_array_add(self->older_klp, older->klp);
	}
	return true;
}

/* What must not run any more after the switch. Of functions in both the new patch is told last. */
static bool watch(Apply *self, GError **error)
{
	HvpOracle *oracle = self->transaction->oracle;
	const HvpModule *module = hvp_modules_find(self->target->modules, self->patch->name);

	for (guint i = 0; self->klp->replaces && i < self->older->len; i++) {
		const HvpApplied *older = g_ptr_array_index(self->older, i);

		hvp_oracle_plan(oracle, older->record, older->text, HVP_ORACLE_NEW_CODE_GOES);
	}
	if (module != NULL)
		hvp_oracle_plan(oracle, self->record, module->text, HVP_ORACLE_OLD_CODE_GOES);
	return hvp_oracle_watch(oracle, self->transaction->keeper, self->changes,
				&self->result->longest_pause_usec, error);
}

/* For what the guest's klp_patch really names, which init may have changed. */
static bool plan(Apply *self, GError **error)
{
	g_auto(HvpCheckPlaces) places = { 0 };

	if (!read_older(self, error) ||
	    !hvp_check_places_read(self->target, self->changes, &places, error) ||
	    !plan_older(self, &places, error))
		return false;
	for (guint i = 0; i < hvp_klp_patch_count(self->klp); i++)
		if (!plan_object(self, &places, hvp_klp_patch_get(self->klp, i), error))
			return false;
	return hvp_changes_enforce(self->changes, self->target, self->klp, error);
}

/* Room for the record of as many functions as the file names, or as its size could hold. */
static gsize record_room(const HvpPatch *patch)
{
	gsize names = 0;

	for (guint i = 0; i < patch->object_count; i++) {
		const HvpPatchObject *object = &patch->objects[i];

		for (guint j = 0; j < object->function_count; j++)
			names += strlen(object->functions[j].name) +
				 (object->name ? strlen(object->name) : 0);
	}
	if (patch->function_count == 0)
		return HVP_RECORD_MAX_BYTES / 16;
	return hvp_record_size(patch->function_count, names);
}

/* Puts the record where the module keeps its arguments, in a short stop of its own. */
static bool write_record(Apply *self, GError **error)
{
	g_autoptr(GBytes) record = NULL;
	g_auto(HvpKeeperStop) stop = { 0 };
	const void *bytes;
	gsize length;
	bool ok;

	self->record->applied_usec = g_get_real_time();
	self->record->klp_patch = self->klp->address;
	self->record->aliases = self->klp->aliases;
	record = hvp_record_encode(self->record);
	if (g_bytes_get_size(record) > record_room(self->patch))
		return hvp_error_set(
			error, HVP_ERROR_UNSUPPORTED,
			"the patch names more functions in the guest than in its file");
	if (!hvp_keeper_stop(self->transaction->keeper, RECORD_BUDGET_USEC, &stop, error))
		return false;
	bytes = g_bytes_get_data(record, &length);
	ok = hvp_guest_write(self->transaction->keeper, hvp_kernel_get_space(self->target->kernel),
			     self->klp->record, bytes, length, error);
	return hvp_keeper_resume(self->transaction->keeper, NULL, ok ? error : NULL) && ok;
}

static bool load(Apply *self, GError **error)
{
	HvpLoaderOrder order = { .patch = self->patch,
				 .record_bytes = record_room(self->patch),
				 .older = self->older_klp,
				 .replace = self->options->replace,
				 .pins = self->transaction->pins };
	HvpBorrow *borrow = hvp_transaction_borrow(self->transaction, self->options, error);
	GError *reason = NULL;
	bool ok;

	if (borrow == NULL)
		return false;
	hvp_options_progress(self->options, "loading the module", 0, 0);
	self->klp = hvp_loader_load(borrow, self->target, &order, self->transaction->journal,
				    hvp_deadline_in(LOAD_USEC), &reason);
	ok = self->klp != NULL && (!hvp_klp_patch_has_modules(self->klp) ||
				   hvp_klp_core_hasten(borrow, self->target->kernel,
						       hvp_deadline_in(LOAD_USEC), &reason));
	if (!hvp_borrow_release(borrow, &self->result->longest_pause_usec, ok ? &reason : NULL) ||
	    !ok) {
		g_propagate_error(error, reason);
		return false;
	}
	return true;
}

/*
 * The core is to have the module objects, and to be done with its own transition: a module that
 * came in the middle of that would run old code in some tasks.
 */
static bool check_core(void *user_data, GError **error)
{
	Apply *self = user_data;
	HvpKernel *kernel = self->target->kernel;
	HvpGva transition;
	HvpKlpCore core;

	if (!hvp_klp_patch_has_modules(self->klp))
		return true;
	if (!hvp_klp_core_read_transition(kernel, &transition, error) ||
	    !hvp_klp_core_find(kernel, self->klp->module, &core, error))
		return false;
	if (!core.enabled)
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "the guest's owner has disabled the patch");
	return transition.value != self->klp->address.value ||
	       hvp_error_set(error, HVP_ERROR_BUSY,
			     "the guest's livepatch core is not done with the modules to come");
}

static bool switch_over(Apply *self, GError **error)
{
	HvpSwitch job = { .target = self->target,
			  .keeper = self->transaction->keeper,
			  .options = self->options,
			  .forbidden = (const HvpForbidden *)(void *)self->forbidden->data,
			  .forbidden_count = self->forbidden->len,
			  .changes = self->changes,
			  .oracle = self->transaction->oracle,
			  .rule = self->rule,
			  .check_stopped = check_core,
			  .user_data = self };

	hvp_options_progress(self->options, "switching", 0, 0);
	return hvp_switch_run(&job, self->deadline, self->result, error);
}

/*
 * Nothing was switched: the module goes again, as after a cancelled transition. True: it turned out
 * that all was, and is finished.
 */
static bool back_out(Apply *self, GError **error)
{
	g_autoptr(GError) reason = NULL;
	bool usable = !g_error_matches(*error, HVP_ERROR, HVP_ERROR_VM_GONE) &&
		      !g_error_matches(*error, HVP_ERROR, HVP_ERROR_UNDONE) &&
		      !g_error_matches(*error, HVP_ERROR, HVP_ERROR_INCONSISTENT);

	if (usable && self->klp != NULL &&
	    !hvp_transaction_unload(self->transaction, self->options, self->klp, self->older_klp,
				    self->patch->name, self->klp->module,
				    &self->result->longest_pause_usec, &reason)) {
		/* Its journal stays open, so that recover unloads it. */
		g_prefix_error(error, "(the module is not unloaded: %s; run hvpatch recover) ",
			       reason->message);
		return false;
	}
	return hvp_transaction_abandon(g_steal_pointer(&self->transaction), self->options,
				       error) == HVP_TRANSACTION_FINISHED;
}

static bool run_post_patch(Apply *self, GError **error)
{
	return hvp_transaction_run_callbacks(self->transaction, self->options, self->klp,
					     HVP_KLP_POST_PATCH, self->older_klp,
					     &self->result->longest_pause_usec, error);
}

/* The patches that were replaced are out of force; none of their callbacks run. */
static bool put_replaced_away(Apply *self, GError **error)
{
	for (guint i = 0; self->klp->replaces && i < self->older->len; i++) {
		const HvpApplied *older = g_ptr_array_index(self->older, i);

		hvp_options_progress(self->options, "unloading what was replaced", 0, 0);
		if (hvp_transaction_unload(self->transaction, self->options, NULL, NULL,
					   older->name, older->module,
					   &self->result->longest_pause_usec, error))
			continue;
		g_prefix_error(error, "%s, replaced, is not unloaded (run hvpatch recover): ",
			       older->name);
		return false;
	}
	return true;
}

/* It has nothing to switch yet, but goes through a transition all the same: each task is seen. */
static bool wait_for_transition(Apply *self, GError **error)
{
	if (!hvp_klp_patch_has_modules(self->klp))
		return true;
	hvp_options_progress(self->options, "waiting for the guest's livepatch core", 0, 0);
	return hvp_core_wait_idle(self->transaction->keeper, self->target->kernel, self->options,
				  self->deadline, error);
}

static bool finish(Apply *self, GError **error)
{
	return run_post_patch(self, error) && put_replaced_away(self, error) &&
	       hvp_transaction_close(g_steal_pointer(&self->transaction), error);
}

/* Behind the switch a roll-back is one of a guest call, not of the patch: recovery goes on. */
static bool finish_or_recover(Apply *self, GError **error)
{
	GError *reason = NULL;

	if (finish(self, &reason))
		return true;
	if (hvp_transaction_is_undone(self->transaction, reason)) {
		g_clear_error(&reason);
		if (hvp_transaction_recover_undone(g_steal_pointer(&self->transaction),
						   self->target, self->options, NULL, &reason))
			return true;
	}
	g_propagate_prefixed_error(error, reason, "the patch is in force, but: ");
	return false;
}

static bool transact(Apply *self, GError **error)
{
	if (!load(self, error) || !hvp_options_check_wanted(self->options, error) ||
	    !wait_for_transition(self, error) || !plan(self, error) ||
	    !write_record(self, error) || !watch(self, error) || !switch_over(self, error)) {
		bool finished = back_out(self, error);

		if (finished)
			self->result->kind = HVP_RESULT_APPLIED;
		return finished;
	}
	/* In force: whatever fails from here on does not undo it. */
	self->result->kind = HVP_RESULT_APPLIED;
	hvp_options_progress(self->options, HVP_STEP_SWITCHED, 0, 0);
	return finish_or_recover(self, error);
}

static bool names_module(const HvpPatch *patch)
{
	for (guint i = 0; i < patch->object_count; i++)
		if (patch->objects[i].name != NULL)
			return true;
	return !patch->objects_known;
}

/* The guest's core takes one patch at a time: what it still does for an earlier one of ours. */
static bool wait_for_core(Apply *self, GError **error)
{
	if (!names_module(self->patch))
		return true;
	hvp_options_progress(self->options, "waiting for the guest's livepatch core", 0, 0);
	return hvp_core_wait_idle(NULL, self->target->kernel, self->options, self->deadline, error);
}

static bool make_rule(Apply *self, GError **error)
{
	if (self->options->manifest == NULL)
		return true;
	self->rule = hvp_kthread_rule_new(self->target, self->options->manifest, error);
	return self->rule != NULL;
}

static bool run(Apply *self, GError **error)
{
	g_autoptr(HvpCheck) check = NULL;

	/* What a killed one left would be in the way of the check already. */
	if (self->target->machine != NULL &&
	    !hvp_transaction_recover(self->target, self->options, NULL, error))
		return false;
	hvp_options_progress(self->options, "checking", 0, 0);
	check = hvp_check_run(self->target, self->patch, self->options, error);
	if (check == NULL || !hvp_check_verdict(check, error))
		return false;
	if (check->already_applied) {
		self->result->kind = HVP_RESULT_APPLIED;
		self->result->message = g_strdup_printf("%s is applied already", self->patch->name);
		return true;
	}
	if (!make_rule(self, error) || !wait_for_core(self, error) ||
	    !hvp_options_check_wanted(self->options, error))
		return false;
	self->transaction = hvp_transaction_open(self->target, "apply", self->patch->name,
						 self->patch->sha256, self->options, error);
	if (self->transaction == NULL)
		return false;
	if (read_older(self, error))
		return transact(self, error);
	/* Nothing was begun that could be finished. */
	hvp_transaction_abandon(g_steal_pointer(&self->transaction), self->options, error);
	return false;
}

HvpResult *hvp_apply(HvpTarget *target, const HvpPatch *patch, const HvpOptions *options,
		     GError **error)
{
	HvpResult *result = hvp_result_new();
	gint64 started = g_get_monotonic_time();
	Apply apply = { .target = target,
			.patch = patch,
			.options = options,
			.result = result,
			.deadline = hvp_deadline_in(options->timeout_usec) };
	GError *reason = NULL;

	result->patch = g_strdup(patch->name);
	result->sha256 = g_strdup(patch->sha256);
	apply_init(&apply);
	if (!run(&apply, &reason)) {
		if (result->kind != HVP_RESULT_APPLIED)
			result->kind = hvp_result_kind_of(reason);
		g_propagate_error(error, reason);
	}
	apply_clear(&apply);
	result->total_usec = g_get_monotonic_time() - started;
	return result;
}
