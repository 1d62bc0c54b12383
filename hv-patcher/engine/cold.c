/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/cold.h"

#include "guest/instructions.h"
#include "guest/text-sites.h"

#include <string.h>

#define MAX_COLD_BYTES (64U << 10)
#define COLD_SUFFIX ".cold"

typedef struct {
	HvpKernel *kernel;
	HvpModules *modules;
	HvpTextSites *sites;
	HvpModule *object; /* whose functions are meant; NULL: the image's */
} Place;

static bool find_function(const Place *place, const char *name, guint64 position,
			  HvpGvaRange *ret_range, GError **error)
{
	if (place->object == NULL)
		return hvp_kernel_function(place->kernel, name, position, ret_range, error);
	return hvp_modules_function(place->modules, place->object, name, position, ret_range,
				    error);
}

/* The range of the function that cold part @name belongs to. */
static bool find_parent(const Place *place, const char *name, HvpGvaRange *ret_range)
{
	const char *suffix = strstr(name, COLD_SUFFIX);
	g_autofree char *parent = g_strndup(name, suffix ? (gsize)(suffix - name) : strlen(name));

	return suffix != NULL && find_function(place, parent, 1, ret_range, NULL);
}

/* Where @instruction, in @cold, leads out of it; NULL: it does not. */
static const char *find_way_out(const HvpInstruction *instruction, HvpGvaRange cold,
				HvpGvaRange parent)
{
	switch (instruction->kind) {
	case HVP_INSTRUCTION_AWAY:
		return "returns by itself";
	case HVP_INSTRUCTION_JUMP:
	case HVP_INSTRUCTION_BRANCH:
		if (hvp_gva_range_contains(parent, instruction->target))
			return "leads back into the old function";
		return hvp_gva_range_contains(cold, instruction->target) ? NULL : "leads out of it";
	default:
		return NULL;
	}
}

/*
 * How @cold ends on the frame of @parent, which the new function's is not: *@ret_way is NULL where
 * it does not, as it calls what never returns, or is a BUG.
 */
static bool find_end(HvpKernel *kernel, HvpGvaRange cold, HvpGvaRange parent, const char **ret_way,
		     GError **error)
{
	gsize bytes = hvp_gva_range_size(cold);
	g_autofree guint8 *code = NULL;

	*ret_way = NULL;
	if (bytes > MAX_COLD_BYTES)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "it is longer than %u bytes",
				     MAX_COLD_BYTES);
	code = g_malloc(bytes);
	if (!hvp_address_space_read(hvp_kernel_get_space(kernel), cold.start, code, bytes, error))
		return false;
	for (gsize at = 0; at < bytes && *ret_way == NULL;) {
		HvpInstruction instruction;

		if (!hvp_instructions_decode(code + at, bytes - at, hvp_gva_add(cold.start, at),
					     &instruction, error))
			return false;
		*ret_way = find_way_out(&instruction, cold, parent);
		at += instruction.length_bytes;
	}
	return true;
}

/* Whose functions the name of @symbol is one of. */
static bool find_object(Place *place, const HvpPatchKlpSymbol *symbol, GError **error)
{
	if (symbol->object == NULL)
		return true;
	place->object = hvp_modules_find(place->modules, symbol->object);
	if (place->object == NULL)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the new function jumps into %s of module %s, which is not "
				     "loaded and so cannot be looked at (a defect of kpatch-build)",
				     symbol->name, symbol->object);
	return hvp_text_sites_add_module(place->sites, place->kernel, place->object, error);
}

static bool check_part(const Place *place, const HvpPatchKlpSymbol *symbol, HvpGvaRange cold,
		       HvpGvaRange parent, GError **error)
{
	const char *way;

	if (!find_end(place->kernel, cold, parent, &way, error) ||
	    !hvp_text_sites_check_exits(place->sites, cold, error)) {
		g_prefix_error(error,
			       "the new function jumps into the old kernel's %s (a defect of "
			       "kpatch-build): ",
			       symbol->name);
		return false;
	}
	return way == NULL ||
	       hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "the new function jumps into the old kernel's %s, which %s on another "
			     "frame (a defect of kpatch-build)",
			     symbol->name, way);
}

static bool check_symbol(Place *place, const HvpPatchKlpSymbol *symbol, GString *warning,
			 GError **error)
{
	HvpGvaRange cold, parent;

	if (!find_object(place, symbol, error) ||
	    !find_function(place, symbol->name, symbol->sympos, &cold, error))
		return false;
	if (!find_parent(place, symbol->name, &parent))
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "%s belongs to no known function", symbol->name);
	if (!check_part(place, symbol, cold, parent, error))
		return false;
	g_string_append_printf(warning, "%s%s of the old kernel is used; it never returns",
			       warning->len ? ", " : "", symbol->name);
	return true;
}

bool hvp_cold_check(HvpKernel *kernel, HvpModules *modules, const HvpPatch *patch,
		    char **ret_warning, GError **error)
{
	g_autoptr(GPtrArray) references = hvp_patch_cold_references(patch);
	g_autoptr(GString) warning = g_string_new(NULL);
	g_autoptr(HvpTextSites) sites = NULL;

	if (references->len > 0) {
		sites = hvp_text_sites_read(kernel, error);
		if (sites == NULL)
			return false;
	}
	for (guint i = 0; i < references->len; i++) {
		Place place = { kernel, modules, sites, NULL };

		if (!check_symbol(&place, g_ptr_array_index(references, i), warning, error))
			return false;
	}
	*ret_warning = warning->len > 0 ? g_strdup(warning->str) : NULL;
	return true;
}
