/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/changes.h"

#include "base/bytes.h"

#include <string.h>

static void module_clear(gpointer data)
{
	g_free(((HvpExpectedModule *)data)->name);
}

HvpChanges *hvp_changes_new(void)
{
	HvpChanges *self = g_new0(HvpChanges, 1);

	self->text = g_array_new(FALSE, TRUE, sizeof(HvpTextChange));
	self->data = g_array_new(FALSE, TRUE, sizeof(HvpSite));
	self->modules = g_array_new(FALSE, TRUE, sizeof(HvpExpectedModule));
	g_array_set_clear_func(self->modules, module_clear);
	self->released = g_array_new(FALSE, TRUE, sizeof(HvpGva));
	return self;
}

void hvp_changes_free(HvpChanges *self)
{
	if (self == NULL)
		return;
	g_array_unref(self->text);
	g_array_unref(self->data);
	g_array_unref(self->modules);
	g_array_unref(self->released);
	g_free(self);
}

void hvp_changes_add_text(HvpChanges *self, const HvpSite *site, HvpGva slot_record)
{
	HvpTextChange change = { *site, slot_record };

	for (guint i = 0; i < self->text->len; i++) {
		HvpTextChange *known = &g_array_index(self->text, HvpTextChange, i);

		if (known->site.site.value == site->site.value &&
		    known->site.length_bytes == site->length_bytes) {
			memcpy(known->site.new_bytes, site->new_bytes, site->length_bytes);
			known->slot_record = slot_record;
			return;
		}
	}
	g_array_append_val(self->text, change);
}

void hvp_changes_overlay(const HvpChanges *self, HvpGva start, guint8 *code, gsize length_bytes)
{
	for (guint i = 0; i < self->text->len; i++) {
		const HvpSite *site = &g_array_index(self->text, HvpTextChange, i).site;
		guint64 at = site->site.value - start.value;

		/* One that reaches past the copy is another function's. */
		if (site->site.value >= start.value && at <= length_bytes &&
		    site->length_bytes <= length_bytes - at)
			memcpy(code + at, site->new_bytes, site->length_bytes);
	}
}

bool hvp_changes_is_released(const HvpChanges *self, HvpGva slot)
{
	for (guint i = 0; i < self->released->len; i++)
		if (g_array_index(self->released, HvpGva, i).value == slot.value)
			return true;
	return false;
}

bool hvp_changes_add_data(HvpChanges *self, HvpKernel *kernel, HvpGva address, gsize length_bytes,
			  guint64 value, GError **error)
{
	HvpSite site = { .site = address, .length_bytes = (guint)length_bytes };
	guint8 bytes[8];

	g_assert(length_bytes >= 1 && length_bytes <= sizeof bytes);
	hvp_store_u64(bytes, value);
	memcpy(site.new_bytes, bytes, length_bytes);
	if (!hvp_address_space_read(hvp_kernel_get_space(kernel), address, site.old_bytes,
				    length_bytes, error))
		return false;
	g_array_append_val(self->data, site);
	return true;
}

bool hvp_changes_add_member(HvpChanges *self, HvpKernel *kernel, HvpGva base, HvpLayoutItem item,
			    gsize length_bytes, guint64 value, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);

	return hvp_layout_require(layout, item, error) &&
	       hvp_changes_add_data(self, kernel, hvp_gva_add(base, hvp_layout_get(layout, item)),
				    length_bytes, value, error);
}

HvpModule *hvp_changes_expect_module(HvpChanges *self, HvpModules *modules, const char *name)
{
	HvpModule *module = hvp_modules_find(modules, name);
	HvpExpectedModule expected = { g_strdup(name), module ? module->address : hvp_gva(0) };

	g_array_append_val(self->modules, expected);
	return module;
}

bool hvp_changes_check_modules(const HvpChanges *self, HvpModules *modules, GError **error)
{
	for (guint i = 0; i < self->modules->len; i++) {
		const HvpExpectedModule *expected = &g_array_index(self->modules, HvpExpectedModule,
								   i);
		const HvpModule *module = hvp_modules_find(modules, expected->name);

		if ((module ? module->address.value : 0) != expected->module.value)
			return hvp_error_set(error, HVP_ERROR_CONFLICT,
					     "the guest has %s module %s meanwhile: try again",
					     module ? "loaded" : "unloaded", expected->name);
	}
	return true;
}

/* The sites that are still there get their old bytes. */
static bool retire_sites(HvpChanges *self, HvpTarget *target, const HvpModule *module,
			 const HvpRecord *record, GError **error)
{
	for (guint i = 0; i < record->sites->len; i++) {
		const HvpRecordSite *site = &g_array_index(record->sites, HvpRecordSite, i);
		HvpSite change = site->site;
		HvpRecordState state;

		if (site->object != NULL)
			(void)hvp_changes_expect_module(self, target->modules, site->object);
		state = hvp_record_verify_site(record, i, target->kernel, target->modules, module);
		if (state == HVP_RECORD_GONE)
			continue;
		/* One that is left as it is would lead into text that will be freed. */
		if (state != HVP_RECORD_SWITCHED)
			return hvp_error_set(error,
					     state == HVP_RECORD_BUSY ? HVP_ERROR_CONFLICT
								      : HVP_ERROR_TAMPERED,
					     "%s at 0x%" G_GINT64_MODIFIER "x is %s", site->name,
					     site->site.site.value, hvp_record_state_name(state));
		memcpy(change.old_bytes, site->site.new_bytes, sizeof change.old_bytes);
		memcpy(change.new_bytes, site->site.old_bytes, sizeof change.new_bytes);
		hvp_changes_add_text(self, &change, hvp_gva(0));
	}
	return true;
}

/*
 * The core keeps redirecting the function until it has let go of the patch. Until then the new
 * one leads to where the old one goes on behind its slot: at both places nothing has been pushed.
 */
static bool detour(HvpChanges *self, HvpTarget *target, const HvpFtrace *ftrace,
		   HvpTextSites *sites, HvpModule *object, HvpModule *patch,
		   const HvpKlpFunction *function, GError **error)
{
	g_auto(HvpFunctionFacts) old = { 0 }, new = { 0 };
	HvpGva behind;
	HvpSite site;

	if (!hvp_plan_gather(target->kernel, target->modules, object, ftrace, function->name,
			     function->position, &old, error) ||
	    !hvp_plan_gather_at(target->kernel, target->modules, patch, ftrace,
				function->new_function, &new, error))
		return false;
	behind = hvp_gva_add(old.slot.ip, HVP_FTRACE_SLOT_BYTES);
	if (!hvp_plan_site(&new, sites, hvp_kernel_get_text(target->kernel), &site, error) ||
	    !hvp_plan_jump(&site, behind, error))
		return false;
	hvp_changes_add_text(self, &site, hvp_gva(0));
	g_array_append_val(self->released, old.slot.ip);
	return true;
}

/* An object that the core patched when its module came, after we had switched the rest. */
static bool retire_patched(HvpChanges *self, HvpTarget *target, const HvpFtrace *ftrace,
			   HvpTextSites *sites, HvpModule *patch, const HvpKlpObject *object,
			   GError **error)
{
	HvpModule *module = hvp_changes_expect_module(self, target->modules, object->name);

	if (module == NULL)
		return hvp_error_set(error, HVP_ERROR_BUSY, "module %s comes or goes",
				     object->name);
	for (guint i = 0; i < object->functions->len; i++)
		if (!detour(self, target, ftrace, sites, module, patch,
			    &g_array_index(object->functions, HvpKlpFunction, i), error))
			return false;
	return hvp_changes_add_member(self, target->kernel, object->address,
				      HVP_AT_KLP_OBJECT_PRE_UNPATCH, 8, 0, error) &&
	       hvp_changes_add_member(self, target->kernel, object->address, HVP_AT_KLP_UNPATCH_DUE,
				      1, 0, error);
}

/* Under its other name no module is patched any more. */
static bool hide_object(HvpChanges *self, HvpTarget *target, const HvpKlpObject *object,
			HvpGva alias, GError **error)
{
	return hvp_changes_add_member(self, target->kernel, object->address, HVP_AT_KLP_OBJECT_NAME,
				      8, alias.value, error) &&
	       hvp_changes_add_member(self, target->kernel, object->address, HVP_AT_KLP_OBJECT_MOD,
				      8, 0, error) &&
	       hvp_changes_add_member(self, target->kernel, object->address, HVP_AT_KLP_UNPATCH_DUE,
				      1, 0, error);
}

static bool retire_core(HvpChanges *self, HvpTarget *target, const HvpFtrace *ftrace,
			HvpTextSites *sites, HvpModule *module, const HvpApplied *applied,
			GError **error)
{
	if (applied->klp == NULL)
		return hvp_error_set(error, HVP_ERROR_TAMPERED,
				     "the guest's klp_patch of %s cannot be read", applied->name);
	if (!hvp_text_sites_add_module(sites, target->kernel, module, error))
		return false;
	for (guint i = 0; i < hvp_klp_patch_count(applied->klp); i++) {
		const HvpKlpObject *object = hvp_klp_patch_get(applied->klp, i);

		if (object->name == NULL)
			continue;
		if (object->patched
			    ? !retire_patched(self, target, ftrace, sites, module, object, error)
			    : !hide_object(self, target, object,
					   hvp_klp_core_alias(applied->record->aliases, i), error))
			return false;
	}
	return true;
}

bool hvp_changes_retire(HvpChanges *self, HvpTarget *target, const HvpFtrace *ftrace,
			HvpTextSites *sites, const HvpApplied *applied, GError **error)
{
	HvpModule *module = hvp_modules_find(target->modules, applied->name);
	HvpSite mark;

	if (module == NULL)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND, "module %s is gone",
				     applied->name);
	if (!retire_sites(self, target, module, applied->record, error))
		return false;
	if (applied->core.patch.value != 0 &&
	    !retire_core(self, target, ftrace, sites, module, applied, error)) {
		g_prefix_error(error, "taking %s out of force: ", applied->name);
		return false;
	}
	hvp_record_plan_state(applied->args, false, &mark);
	g_array_append_val(self->data, mark);
	return true;
}

static bool enforce_object(HvpChanges *self, HvpTarget *target, const HvpKlpObject *object,
			   GError **error)
{
	HvpKernel *kernel = target->kernel;
	const HvpModule *module = hvp_changes_expect_module(self, target->modules, object->name);

	if (!hvp_changes_add_member(self, kernel, object->address, HVP_AT_KLP_OBJECT_NAME, 8,
				    object->name_address.value, error))
		return false;
	return module == NULL ||
	       (hvp_changes_add_member(self, kernel, object->address, HVP_AT_KLP_OBJECT_MOD, 8,
				       module->address.value, error) &&
		hvp_changes_add_member(self, kernel, object->address, HVP_AT_KLP_UNPATCH_DUE, 1, 1,
				       error));
}

bool hvp_changes_enforce(HvpChanges *self, HvpTarget *target, const HvpKlpPatch *patch,
			 GError **error)
{
	HvpSite mark;

	for (guint i = 0; i < hvp_klp_patch_count(patch); i++)
		if (hvp_klp_patch_get(patch, i)->name != NULL &&
		    !enforce_object(self, target, hvp_klp_patch_get(patch, i), error))
			return false;
	hvp_record_plan_state(patch->record, true, &mark);
	g_array_append_val(self->data, mark);
	return true;
}
