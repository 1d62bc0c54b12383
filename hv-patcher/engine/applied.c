/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/applied.h"

#include "base/text.h"

#define MAX_APPLIED 128U
#define MAX_NAMED 8U
#define MAX_NAME_BYTES 64

void hvp_applied_free(HvpApplied *self)
{
	if (self == NULL)
		return;
	g_free(self->name);
	hvp_record_free(self->record);
	g_free(self->why);
	hvp_klp_patch_free(self->klp);
	g_free(self);
}

static HvpApplied *applied_new(const HvpModule *module, HvpRecord *record)
{
	HvpApplied *self = g_new0(HvpApplied, 1);

	self->name = g_strdup(module->name);
	self->module = module->address;
	self->args = module->args;
	self->text = module->text;
	self->init_text = module->init_text;
	self->record = record;
	return self;
}

static HvpApplied *read_module(HvpTarget *target, const HvpModule *module, GError **error)
{
	HvpRecord *record = hvp_record_read(target->kernel, module, error);
	g_autoptr(HvpApplied) self = NULL;

	if (record == NULL)
		return NULL;
	self = applied_new(module, record);
	self->state = hvp_record_verify(record, target->kernel, target->modules, module,
					&self->why);
	self->klp = hvp_klp_patch_read_own(target->kernel, module, record->klp_patch, NULL);
	if (!hvp_klp_core_find(target->kernel, module->address, &self->core, error))
		return NULL;
	return g_steal_pointer(&self);
}

/* "a, b and 3 more"; the caller's. */
static char *join_names(const GPtrArray *patches)
{
	GString *names = g_string_new(NULL);

	for (guint i = 0; i < MIN(patches->len, MAX_NAMED); i++) {
		const HvpApplied *patch = g_ptr_array_index(patches, i);
		g_autofree char *name = hvp_text_escape(patch->name, HVP_TEXT_TERMINATED,
							MAX_NAME_BYTES);

		g_string_append_printf(names, "%s%s", i > 0 ? ", " : "", name);
	}
	if (patches->len > MAX_NAMED)
		g_string_append_printf(names, " and %u more", patches->len - MAX_NAMED);
	return g_string_free(names, FALSE);
}

/* And what is instead. @module: of that name, but none of our patches; NULL. */
static void set_not_applied(HvpTarget *target, const char *name, const HvpModule *module,
			    GError **error)
{
	g_autofree char *what = module ? g_strdup_printf(
						 "module %s is no patch that hvpatch applied", name)
				       : g_strdup_printf("no patch %s is applied", name);
	g_autoptr(GPtrArray) patches = hvp_applied_read_all(target, NULL);
	g_autofree char *names = patches ? join_names(patches) : NULL;

	if (patches == NULL)
		hvp_error_set(error, HVP_ERROR_NOT_FOUND, "%s", what);
	else if (patches->len == 0)
		hvp_error_set(error, HVP_ERROR_NOT_FOUND, "%s; no other is applied", what);
	else
		hvp_error_set(error, HVP_ERROR_NOT_FOUND, "%s; applied: %s", what, names);
}

HvpApplied *hvp_applied_read(HvpTarget *target, const char *name, GError **error)
{
	g_autoptr(GError) reason = NULL;
	const HvpModule *module;
	HvpApplied *self;

	if (!hvp_target_refresh_modules(target, error))
		return NULL;
	module = hvp_modules_find(target->modules, name);
	self = module ? read_module(target, module, &reason) : NULL;
	if (self == NULL &&
	    (module == NULL || g_error_matches(reason, HVP_ERROR, HVP_ERROR_NOT_FOUND)))
		set_not_applied(target, name, module, error);
	else if (self == NULL)
		g_propagate_error(error, g_steal_pointer(&reason));
	return self;
}

GPtrArray *hvp_applied_read_all(HvpTarget *target, GError **error)
{
	g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify)hvp_applied_free);

	if (!hvp_target_refresh_modules(target, error))
		return NULL;
	/* The guest's list starts with the youngest. */
	for (guint i = hvp_modules_count(target->modules); i-- > 0;) {
		const HvpModule *module = hvp_modules_get(target->modules, i);
		g_autoptr(GError) reason = NULL;
		HvpApplied *applied = read_module(target, module, &reason);

		if (applied == NULL) {
			if (g_error_matches(reason, HVP_ERROR, HVP_ERROR_NOT_FOUND))
				continue;
			applied = applied_new(module, hvp_record_new(module->name, ""));
			applied->state = HVP_RECORD_TAMPERED;
			applied->why = g_strdup(reason->message);
		}
		g_ptr_array_add(all, applied);
		if (all->len > MAX_APPLIED) {
			hvp_error_set(error, HVP_ERROR_BAD_DATA,
				      "the guest claims more than %u patches of ours", MAX_APPLIED);
			return NULL;
		}
	}
	return g_steal_pointer(&all);
}

static bool is_older(const HvpApplied *self, const HvpJournalState *state)
{
	return self->state == HVP_RECORD_SWITCHED ||
	       (state != NULL && hvp_journal_state_has(state, "replaced", self->module.value));
}

GPtrArray *hvp_applied_read_older(HvpTarget *target, HvpGva module, const HvpJournalState *state)
{
	GPtrArray *older = g_ptr_array_new_with_free_func((GDestroyNotify)hvp_klp_patch_free);

	/* The guest's list starts with the youngest. */
	for (guint i = hvp_modules_count(target->modules); i-- > 0;) {
		const HvpModule *other = hvp_modules_get(target->modules, i);
		g_autoptr(HvpApplied) applied = NULL;

		if (other->address.value == module.value)
			break;
		applied = read_module(target, other, NULL);
		if (applied != NULL && applied->klp != NULL && is_older(applied, state))
			g_ptr_array_add(older, g_steal_pointer(&applied->klp));
	}
	return older;
}

const char *hvp_applied_coverage_name(HvpCoverage coverage)
{
	static const char *const names[] = { "switch", "core", "waiting", "none" };

	return (guint)coverage < G_N_ELEMENTS(names) ? names[coverage] : "none";
}

HvpCoverage hvp_applied_coverage(const HvpApplied *self, HvpTarget *target,
				 const HvpKlpObject *object)
{
	HvpModule *module = hvp_modules_find(target->modules, self->name);

	for (guint i = 0; module != NULL && i < self->record->sites->len; i++) {
		const HvpRecordSite *site = &g_array_index(self->record->sites, HvpRecordSite, i);

		if (g_strcmp0(site->object, object->name) == 0 &&
		    hvp_record_verify_site(self->record, i, target->kernel, target->modules,
					   module) == HVP_RECORD_SWITCHED)
			return HVP_COVERAGE_SWITCH;
	}
	/* Callbacks alone need no site. */
	if (object->name == NULL)
		return object->functions->len == 0 ? HVP_COVERAGE_SWITCH : HVP_COVERAGE_NONE;
	if (object->patched)
		return HVP_COVERAGE_CORE;
	if (hvp_modules_find(target->modules, object->name) != NULL || !self->core.enabled)
		return HVP_COVERAGE_NONE;
	return HVP_COVERAGE_WAITING;
}

static bool klp_has_function(const HvpKlpPatch *klp, const char *object, const char *name)
{
	for (guint i = 0; i < hvp_klp_patch_count(klp); i++) {
		const HvpKlpObject *found = hvp_klp_patch_get(klp, i);

		for (guint j = 0; j < found->functions->len; j++)
			if (g_strcmp0(found->name, object) == 0 &&
			    g_strcmp0(g_array_index(found->functions, HvpKlpFunction, j).name,
				      name) == 0)
				return true;
	}
	return false;
}

bool hvp_applied_has_function(const HvpApplied *self, const char *object, const char *name)
{
	for (guint i = 0; i < self->record->sites->len; i++) {
		const HvpRecordSite *site = &g_array_index(self->record->sites, HvpRecordSite, i);

		if (g_strcmp0(site->object, object) == 0 && g_strcmp0(site->name, name) == 0)
			return true;
	}
	return self->klp != NULL && klp_has_function(self->klp, object, name);
}
