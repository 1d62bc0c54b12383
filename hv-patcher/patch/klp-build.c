/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/klp-build.h"

#include "base/bytes.h"
#include "base/error.h"

#define KLP_BUILD_OBJECT_BYTES 64U
#define KLP_BUILD_OBJECT_NAME 0U
#define KLP_BUILD_OBJECT_FUNCS 8U
#define KLP_BUILD_OBJECT_CALLBACKS 16U
#define KLP_BUILD_OBJECT_COUNT 56U
#define KLP_BUILD_FUNC_BYTES 24U
#define KLP_BUILD_FUNC_OLD_NAME 0U
#define KLP_BUILD_FUNC_NEW_FUNC 8U
#define KLP_BUILD_FUNC_SYMPOS 16U
#define KLP_BUILD_POINTER_BYTES 8U

static const HvpElfSection *klp_build_objects_section(const HvpElf *elf, guint32 *ret_index)
{
	const HvpElfSection *section = hvp_elf_find_section(elf, ".init.klp_objects", ret_index);

	return section != NULL ? section : hvp_elf_find_section(elf, "__klp_objects", ret_index);
}

bool hvp_klp_build_is_format(const HvpElf *elf)
{
	return klp_build_objects_section(elf, NULL) != NULL;
}

static bool klp_build_read_function(const HvpElf *elf, const HvpPointers *pointers, HvpPlace entry,
				    const char *object, HvpObjects *objects, GError **error)
{
	const guint8 *bytes = hvp_elf_section(elf, entry.section)->data + entry.offset;
	HvpPatchFunction function = {
		.name = hvp_pointers_string(pointers,
					    hvp_place_add(entry, KLP_BUILD_FUNC_OLD_NAME)),
		.sympos = hvp_load_u64(bytes + KLP_BUILD_FUNC_SYMPOS),
	};
	HvpPlace at = hvp_place_add(entry, KLP_BUILD_FUNC_NEW_FUNC);
	HvpElfSymbol symbol;

	if (function.name == NULL)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "a function without a name");
	if (hvp_pointers_at(pointers, at) == NULL)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "no new function for its entry at "
				     "0x%" G_GINT64_MODIFIER "x",
				     entry.offset);
	if (hvp_pointers_function(pointers, at, &symbol)) {
		function.new_symbol = symbol.name;
		function.new_size_bytes = symbol.size_bytes;
	}
	return hvp_objects_add_function(objects, object, &function, error);
}

static bool klp_build_read_functions(const HvpElf *elf, const HvpPointers *pointers, HvpPlace entry,
				     const char *object, HvpObjects *objects, GError **error)
{
	const guint8 *bytes = hvp_elf_section(elf, entry.section)->data + entry.offset;
	guint32 count = hvp_load_u32(bytes + KLP_BUILD_OBJECT_COUNT);
	const HvpPointer *funcs =
		hvp_pointers_at(pointers, hvp_place_add(entry, KLP_BUILD_OBJECT_FUNCS));
	const HvpElfSection *table;

	if (count == 0)
		return true;
	if (funcs == NULL || !funcs->is_inside)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "no table of functions");
	table = hvp_elf_section(elf, funcs->target.section);
	if (table->data == NULL || count > HVP_PATCH_MAX_FUNCTIONS ||
	    (guint64)count * KLP_BUILD_FUNC_BYTES > table->size_bytes - funcs->target.offset)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "%u functions pass the end of their table", count);
	for (guint32 i = 0; i < count; i++) {
		HvpPlace function = hvp_place_add(funcs->target, (guint64)i * KLP_BUILD_FUNC_BYTES);

		if (!klp_build_read_function(elf, pointers, function, object, objects, error))
			return false;
	}
	return true;
}

static bool klp_build_read_callbacks(const HvpPointers *pointers, HvpPlace entry,
				     const char *object, HvpObjects *objects, GError **error)
{
	HvpPlace callbacks = hvp_place_add(entry, KLP_BUILD_OBJECT_CALLBACKS);

	for (guint i = 0; i < HVP_OBJECTS_CALLBACK_COUNT; i++) {
		HvpPlace at = hvp_place_add(callbacks, (guint64)i * KLP_BUILD_POINTER_BYTES);

		if (hvp_pointers_at(pointers, at) != NULL &&
		    !hvp_objects_add_callback(objects, object, (HvpObjectsCallback)i, error))
			return false;
	}
	return true;
}

static bool klp_build_read_object(const HvpElf *elf, const HvpPointers *pointers, HvpPlace entry,
				  HvpObjects *objects, GError **error)
{
	HvpPlace name = hvp_place_add(entry, KLP_BUILD_OBJECT_NAME);
	const char *object = hvp_pointers_string(pointers, name);

	if (object == NULL && hvp_pointers_at(pointers, name) != NULL)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "its name is no string");
	return hvp_objects_add(objects, object, error) &&
	       klp_build_read_functions(elf, pointers, entry, object, objects, error) &&
	       klp_build_read_callbacks(pointers, entry, object, objects, error);
}

bool hvp_klp_build_read(const HvpElf *elf, const HvpPointers *pointers, HvpObjects *objects,
			GError **error)
{
	guint32 index;
	const HvpElfSection *section = klp_build_objects_section(elf, &index);

	if (section->data == NULL || section->size_bytes % KLP_BUILD_OBJECT_BYTES != 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "%s has 0x%" G_GINT64_MODIFIER "x bytes, no multiple of %u",
				     section->name, section->size_bytes, KLP_BUILD_OBJECT_BYTES);
	for (guint64 at = 0; at < section->size_bytes; at += KLP_BUILD_OBJECT_BYTES) {
		if (klp_build_read_object(elf, pointers, hvp_place(index, at), objects, error))
			continue;
		g_prefix_error(error, "object at 0x%" G_GINT64_MODIFIER "x of %s: ", at,
			       section->name);
		return false;
	}
	return true;
}
