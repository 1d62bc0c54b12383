/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/kpatch.h"

#include "base/bytes.h"
#include "base/error.h"

#define KPATCH_FUNC_BYTES 56U
#define KPATCH_FUNC_NEW_ADDR 0U
#define KPATCH_FUNC_NEW_SIZE 8U
#define KPATCH_FUNC_SYMPOS 32U
#define KPATCH_FUNC_NAME 40U
#define KPATCH_FUNC_OBJNAME 48U
#define KPATCH_CALLBACK_BYTES 16U
#define KPATCH_CALLBACK_OBJNAME 8U
/* The linker script's QUAD(0), which keeps an empty section alive. */
#define KPATCH_PADDING_BYTES 8U

static const char kpatch_funcs_section[] = ".kpatch.funcs";

static const char *const kpatch_callback_sections[HVP_OBJECTS_CALLBACK_COUNT] = {
	[HVP_OBJECTS_PRE_PATCH] = ".kpatch.callbacks.pre_patch",
	[HVP_OBJECTS_POST_PATCH] = ".kpatch.callbacks.post_patch",
	[HVP_OBJECTS_PRE_UNPATCH] = ".kpatch.callbacks.pre_unpatch",
	[HVP_OBJECTS_POST_UNPATCH] = ".kpatch.callbacks.post_unpatch",
};

bool hvp_kpatch_is_format(const HvpElf *elf)
{
	return hvp_elf_find_section(elf, kpatch_funcs_section, NULL) != NULL;
}

/* Opens a table; @ret_count is 0 for one that has no bytes in the file. */
static bool kpatch_open_table(const HvpElf *elf, const char *name, guint entry_bytes,
			      HvpPlace *ret_place, guint64 *ret_count, GError **error)
{
	guint32 index;
	const HvpElfSection *section = hvp_elf_find_section(elf, name, &index);
	guint64 size_bytes;
	guint64 rest_bytes;

	*ret_count = 0;
	if (section == NULL || section->data == NULL)
		return true;
	size_bytes = section->size_bytes;
	rest_bytes = size_bytes % entry_bytes;
	if (rest_bytes != 0 && rest_bytes != KPATCH_PADDING_BYTES)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "%s has 0x%" G_GINT64_MODIFIER "x bytes, no multiple of %u",
				     name, size_bytes, entry_bytes);
	*ret_place = hvp_place(index, 0);
	*ret_count = size_bytes / entry_bytes;
	return true;
}

static bool kpatch_read_function(const HvpElf *elf, const HvpPointers *pointers, HvpPlace entry,
				 HvpObjects *objects, GError **error)
{
	const guint8 *bytes = hvp_elf_section(elf, entry.section)->data + entry.offset;
	const char *object =
		hvp_pointers_string(pointers, hvp_place_add(entry, KPATCH_FUNC_OBJNAME));
	HvpPatchFunction function = {
		.name = hvp_pointers_string(pointers, hvp_place_add(entry, KPATCH_FUNC_NAME)),
		.sympos = hvp_load_u64(bytes + KPATCH_FUNC_SYMPOS),
		.new_size_bytes = hvp_load_u64(bytes + KPATCH_FUNC_NEW_SIZE),
	};
	HvpPlace at = hvp_place_add(entry, KPATCH_FUNC_NEW_ADDR);
	const HvpPointer *pointer = hvp_pointers_at(pointers, at);
	HvpElfSymbol symbol;

	if (function.name == NULL || object == NULL)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "no name, or no object's name");
	if (pointer == NULL || !pointer->is_inside)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "no new function");
	if (function.new_size_bytes >
	    hvp_elf_section(elf, pointer->target.section)->size_bytes - pointer->target.offset)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the new function's 0x%" G_GINT64_MODIFIER
				     "x bytes pass the end of its section",
				     function.new_size_bytes);
	if (hvp_pointers_function(pointers, at, &symbol))
		function.new_symbol = symbol.name;
	return hvp_objects_add_function(objects, object, &function, error);
}

static bool kpatch_read_functions(const HvpElf *elf, const HvpPointers *pointers,
				  HvpObjects *objects, GError **error)
{
	HvpPlace table;
	guint64 count;

	if (!kpatch_open_table(elf, kpatch_funcs_section, KPATCH_FUNC_BYTES, &table, &count, error))
		return false;
	for (guint64 i = 0; i < count; i++) {
		HvpPlace entry = hvp_place_add(table, i * KPATCH_FUNC_BYTES);

		if (kpatch_read_function(elf, pointers, entry, objects, error))
			continue;
		g_prefix_error(error, "entry %" G_GUINT64_FORMAT " of %s: ", i,
			       kpatch_funcs_section);
		return false;
	}
	return true;
}

static bool kpatch_read_callbacks(const HvpElf *elf, const HvpPointers *pointers,
				  HvpObjectsCallback callback, HvpObjects *objects, GError **error)
{
	const char *section = kpatch_callback_sections[callback];
	HvpPlace table;
	guint64 count;

	if (!kpatch_open_table(elf, section, KPATCH_CALLBACK_BYTES, &table, &count, error))
		return false;
	for (guint64 i = 0; i < count; i++) {
		HvpPlace entry = hvp_place_add(table, i * KPATCH_CALLBACK_BYTES);
		const char *object = hvp_pointers_string(
			pointers, hvp_place_add(entry, KPATCH_CALLBACK_OBJNAME));

		if (hvp_pointers_at(pointers, entry) == NULL || object == NULL)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "entry %" G_GUINT64_FORMAT
					     " of %s has no function or no object's name",
					     i, section);
		if (!hvp_objects_add_callback(objects, object, callback, error))
			return false;
	}
	return true;
}

bool hvp_kpatch_read(const HvpElf *elf, const HvpPointers *pointers, HvpObjects *objects,
		     GError **error)
{
	if (!kpatch_read_functions(elf, pointers, objects, error))
		return false;
	for (guint i = 0; i < HVP_OBJECTS_CALLBACK_COUNT; i++) {
		if (!kpatch_read_callbacks(elf, pointers, (HvpObjectsCallback)i, objects, error))
			return false;
	}
	return true;
}
