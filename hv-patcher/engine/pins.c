/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/pins.h"

struct HvpPins {
	HvpJournal *journal;
	GArray *modules; /* HvpGva of struct module */
};

HvpPins *hvp_pins_new(HvpJournal *journal)
{
	HvpPins *self = g_new0(HvpPins, 1);

	self->journal = journal;
	self->modules = g_array_new(FALSE, FALSE, sizeof(HvpGva));
	return self;
}

void hvp_pins_free(HvpPins *self)
{
	if (self == NULL)
		return;
	g_array_unref(self->modules);
	g_free(self);
}

void hvp_pins_take_over(HvpPins *self, const HvpJournalState *state, HvpModules *modules)
{
	for (guint i = 0; i < hvp_modules_count(modules); i++) {
		HvpGva module = hvp_modules_get(modules, i)->address;

		guint64 taken;

		/* A bool of C: the rest of RAX means nothing. */
		if (hvp_journal_state_get_result(state, "pin", module.value, &taken) &&
		    (taken & 0xff) != 0 &&
		    !hvp_journal_state_has_begun(state, "unpin", module.value))
			g_array_append_val(self->modules, module);
	}
}

guint hvp_pins_count(const HvpPins *self)
{
	return self->modules->len;
}

bool hvp_pins_has(const HvpPins *self, const HvpModule *module)
{
	for (guint i = 0; i < self->modules->len; i++)
		if (g_array_index(self->modules, HvpGva, i).value == module->address.value)
			return true;
	return false;
}

bool hvp_pins_has_object(const HvpPins *self, HvpModules *modules, const HvpKlpObject *object,
			 HvpModule **ret_module)
{
	HvpModule *module = object->name ? hvp_modules_find(modules, object->name) : NULL;

	if (ret_module != NULL)
		*ret_module = module;
	return object->name == NULL || (module != NULL && hvp_pins_has(self, module));
}

static bool take(HvpPins *self, HvpBorrow *borrow, const HvpModule *module, HvpDeadline deadline,
		 GError **error)
{
	guint64 argument = module->address.value, taken;

	if (!hvp_journal_step(self->journal, "pin", module->address.value, error) ||
	    !hvp_borrow_call_name(borrow, "try_module_get", &argument, 1, deadline, &taken, error))
		return false;
	if ((taken & 0xff) == 0)
		return hvp_error_set(error, HVP_ERROR_BUSY, "module %s is being unloaded",
				     module->name);
	g_array_append_val(self->modules, module->address);
	return true;
}

bool hvp_pins_take_objects(HvpPins *self, HvpBorrow *borrow, HvpTarget *target,
			   const HvpKlpPatch *patch, HvpDeadline deadline, GError **error)
{
	for (guint i = 0; i < hvp_klp_patch_count(patch); i++) {
		const char *name = hvp_klp_patch_get(patch, i)->name;
		HvpModule *module = name ? hvp_modules_find(target->modules, name) : NULL;

		if (module == NULL || hvp_pins_has(self, module))
			continue;
		if (!hvp_modules_is_live(target->modules, module))
			return hvp_error_set(error, HVP_ERROR_BUSY,
					     "module %s is being loaded or unloaded", name);
		if (!take(self, borrow, module, deadline, error))
			return false;
	}
	return true;
}

bool hvp_pins_drop(HvpPins *self, HvpBorrow *borrow, HvpDeadline deadline, GError **error)
{
	while (self->modules->len > 0) {
		guint64 module = g_array_index(self->modules, HvpGva, self->modules->len - 1).value;
		guint64 ignored;

		if (!hvp_journal_step(self->journal, "unpin", module, error) ||
		    !hvp_borrow_call_name(borrow, "module_put", &module, 1, deadline, &ignored,
					  error))
			return false;
		g_array_set_size(self->modules, self->modules->len - 1);
	}
	return true;
}
