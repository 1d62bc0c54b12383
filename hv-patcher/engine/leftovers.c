/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/leftovers.h"

#include "engine/klp-core.h"
#include "engine/record.h"

static void leftover_clear(gpointer data)
{
	hvp_klp_patch_free(((HvpLeftover *)data)->klp);
}

/* Whether @module has a record of ours that says, as its text does, that it is not in force. */
static bool is_out_of_force(HvpTarget *target, const HvpModule *module, HvpGva *ret_klp)
{
	g_autoptr(HvpRecord) record = hvp_record_read(target->kernel, module, NULL);

	if (record == NULL || hvp_record_verify(record, target->kernel, target->modules, module,
						NULL) != HVP_RECORD_ORIGINAL)
		return false;
	*ret_klp = record->klp_patch;
	return true;
}

static bool has_record(HvpTarget *target, const HvpModule *module)
{
	g_autoptr(HvpRecord) record = hvp_record_read(target->kernel, module, NULL);

	return record != NULL;
}

/*
 * The module that the journal is about, if it is in the guest, ours and not in force: it has a
 * record, or the buffer for one.
 */
static bool find_own(HvpTarget *target, const HvpJournalState *state, HvpLeftover *ret_leftover)
{
	const char *name = g_hash_table_lookup(state->begin, "patch");
	HvpModule *module = name ? hvp_modules_find(target->modules, name) : NULL;
	HvpKlpCore core;
	HvpGva klp = { 0 };
	guint64 buffer;

	if (module == NULL)
		return false;
	if (!is_out_of_force(target, module, &klp)) {
		/* Without a record nobody knows whether the text jumps there: only before the
		 * switch. */
		if (state->committed || !hvp_journal_state_find(state, "record", &buffer) ||
		    buffer == 0 || module->args.value != buffer || has_record(target, module))
			return false;
		if (!hvp_journal_state_find(state, "klp", &klp.value) &&
		    hvp_klp_core_find(target->kernel, module->address, &core, NULL))
			klp = core.patch;
	}
	ret_leftover->module = *module;
	if (klp.value != 0)
		ret_leftover->klp = hvp_klp_patch_read_own(target->kernel, module, klp, NULL);
	return true;
}

GArray *hvp_leftovers_find(HvpTarget *target, const HvpJournalState *state)
{
	GArray *leftovers = g_array_new(FALSE, TRUE, sizeof(HvpLeftover));
	HvpModules *modules = target->modules;
	HvpLeftover own = { 0 };
	HvpGva ignored;

	g_array_set_clear_func(leftovers, leftover_clear);
	if (find_own(target, state, &own))
		g_array_append_val(leftovers, own);
	for (guint i = 0; i < hvp_modules_count(modules); i++) {
		const HvpModule *module = hvp_modules_get(modules, i);
		HvpLeftover replaced = { .module = *module };

		if (hvp_journal_state_has(state, "replaced", module->address.value) &&
		    is_out_of_force(target, module, &ignored))
			g_array_append_val(leftovers, replaced);
	}
	return leftovers;
}
