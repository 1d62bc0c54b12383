/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/leftovers.h"

#include "engine/applied.h"
#include "engine/klp-core.h"
#include "engine/record.h"

static void leftover_clear(gpointer data)
{
	HvpLeftover *leftover = data;

	hvp_klp_patch_free(leftover->klp);
	g_clear_pointer(&leftover->older, g_ptr_array_unref);
}

typedef enum { NO_RECORD, NOT_TO_BE_TOUCHED, OUT_OF_FORCE } Standing;

/*
 * What @module is by its record, as far as its text agrees. BUSY where it is not in force by the
 * one, and the other does not tell at the moment: to leave it out would be to leave it for ever,
 * for nothing but the journal is followed by its unloading.
 */
static bool judge(HvpTarget *target, const HvpModule *module, Standing *ret_standing,
		  HvpGva *ret_klp, GError **error)
{
	g_autoptr(GError) reason = NULL;
	g_autoptr(HvpRecord) record = hvp_record_read(target->kernel, module, &reason);
	g_autofree char *why = NULL;
	HvpRecordState state;

	*ret_standing = NO_RECORD;
	if (record == NULL) {
		if (g_error_matches(reason, HVP_ERROR, HVP_ERROR_NOT_FOUND) ||
		    g_error_matches(reason, HVP_ERROR, HVP_ERROR_BAD_DATA))
			return true;
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "whether module %s is in force cannot be read: %s: try again",
				     module->name, reason->message);
	}
	state = hvp_record_verify(record, target->kernel, target->modules, module, &why);
	/* One that is in force stays, whatever the guest does at its sites. */
	if (!record->in_force && state == HVP_RECORD_BUSY)
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "module %s is to be unloaded, but whether its code is reached "
				     "cannot be told (%s: the guest has a breakpoint there, as a "
				     "kprobe has): try again",
				     module->name, why);
	*ret_standing = state == HVP_RECORD_ORIGINAL ? OUT_OF_FORCE : NOT_TO_BE_TOUCHED;
	*ret_klp = record->klp_patch;
	return true;
}

/*
 * Without a record nobody knows whether the text jumps to @module, and whether it is ours: before
 * the switch, with the journal's buffer for one, it is and the text does not.
 */
static bool is_prepared(const HvpJournalState *state, const HvpModule *module)
{
	guint64 buffer;

	return !state->committed && hvp_journal_state_find(state, "record", &buffer) &&
	       buffer != 0 && module->args.value == buffer;
}

static void add(GArray *leftovers, HvpTarget *target, const HvpJournalState *state,
		const HvpModule *module, HvpGva klp)
{
	HvpLeftover leftover = { .module = *module };

	if (klp.value != 0)
		leftover.klp = hvp_klp_patch_read_own(target->kernel, module, klp, NULL);
	if (leftover.klp != NULL)
		leftover.older = hvp_applied_read_older(target, module->address, state);
	g_array_append_val(leftovers, leftover);
}

/* The module that the journal is about, if it is in the guest, ours and not in force. */
static bool add_own(GArray *leftovers, HvpTarget *target, const HvpJournalState *state,
		    GError **error)
{
	const char *name = g_hash_table_lookup(state->begin, "patch");
	const HvpModule *module = name ? hvp_modules_find(target->modules, name) : NULL;
	Standing standing;
	HvpKlpCore core;
	HvpGva klp = { 0 };

	if (module == NULL)
		return true;
	if (!judge(target, module, &standing, &klp, error))
		return false;
	if (standing == NO_RECORD) {
		if (!is_prepared(state, module))
			return true;
		if (!hvp_journal_state_find(state, "klp", &klp.value) &&
		    hvp_klp_core_find(target->kernel, module->address, &core, NULL))
			klp = core.patch;
	}
	if (standing != NOT_TO_BE_TOUCHED)
		add(leftovers, target, state, module, klp);
	return true;
}

/* Those in whose place it came; their callbacks are not due. */
static bool add_replaced(GArray *leftovers, HvpTarget *target, const HvpJournalState *state,
			 GError **error)
{
	for (guint i = 0; i < hvp_modules_count(target->modules); i++) {
		const HvpModule *module = hvp_modules_get(target->modules, i);
		Standing standing;
		HvpGva ignored;

		if (!hvp_journal_state_has(state, "replaced", module->address.value))
			continue;
		if (!judge(target, module, &standing, &ignored, error))
			return false;
		if (standing == OUT_OF_FORCE)
			add(leftovers, target, state, module, hvp_gva(0));
	}
	return true;
}

GArray *hvp_leftovers_find(HvpTarget *target, const HvpJournalState *state, GError **error)
{
	g_autoptr(GArray) leftovers = g_array_new(FALSE, TRUE, sizeof(HvpLeftover));

	g_array_set_clear_func(leftovers, leftover_clear);
	if (!add_own(leftovers, target, state, error) ||
	    !add_replaced(leftovers, target, state, error))
		return NULL;
	return g_steal_pointer(&leftovers);
}
