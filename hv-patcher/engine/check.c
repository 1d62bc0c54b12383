/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/check.h"

#include "engine/cold.h"
#include "engine/kthread-rule.h"

#include <string.h>

#define MAX_NAMED 8U

/* What is a matter of judgement. All other items say what cannot work. */
const char *const hvp_check_acceptable_items[] = { "modules-disabled", "guard", "old-cold", NULL };

static void item_clear(gpointer data)
{
	g_free(((HvpCheckItem *)data)->why);
}

static void function_clear(gpointer data)
{
	hvp_check_function_clear(data);
}

void hvp_check_function_clear(HvpCheckFunction *self)
{
	hvp_plan_clear_facts(&self->facts);
}

void hvp_check_free(HvpCheck *self)
{
	if (self == NULL)
		return;
	g_array_unref(self->items);
	g_array_unref(self->functions);
	g_free(self);
}

/* What the items of one check share. */
typedef struct {
	HvpCheck *check;
	HvpTarget *target;
	const HvpPatch *patch;
	const HvpOptions *options;
	HvpPatchTristate replace; /* as the operator, or else the file has it */
	HvpPolicy policy;
	GPtrArray *applied; /* HvpApplied: those in the guest */
	HvpChanges *pending;
	HvpCheckPlaces places;
	bool can_look; /* places are read */
} Context;

static void add_item(Context *context, const char *name, bool ok, HvpErrorCode code, char *why)
{
	HvpCheckItem item = { .item = name, .ok = ok, .code = code, .why = why };

	if (!ok && context->options->accepted != NULL)
		item.accepted = g_strv_contains(context->options->accepted, name);
	g_array_append_val(context->check->items, item);
}

static void add_ok(Context *context, const char *name)
{
	add_item(context, name, true, HVP_ERROR_UNSUPPORTED, NULL);
}

static void add_refusal(Context *context, const char *name, HvpErrorCode code, const char *why)
{
	add_item(context, name, false, code, g_strdup(why));
}

/* Takes @reason. */
static void add_error(Context *context, const char *name, GError *reason)
{
	add_item(context, name, false, (HvpErrorCode)reason->code, g_strdup(reason->message));
	g_error_free(reason);
}

static void check_kernel(Context *context)
{
	if (!context->policy.can_load_modules)
		add_refusal(context, "kernel", HVP_ERROR_UNSUPPORTED,
			    "the guest kernel is built without module support");
	else if (!context->policy.can_livepatch)
		add_refusal(context, "kernel", HVP_ERROR_UNSUPPORTED,
			    "the guest kernel is built without livepatch support");
	else
		add_ok(context, "kernel");
}

/* As the guest's loader compares them: with symbol versions, what is behind the release. */
static void check_vermagic(Context *context)
{
	const char *theirs = context->policy.vermagic, *ours = context->patch->vermagic;
	const char *release = hvp_kernel_get_release(context->target->kernel);
	gsize length = strlen(release);

	if (strncmp(ours, release, length) != 0 || ours[length] != ' ')
		add_item(context, "vermagic", false, HVP_ERROR_UNSUPPORTED,
			 g_strdup_printf("the patch is for '%s', the guest runs '%s'", ours,
					 release));
	else if (theirs[0] != 0 && strcmp(theirs, ours) != 0)
		add_item(context, "vermagic", false, HVP_ERROR_UNSUPPORTED,
			 g_strdup_printf("the patch has '%s', the guest wants '%s'", ours, theirs));
	else
		add_ok(context, "vermagic");
}

static void check_policy(Context *context)
{
	const HvpPolicy *policy = &context->policy;

	if (policy->modules_disabled)
		add_refusal(context, "modules-disabled", HVP_ERROR_PERMISSION,
			    "the guest's owner has switched module loading off "
			    "(kernel.modules_disabled)");
	else
		add_ok(context, "modules-disabled");
	if (policy->signature_enforced && !context->patch->is_signed)
		add_refusal(context, "signature", HVP_ERROR_PERMISSION,
			    "the guest loads signed modules only, and the patch is not signed");
	else
		add_ok(context, "signature");
	if (policy->guard[0] != 0)
		add_item(
			context, "guard", false, HVP_ERROR_PERMISSION,
			g_strdup_printf("module %s guards the guest's kernel text", policy->guard));
	else if (policy->loadpin)
		add_refusal(context, "guard", HVP_ERROR_PERMISSION,
			    "the guest pins module loading to a file system (loadpin)");
	else if (policy->ima)
		add_refusal(context, "guard", HVP_ERROR_PERMISSION,
			    "the guest's IMA appraises modules, and refuses those without a file");
	else
		add_ok(context, "guard");
}

static bool symbol_exists(Context *context, const char *name)
{
	return hvp_kernel_has_symbol(context->target->kernel, name) ||
	       hvp_modules_has_symbol(context->target->modules, name);
}

static void note_missing(GString *missing, guint *count, const char *name)
{
	if ((*count)++ < MAX_NAMED)
		g_string_append_printf(missing, "%s%s", missing->len ? ", " : "", name);
}

static bool has_klp_symbol(Context *context, const HvpPatchKlpSymbol *symbol)
{
	HvpModules *modules = context->target->modules;
	HvpModule *module;

	if (symbol->object == NULL)
		return hvp_kernel_has_symbol_at(context->target->kernel, symbol->name,
						symbol->sympos);
	/* Of a module that is not there nobody knows yet. */
	module = hvp_modules_find(modules, symbol->object);
	return module == NULL || hvp_modules_module_has_symbol(modules, module, symbol->name);
}

/* Symbols that the guest's loader will have to find. */
static void check_symbols(Context *context)
{
	const HvpPatch *patch = context->patch;
	g_autoptr(GString) missing = g_string_new(NULL);
	guint count = 0;

	for (guint i = 0; i < patch->undefined_count; i++)
		if (!patch->undefined[i].weak && !symbol_exists(context, patch->undefined[i].name))
			note_missing(missing, &count, patch->undefined[i].name);
	for (guint i = 0; i < patch->klp_symbol_count; i++)
		if (!has_klp_symbol(context, &patch->klp_symbols[i]))
			note_missing(missing, &count, patch->klp_symbols[i].name);
	if (count > 0)
		add_item(context, "symbols", false, HVP_ERROR_UNSUPPORTED,
			 g_strdup_printf("%u symbols are missing or ambiguous in the guest: %s%s",
					 count, missing->str, count > MAX_NAMED ? ", ..." : ""));
	else
		add_ok(context, "symbols");
}

/* What it takes to give a patch's module objects to the guest's own livepatch core. */
static const char *missing_for_modules(HvpKernel *kernel)
{
	static const char *const needed[] = { "klp_patches", "klp_transition_patch",
					      "klp_apply_section_relocs", "enabled_kobj_attr" };

	for (guint i = 0; i < G_N_ELEMENTS(needed); i++)
		if (!hvp_kernel_has_symbol(kernel, needed[i]))
			return needed[i];
	return NULL;
}

/* Modules that the patch changes: each is there, or will be patched when it comes. */
static void check_objects(Context *context)
{
	const char *missing = missing_for_modules(context->target->kernel);
	g_autoptr(GString) absent = g_string_new(NULL);
	guint count = 0;

	for (guint i = 0; i < context->patch->object_count; i++) {
		const char *name = context->patch->objects[i].name;
		const HvpModule *module = name ? hvp_modules_find(context->target->modules, name)
					       : NULL;

		if (name == NULL)
			continue;
		if (missing != NULL) {
			add_item(context, "objects", false, HVP_ERROR_UNSUPPORTED,
				 g_strdup_printf("the patch changes module %s, and the guest's "
						 "livepatch core has no %s",
						 name, missing));
			return;
		}
		if (module == NULL) {
			note_missing(absent, &count, name);
		} else if (!hvp_modules_is_live(context->target->modules, module)) {
			add_item(context, "objects", false, HVP_ERROR_BUSY,
				 g_strdup_printf("module %s is being loaded or unloaded", name));
			return;
		}
	}
	add_item(
		context, "objects", true, HVP_ERROR_UNSUPPORTED,
		count ? g_strdup_printf("not loaded, to be patched when they come: %s", absent->str)
		      : NULL);
}

static void check_module(Context *context)
{
	if (!context->patch->has_init)
		add_refusal(context, "module", HVP_ERROR_UNSUPPORTED,
			    "the module has no init function: it enables nothing");
	else if (!context->patch->has_exit)
		add_refusal(context, "module", HVP_ERROR_UNSUPPORTED,
			    "the module has no exit function: it could never be unloaded");
	else
		add_ok(context, "module");
}

/* Whether a kprobe of the guest lies behind the slot's first byte and before @end. */
static bool check_kprobes(HvpTarget *target, const HvpFunctionFacts *facts, HvpGva end,
			  GError **error)
{
	HvpGvaRange range = { hvp_gva_add(facts->slot.ip, 1), end };

	if (hvp_text_sites_check_kprobes(target->kernel, range, error))
		return true;
	g_prefix_error(error, "%s: ", facts->name);
	return false;
}

static bool plan_site(HvpTarget *target, const HvpTextSites *sites, HvpCheckFunction *function,
		      GError **error)
{
	const HvpFunctionFacts *facts = &function->facts;
	HvpGva far_end = hvp_gva_add(facts->slot.ip,
				     HVP_FTRACE_SLOT_BYTES + HVP_PLAN_MAX_SITE_BYTES);
	g_autoptr(GError) reason = NULL;

	if (hvp_plan_site(facts, sites, hvp_kernel_get_text(target->kernel), &function->site,
			  &reason))
		return check_kprobes(target, facts,
				     hvp_gva_add(function->site.site, function->site.length_bytes),
				     error);
	/* Bytes that look foreign may be a kprobe's: then that is what is to be told. */
	if (g_error_matches(reason, HVP_ERROR, HVP_ERROR_CONFLICT) &&
	    !check_kprobes(target, facts,
			   far_end.value < facts->old.end.value ? far_end : facts->old.end, error))
		return false;
	g_propagate_error(error, g_steal_pointer(&reason));
	return false;
}

bool hvp_check_places_read(HvpTarget *target, const HvpChanges *pending, HvpCheckPlaces *ret_places,
			   GError **error)
{
	g_auto(HvpCheckPlaces) places = { .target = target, .pending = pending };

	places.known = g_hash_table_new(NULL, NULL);
	places.ftrace = hvp_ftrace_read(target->kernel, error);
	if (places.ftrace == NULL)
		return false;
	places.sites = hvp_text_sites_read(target->kernel, error);
	if (places.sites == NULL)
		return false;
	*ret_places = places;
	places = (HvpCheckPlaces){ 0 };
	return true;
}

void hvp_check_places_clear(HvpCheckPlaces *self)
{
	g_clear_pointer(&self->ftrace, hvp_ftrace_free);
	g_clear_pointer(&self->sites, hvp_text_sites_free);
	g_clear_pointer(&self->known, g_hash_table_unref);
}

/* The tables of a module are read when the first function of it is looked at. */
static bool know_module(HvpCheckPlaces *places, const HvpModule *object, GError **error)
{
	if (object == NULL || !g_hash_table_add(places->known, (gpointer)object->address.value))
		return true;
	return hvp_text_sites_add_module(places->sites, places->target->kernel, object, error);
}

bool hvp_check_function(HvpCheckPlaces *places, HvpModule *object, const char *name,
			guint64 position, HvpCheckFunction *ret_function, GError **error)
{
	HvpTarget *target = places->target;
	HvpCheckFunction function = { 0 };
	HvpFunctionFacts *facts = &function.facts;

	if (!know_module(places, object, error) ||
	    !hvp_plan_gather(target->kernel, target->modules, object, places->ftrace, name,
			     position, facts, error))
		return false;
	if (places->pending != NULL)
		hvp_changes_overlay(places->pending, facts->old.start, facts->code,
				    facts->code_bytes);
	function.released = places->pending != NULL &&
			    hvp_changes_is_released(places->pending, facts->slot.ip);
	if ((function.released ||
	     hvp_ftrace_check_flags(target->kernel, facts->slot.flags, name, error)) &&
	    plan_site(target, places->sites, &function, error)) {
		*ret_function = function;
		return true;
	}
	hvp_check_function_clear(&function);
	return false;
}

static void check_one_function(Context *context, HvpModule *object,
			       const HvpPatchFunction *function, GString *why, HvpErrorCode *code)
{
	HvpCheckFunction found;
	g_autoptr(GError) reason = NULL;

	if (hvp_check_function(&context->places, object, function->name, function->sympos, &found,
			       &reason)) {
		g_array_append_val(context->check->functions, found);
		return;
	}
	/* A function that is not there makes the patch one for another kernel. */
	if (why->len == 0)
		*code = reason->code == HVP_ERROR_NOT_FOUND ? HVP_ERROR_UNSUPPORTED
							    : (HvpErrorCode)reason->code;
	g_string_append_printf(why, "%s%s", why->len ? "; " : "", reason->message);
}

static void check_functions(Context *context)
{
	g_autoptr(GString) why = g_string_new(NULL);
	HvpErrorCode code = HVP_ERROR_UNSUPPORTED;

	for (guint i = 0; i < context->patch->object_count; i++) {
		const HvpPatchObject *object = &context->patch->objects[i];
		HvpModule *module = NULL;

		if (object->name != NULL) {
			module = hvp_modules_find(context->target->modules, object->name);
			if (module == NULL)
				continue;
		}
		for (guint j = 0; j < object->function_count; j++)
			check_one_function(context, module, &object->functions[j], why, &code);
	}
	if (why->len > 0)
		add_item(context, "functions", false, code, g_strdup(why->str));
	else
		add_ok(context, "functions");
}

/* A function that both @patch and @applied name. */
static const char *find_overlap(const HvpPatch *patch, const HvpApplied *applied)
{
	for (guint i = 0; i < patch->object_count; i++)
		for (guint j = 0; j < patch->objects[i].function_count; j++)
			if (hvp_applied_has_function(applied, patch->objects[i].name,
						     patch->objects[i].functions[j].name))
				return patch->objects[i].functions[j].name;
	return NULL;
}

/* Why the patch cannot come while @applied is in the guest; NULL: it can. */
static char *explain_conflict(Context *context, const HvpApplied *applied)
{
	const char *overlap = find_overlap(context->patch, applied);

	if (strcmp(applied->name, context->patch->name) == 0)
		return g_strdup_printf("another build of %s is in the guest: revert it first",
				       applied->name);
	if (applied->state != HVP_RECORD_SWITCHED)
		return g_strdup_printf("%s is in the guest and not in force (%s): run hvpatch "
				       "recover, see hvpatch status",
				       applied->name, hvp_record_state_name(applied->state));
	if (overlap != NULL && context->replace == HVP_PATCH_NO)
		return g_strdup_printf("%s is patched already by %s, which this patch does not "
				       "replace",
				       overlap, applied->name);
	return NULL;
}

static void add_overlap(Context *context, const GString *others)
{
	const char *how = context->replace == HVP_PATCH_YES ? "replaces: "
							    : "replaces, if its init says so: ";

	add_item(context, "overlap", true, HVP_ERROR_CONFLICT,
		 others->len && context->replace != HVP_PATCH_NO
			 ? g_strconcat(how, others->str, NULL)
			 : NULL);
}

static void check_overlap(Context *context)
{
	const HvpModule *same = hvp_modules_find(context->target->modules, context->patch->name);
	g_autoptr(GString) others = g_string_new(NULL);
	guint count = 0;
	bool is_ours = false;

	for (guint i = 0; i < context->applied->len; i++) {
		const HvpApplied *applied = g_ptr_array_index(context->applied, i);
		char *why;

		is_ours = is_ours || strcmp(applied->name, context->patch->name) == 0;
		if (strcmp(applied->record->sha256, context->patch->sha256) == 0 &&
		    applied->state == HVP_RECORD_SWITCHED) {
			context->check->already_applied = true;
			continue;
		}
		why = explain_conflict(context, applied);
		if (why != NULL) {
			add_item(context, "overlap", false, HVP_ERROR_CONFLICT, why);
			return;
		}
		note_missing(others, &count, applied->name);
	}
	if (same != NULL && !is_ours)
		add_item(context, "overlap", false, HVP_ERROR_CONFLICT,
			 g_strdup_printf("the guest itself has loaded %s", same->name));
	else
		add_overlap(context, others);
}

/* As klp_is_patch_compatible() has it, from the file; repeated on what the guest's init made. */
static void check_states(Context *context)
{
	const HvpPatch *patch = context->patch;

	for (guint i = 0; i < context->applied->len && patch->states_known; i++) {
		const HvpApplied *applied = g_ptr_array_index(context->applied, i);

		for (guint j = 0; applied->klp != NULL && j < applied->klp->states->len; j++) {
			const HvpKlpState *old = &g_array_index(applied->klp->states, HvpKlpState,
								j);
			const HvpPatchState *new = NULL;

			for (guint k = 0; k < patch->state_count; k++)
				if (patch->states[k].id == old->id)
					new = &patch->states[k];
			if (new != NULL ? new->version >= old->version
					: context->replace != HVP_PATCH_YES)
				continue;
			add_item(context, "states", false, HVP_ERROR_CONFLICT,
				 g_strdup_printf("%s is in force with state %" G_GUINT64_FORMAT
						 " version %u, which the patch cannot take over",
						 applied->name, old->id, old->version));
			return;
		}
	}
	add_ok(context, "states");
}

/* One of our own is the guest's core looking after modules to come: it ends by itself. */
static bool is_own_transition(Context *context, HvpGva transition)
{
	for (guint i = 0; i < context->applied->len; i++) {
		const HvpApplied *applied = g_ptr_array_index(context->applied, i);

		if (applied->core.patch.value == transition.value)
			return true;
	}
	return false;
}

static void check_transition(Context *context)
{
	HvpGva transition;

	if (hvp_klp_core_read_transition(context->target->kernel, &transition, NULL) &&
	    transition.value != 0 && !is_own_transition(context, transition))
		add_refusal(context, "transition", HVP_ERROR_BUSY,
			    "a livepatch transition of the guest's own is under way");
	else
		add_ok(context, "transition");
}

/* Whether what the manifest says of kernel threads can be heeded in this guest. */
static void check_kthreads(Context *context)
{
	const HvpManifest *manifest = context->options->manifest;
	g_autoptr(HvpKthreadRule) rule = NULL;
	GError *reason = NULL;

	if (manifest == NULL ||
	    (manifest->kthreads == HVP_KTHREADS_ANY && manifest->standing[0] == NULL))
		return;
	rule = hvp_kthread_rule_new(context->target, manifest, &reason);
	if (rule != NULL)
		add_ok(context, "kthreads");
	else
		add_error(context, "kthreads", reason);
}

static void check_cold(Context *context)
{
	g_autoptr(GError) reason = NULL;
	char *warning = NULL;

	if (!hvp_cold_check(context->target->kernel, context->target->modules, context->patch,
			    &warning, &reason))
		add_error(context, "old-cold", g_steal_pointer(&reason));
	else
		add_item(context, "old-cold", true, HVP_ERROR_UNSUPPORTED, warning);
}

static HvpPatchTristate replace_of(const HvpPatch *patch, const HvpOptions *options)
{
	switch (options->replace) {
	case HVP_REPLACE_YES:
		return HVP_PATCH_YES;
	case HVP_REPLACE_NO:
		return HVP_PATCH_NO;
	default:
		return patch->replace;
	}
}

/* What functions will look like when the patches that may be replaced are gone. */
static bool plan_replacing(Context *context, GError **error)
{
	HvpCheckPlaces *places = &context->places;

	for (guint i = 0; context->replace != HVP_PATCH_NO && i < context->applied->len; i++) {
		const HvpApplied *applied = g_ptr_array_index(context->applied, i);

		if (applied->state == HVP_RECORD_SWITCHED &&
		    !hvp_changes_retire(context->pending, context->target, places->ftrace,
					places->sites, applied, error))
			return false;
	}
	return true;
}

static bool read_tables(Context *context, GError **error)
{
	g_autoptr(GError) reason = NULL;

	context->applied = hvp_applied_read_all(context->target, error);
	if (context->applied == NULL ||
	    !hvp_policy_read(context->target->kernel, context->target->modules, &context->policy,
			     error))
		return false;
	context->can_look = hvp_check_places_read(context->target, context->pending,
						  &context->places, &reason);
	if (reason != NULL && g_error_matches(reason, HVP_ERROR, HVP_ERROR_VM_GONE)) {
		g_propagate_error(error, g_steal_pointer(&reason));
		return false;
	}
	if (reason != NULL)
		add_error(context, "ftrace", g_steal_pointer(&reason));
	if (context->can_look && !plan_replacing(context, &reason)) {
		context->can_look = false;
		add_error(context, "overlap", g_steal_pointer(&reason));
	}
	return true;
}

static void context_clear(Context *context)
{
	g_clear_pointer(&context->applied, g_ptr_array_unref);
	hvp_check_places_clear(&context->places);
	hvp_changes_free(context->pending);
}

static void decide(HvpCheck *check)
{
	check->applicable = true;
	for (guint i = 0; i < check->items->len; i++) {
		const HvpCheckItem *item = &g_array_index(check->items, HvpCheckItem, i);

		check->applicable &= item->ok || item->accepted;
	}
}

static void check_all(Context *context)
{
	check_kernel(context);
	check_vermagic(context);
	check_module(context);
	check_policy(context);
	check_objects(context);
	check_overlap(context);
	check_states(context);
	check_transition(context);
	check_kthreads(context);
	if (context->can_look && !context->check->already_applied) {
		check_symbols(context);
		check_functions(context);
		check_cold(context);
	}
	decide(context->check);
}

HvpCheck *hvp_check_run(HvpTarget *target, const HvpPatch *patch, const HvpOptions *options,
			GError **error)
{
	g_autoptr(HvpCheck) check = g_new0(HvpCheck, 1);
	Context context = { .check = check,
			    .target = target,
			    .patch = patch,
			    .options = options,
			    .replace = replace_of(patch, options),
			    .pending = hvp_changes_new() };
	bool ok;

	check->items = g_array_new(FALSE, TRUE, sizeof(HvpCheckItem));
	g_array_set_clear_func(check->items, item_clear);
	check->functions = g_array_new(FALSE, TRUE, sizeof(HvpCheckFunction));
	g_array_set_clear_func(check->functions, function_clear);
	ok = read_tables(&context, error);
	if (ok)
		check_all(&context);
	context_clear(&context);
	return ok ? g_steal_pointer(&check) : NULL;
}

bool hvp_check_verdict(const HvpCheck *self, GError **error)
{
	for (guint i = 0; i < self->items->len; i++) {
		const HvpCheckItem *item = &g_array_index(self->items, HvpCheckItem, i);

		if (!item->ok && !item->accepted)
			return hvp_error_set(error, item->code, "%s: %s", item->item, item->why);
	}
	return true;
}
