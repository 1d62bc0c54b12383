/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/klp-static.h"

#include <elf.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"

#define KLP_STATIC_POINTER_BYTES 8U
#define KLP_STATIC_MAX_STRUCT_BYTES 4096U

typedef struct {
	const HvpElf *elf;
	const HvpPointers *pointers;
	const HvpPatchLayout *layout;
	HvpObjects *objects;
} KlpStaticReader;

static bool klp_static_field_fits(guint32 offset, guint32 field_bytes, guint32 size_bytes)
{
	return size_bytes <= KLP_STATIC_MAX_STRUCT_BYTES && field_bytes <= size_bytes &&
	       offset <= size_bytes - field_bytes;
}

bool hvp_klp_static_layout_is_sane(const HvpPatchLayout *layout)
{
	const struct {
		guint32 offset;
		guint32 field_bytes;
		guint32 size_bytes;
	} fields[] = {
		{ layout->func_old_name, 8, layout->func_size_bytes },
		{ layout->func_new_func, 8, layout->func_size_bytes },
		{ layout->func_old_sympos, 8, layout->func_size_bytes },
		{ layout->object_name, 8, layout->object_size_bytes },
		{ layout->object_funcs, 8, layout->object_size_bytes },
		{ layout->object_callbacks, 32, layout->object_size_bytes },
		{ layout->patch_mod, 8, layout->patch_size_bytes },
		{ layout->patch_objs, 8, layout->patch_size_bytes },
		{ layout->patch_states, 8, layout->patch_size_bytes },
		{ layout->patch_replace, 1, layout->patch_size_bytes },
		{ layout->state_id, 8, layout->state_size_bytes },
		{ layout->state_version, 4, layout->state_size_bytes },
	};

	for (guint i = 0; i < G_N_ELEMENTS(fields); i++) {
		if (!klp_static_field_fits(fields[i].offset, fields[i].field_bytes,
					   fields[i].size_bytes))
			return false;
	}
	return true;
}

/* The @size_bytes bytes at @place, NULL if they are not all in the file. */
static const guint8 *klp_static_bytes(const KlpStaticReader *self, HvpPlace place,
				      guint64 size_bytes)
{
	const HvpElfSection *section = hvp_elf_section(self->elf, place.section);

	if (section->data == NULL || place.offset > section->size_bytes ||
	    size_bytes > section->size_bytes - place.offset)
		return NULL;
	return section->data + place.offset;
}

static const HvpPointer *klp_static_pointer(const KlpStaticReader *self, HvpPlace place,
					    guint32 offset)
{
	return hvp_pointers_at(self->pointers, hvp_place_add(place, offset));
}

static bool klp_static_leads_to_data(const KlpStaticReader *self, const HvpPointer *pointer)
{
	const HvpElfSection *section;

	if (pointer == NULL || !pointer->is_inside)
		return false;
	section = hvp_elf_section(self->elf, pointer->target.section);
	return section->data != NULL && hvp_elf_section_is_loaded(section) &&
	       (section->flags & SHF_EXECINSTR) == 0;
}

static bool klp_static_leads_to_this_module(const KlpStaticReader *self, const HvpPointer *pointer)
{
	return pointer->is_inside && pointer->target.offset == 0 &&
	       strcmp(hvp_elf_section(self->elf, pointer->target.section)->name,
		      ".gnu.linkonce.this_module") == 0;
}

/*
 * Other structs begin with their module too (struct file_operations does), but
 * do not go on with a pointer to an array that could be objects: its first
 * entry leads to functions in data, or has a name.
 */
static bool klp_static_is_patch(const KlpStaticReader *self, HvpPlace place)
{
	const HvpPatchLayout *layout = self->layout;
	const HvpElfSection *section = hvp_elf_section(self->elf, place.section);
	const HvpPointer *objs = klp_static_pointer(self, place, layout->patch_objs);

	if (klp_static_bytes(self, place, layout->patch_size_bytes) == NULL ||
	    (section->flags & SHF_WRITE) == 0 || !klp_static_leads_to_data(self, objs) ||
	    klp_static_bytes(self, objs->target, layout->object_size_bytes) == NULL)
		return false;
	if (klp_static_leads_to_data(self,
				     klp_static_pointer(self, objs->target, layout->object_funcs)))
		return true;
	return hvp_pointers_string(self->pointers,
				   hvp_place_add(objs->target, layout->object_name)) != NULL;
}

/* *ret_found is false if there is none. */
static bool klp_static_find_patch(const KlpStaticReader *self, bool *ret_found, HvpPlace *ret_place,
				  GError **error)
{
	*ret_found = false;
	for (guint i = 0; i < hvp_pointers_count(self->pointers); i++) {
		const HvpPointer *pointer = hvp_pointers_nth(self->pointers, i);
		HvpPlace place = pointer->at;

		if (!klp_static_leads_to_this_module(self, pointer) ||
		    place.offset < self->layout->patch_mod)
			continue;
		place.offset -= self->layout->patch_mod;
		if (!klp_static_is_patch(self, place))
			continue;
		if (*ret_found)
			return hvp_error_set(
				error, HVP_ERROR_AMBIGUOUS,
				"more than one struct klp_patch, at 0x%" G_GINT64_MODIFIER
				"x and 0x%" G_GINT64_MODIFIER "x",
				ret_place->offset, place.offset);
		*ret_found = true;
		*ret_place = place;
	}
	return true;
}

static bool klp_static_is_zero(const guint8 *bytes, gsize size_bytes)
{
	for (gsize i = 0; i < size_bytes; i++) {
		if (bytes[i] != 0)
			return false;
	}
	return true;
}

static bool klp_static_read_function(const KlpStaticReader *self, HvpPlace place,
				     const char *object, GError **error)
{
	const HvpPatchLayout *layout = self->layout;
	const guint8 *bytes = klp_static_bytes(self, place, layout->func_size_bytes);
	HvpPatchFunction function = {
		.name = hvp_pointers_string(self->pointers,
					    hvp_place_add(place, layout->func_old_name)),
		.sympos = hvp_load_u64(bytes + layout->func_old_sympos),
	};
	HvpElfSymbol symbol;

	if (function.name == NULL)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the struct klp_func at 0x%" G_GINT64_MODIFIER
				     "x of section %u has no name",
				     place.offset, place.section);
	if (hvp_pointers_function(self->pointers, hvp_place_add(place, layout->func_new_func),
				  &symbol)) {
		function.new_symbol = symbol.name;
		function.new_size_bytes = symbol.size_bytes;
	}
	return hvp_objects_add_function(self->objects, object, &function, error);
}

/* The kernel's klp_for_each_func_static: the end has no name, new function and position. */
static bool klp_static_function_is_end(const KlpStaticReader *self, HvpPlace place)
{
	const HvpPatchLayout *layout = self->layout;
	const guint8 *bytes = klp_static_bytes(self, place, layout->func_size_bytes);

	return klp_static_pointer(self, place, layout->func_old_name) == NULL &&
	       klp_static_pointer(self, place, layout->func_new_func) == NULL &&
	       klp_static_is_zero(bytes + layout->func_old_name, KLP_STATIC_POINTER_BYTES) &&
	       klp_static_is_zero(bytes + layout->func_new_func, KLP_STATIC_POINTER_BYTES) &&
	       hvp_load_u64(bytes + layout->func_old_sympos) == 0;
}

static bool klp_static_read_functions(const KlpStaticReader *self, HvpPlace object_place,
				      const char *object, GError **error)
{
	const HvpPatchLayout *layout = self->layout;
	const HvpPointer *funcs = klp_static_pointer(self, object_place, layout->object_funcs);
	HvpPlace place;

	if (funcs == NULL)
		return true;
	if (!klp_static_leads_to_data(self, funcs))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the functions of an object are no data of this module");
	/* Ends at HVP_PATCH_MAX_FUNCTIONS at the latest: add_function refuses more. */
	for (place = funcs->target;; place = hvp_place_add(place, layout->func_size_bytes)) {
		if (klp_static_bytes(self, place, layout->func_size_bytes) == NULL)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "an array of struct klp_func has no end");
		if (klp_static_function_is_end(self, place))
			return true;
		if (!klp_static_read_function(self, place, object, error))
			return false;
	}
}

static bool klp_static_read_object(const KlpStaticReader *self, HvpPlace place, GError **error)
{
	HvpPlace name = hvp_place_add(place, self->layout->object_name);
	const char *object = hvp_pointers_string(self->pointers, name);

	if (object == NULL && hvp_pointers_at(self->pointers, name) != NULL)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the name of an object is no string");
	if (!hvp_objects_add(self->objects, object, error))
		return false;
	for (guint i = 0; i < HVP_OBJECTS_CALLBACK_COUNT; i++) {
		guint32 offset = self->layout->object_callbacks + i * KLP_STATIC_POINTER_BYTES;

		if (klp_static_pointer(self, place, offset) != NULL &&
		    !hvp_objects_add_callback(self->objects, object, (HvpObjectsCallback)i, error))
			return false;
	}
	return klp_static_read_functions(self, place, object, error);
}

static bool klp_static_read_objects(const KlpStaticReader *self, HvpPlace place, GError **error)
{
	const HvpPatchLayout *layout = self->layout;

	for (guint i = 0; i < HVP_PATCH_MAX_OBJECTS; i++) {
		if (klp_static_bytes(self, place, layout->object_size_bytes) == NULL)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "the array of struct klp_object has no end");
		if (klp_static_pointer(self, place, layout->object_name) == NULL &&
		    klp_static_pointer(self, place, layout->object_funcs) == NULL)
			return true;
		if (!klp_static_read_object(self, place, error))
			return false;
		place = hvp_place_add(place, layout->object_size_bytes);
	}
	return hvp_error_set(error, HVP_ERROR_BAD_DATA, "more than %u objects",
			     HVP_PATCH_MAX_OBJECTS);
}

/* Until an entry with id 0, as klp_for_each_state does (since 5.5). */
static bool klp_static_read_states(const KlpStaticReader *self, HvpPlace place, GArray *states,
				   GError **error)
{
	const HvpPatchLayout *layout = self->layout;

	for (guint i = 0; i < HVP_PATCH_MAX_STATES; i++) {
		const guint8 *bytes = klp_static_bytes(self, place, layout->state_size_bytes);
		HvpPatchState state;

		if (bytes == NULL)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "the array of struct klp_state has no end");
		state.id = hvp_load_u64(bytes + layout->state_id);
		state.version = hvp_load_u32(bytes + layout->state_version);
		if (state.id == 0)
			return true;
		g_array_append_val(states, state);
		place = hvp_place_add(place, layout->state_size_bytes);
	}
	return hvp_error_set(error, HVP_ERROR_BAD_DATA, "more than %u states",
			     HVP_PATCH_MAX_STATES);
}

static bool klp_static_take_states(const KlpStaticReader *self, HvpPlace place, HvpPatch *patch,
				   GError **error)
{
	const HvpPointer *pointer = klp_static_pointer(self, place, self->layout->patch_states);
	g_autoptr(GArray) states = g_array_new(FALSE, FALSE, sizeof(HvpPatchState));

	patch->states_known = pointer == NULL || klp_static_leads_to_data(self, pointer);
	if (pointer == NULL || !patch->states_known)
		return true;
	if (!klp_static_read_states(self, pointer->target, states, error))
		return false;
	patch->state_count = states->len;
	patch->states = (void *)g_array_free(g_steal_pointer(&states), FALSE);
	return true;
}

bool hvp_klp_static_read(const HvpElf *elf, const HvpPointers *pointers,
			 const HvpPatchLayout *layout, HvpObjects *objects, HvpPatch *patch,
			 GError **error)
{
	const KlpStaticReader reader = { elf, pointers, layout, objects };
	const HvpPointer *objs;
	const guint8 *bytes;
	HvpPlace place = hvp_place(0, 0);
	bool found = false;

	if (!klp_static_find_patch(&reader, &found, &place, error))
		return false;
	patch->objects_known = found;
	if (!found)
		return true;
	bytes = klp_static_bytes(&reader, place, layout->patch_size_bytes);
	patch->replace = bytes[layout->patch_replace] != 0 ? HVP_PATCH_YES : HVP_PATCH_NO;
	objs = klp_static_pointer(&reader, place, layout->patch_objs);
	return klp_static_read_objects(&reader, objs->target, error) &&
	       klp_static_take_states(&reader, place, patch, error);
}
