/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/cold.h"

#include "guest/instructions.h"

#include <string.h>

#define MAX_COLD_BYTES (64U << 10)
#define COLD_SUFFIX ".cold"

typedef struct {
	HvpKernel *kernel;
	HvpModules *modules;
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

/* Whether any branch in @cold leads into @parent. */
static bool leads_back(HvpKernel *kernel, HvpGvaRange cold, HvpGvaRange parent, bool *ret_back,
		       GError **error)
{
	gsize bytes = MIN(hvp_gva_range_size(cold), MAX_COLD_BYTES);
	g_autofree guint8 *code = g_malloc(bytes);

	*ret_back = false;
	if (!hvp_address_space_read(hvp_kernel_get_space(kernel), cold.start, code, bytes, error))
		return false;
	for (gsize at = 0; at < bytes;) {
		HvpInstruction instruction;

		if (!hvp_instructions_decode(code + at, bytes - at, hvp_gva_add(cold.start, at),
					     &instruction, error))
			return false;
		if ((instruction.kind == HVP_INSTRUCTION_JUMP ||
		     instruction.kind == HVP_INSTRUCTION_BRANCH) &&
		    hvp_gva_range_contains(parent, instruction.target)) {
			*ret_back = true;
			return true;
		}
		at += instruction.length_bytes;
	}
	return true;
}

static bool check_symbol(Place *place, const HvpPatchKlpSymbol *symbol, GString *warning,
			 GError **error)
{
	HvpGvaRange cold, parent;
	bool back;

	if (symbol->object != NULL) {
		place->object = hvp_modules_find(place->modules, symbol->object);
		if (place->object == NULL)
			return hvp_error_set(
				error, HVP_ERROR_UNSUPPORTED,
				"the new function jumps into %s of module %s, which is not loaded "
				"and so cannot be looked at (a defect of kpatch-build)",
				symbol->name, symbol->object);
	}
	if (!find_function(place, symbol->name, symbol->sympos, &cold, error))
		return false;
	if (!find_parent(place, symbol->name, &parent))
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "%s belongs to no known function", symbol->name);
	if (!leads_back(place->kernel, cold, parent, &back, error))
		return false;
	if (back)
		return hvp_error_set(
			error, HVP_ERROR_UNSUPPORTED,
			"the new function jumps into the old kernel's %s, which leads back "
			"into the old function on another frame (a defect of kpatch-build)",
			symbol->name);
	g_string_append_printf(warning, "%s%s of the old kernel is used; it never returns",
			       warning->len ? ", " : "", symbol->name);
	return true;
}

bool hvp_cold_check(HvpKernel *kernel, HvpModules *modules, const HvpPatch *patch,
		    char **ret_warning, GError **error)
{
	g_autoptr(GPtrArray) references = hvp_patch_cold_references(patch);
	g_autoptr(GString) warning = g_string_new(NULL);

	for (guint i = 0; i < references->len; i++) {
		Place place = { kernel, modules, NULL };

		if (!check_symbol(&place, g_ptr_array_index(references, i), warning, error))
			return false;
	}
	*ret_warning = warning->len > 0 ? g_strdup(warning->str) : NULL;
	return true;
}
