/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/objects.h"

#include <string.h>

#include "base/error.h"
#include "base/text.h"

#define OBJECTS_MESSAGE_NAME_BYTES 128U
static const char objects_vmlinux[] = "vmlinux";

typedef struct {
	/* NULL: vmlinux. */
	const char *name;
	/* Of HvpPatchFunction. */
	GArray *functions;
	bool callbacks[HVP_OBJECTS_CALLBACK_COUNT];
} ObjectsEntry;

struct HvpObjects {
	GStringChunk *strings;
	/* Of ObjectsEntry. */
	GArray *entries;
	/* Name (vmlinux by its own) to index in entries + 1; keys lie in strings. */
	GHashTable *by_name;
	/* "OBJECT.FUNCTION,SYMPOS" of all functions; owns its keys. */
	GHashTable *seen;
	guint function_count;
};

static void objects_entry_clear(gpointer data)
{
	ObjectsEntry *entry = data;

	g_clear_pointer(&entry->functions, g_array_unref);
}

HvpObjects *hvp_objects_new(GStringChunk *strings)
{
	HvpObjects *self = g_new0(HvpObjects, 1);

	self->strings = strings;
	self->entries = g_array_new(FALSE, TRUE, sizeof(ObjectsEntry));
	g_array_set_clear_func(self->entries, objects_entry_clear);
	self->by_name = g_hash_table_new(g_str_hash, g_str_equal);
	self->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	return self;
}

void hvp_objects_free(HvpObjects *self)
{
	if (self == NULL)
		return;
	g_clear_pointer(&self->entries, g_array_unref);
	g_clear_pointer(&self->by_name, g_hash_table_unref);
	g_clear_pointer(&self->seen, g_hash_table_unref);
	g_free(self);
}

static bool objects_check_name(const char *what, const char *name, gsize max_bytes, GError **error)
{
	g_autofree char *escaped = NULL;

	if (hvp_text_is_name(name, max_bytes))
		return true;
	escaped = hvp_text_escape(name, HVP_TEXT_TERMINATED, OBJECTS_MESSAGE_NAME_BYTES);
	return hvp_error_set(error, HVP_ERROR_BAD_DATA, "\"%s\" is no name of %s", escaped, what);
}

static ObjectsEntry *objects_append(HvpObjects *self, const char *key, GError **error)
{
	ObjectsEntry entry = { .functions = NULL };
	const char *stored;

	if (!objects_check_name("an object", key, HVP_PATCH_MAX_MODULE_NAME, error))
		return NULL;
	if (self->entries->len >= HVP_PATCH_MAX_OBJECTS) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "more than %u objects",
			      HVP_PATCH_MAX_OBJECTS);
		return NULL;
	}
	stored = g_string_chunk_insert(self->strings, key);
	entry.name = strcmp(key, objects_vmlinux) == 0 ? NULL : stored;
	entry.functions = g_array_new(FALSE, FALSE, sizeof(HvpPatchFunction));
	g_array_append_val(self->entries, entry);
	g_hash_table_insert(self->by_name, (gpointer)stored, GUINT_TO_POINTER(self->entries->len));
	return &g_array_index(self->entries, ObjectsEntry, self->entries->len - 1);
}

static ObjectsEntry *objects_entry(HvpObjects *self, const char *name, GError **error)
{
	const char *key = name == NULL ? objects_vmlinux : name;
	guint number = GPOINTER_TO_UINT(g_hash_table_lookup(self->by_name, key));

	if (number == 0)
		return objects_append(self, key, error);
	return &g_array_index(self->entries, ObjectsEntry, number - 1);
}

bool hvp_objects_add(HvpObjects *self, const char *name, GError **error)
{
	return objects_entry(self, name, error) != NULL;
}

static bool objects_note_function(HvpObjects *self, const ObjectsEntry *entry,
				  const HvpPatchFunction *function, GError **error)
{
	const char *object = entry->name == NULL ? objects_vmlinux : entry->name;
	char *key = g_strdup_printf("%s.%s,%" G_GUINT64_FORMAT, object, function->name,
				    function->sympos);

	if (!g_hash_table_add(self->seen, key))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "function %s of %s is replaced twice", function->name, object);
	if (++self->function_count > HVP_PATCH_MAX_FUNCTIONS)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "more than %u functions",
				     HVP_PATCH_MAX_FUNCTIONS);
	return true;
}

bool hvp_objects_add_function(HvpObjects *self, const char *object,
			      const HvpPatchFunction *function, GError **error)
{
	ObjectsEntry *entry = objects_entry(self, object, error);
	HvpPatchFunction copy = *function;

	if (entry == NULL ||
	    !objects_check_name("a function", function->name, HVP_PATCH_MAX_SYMBOL_NAME, error) ||
	    !objects_note_function(self, entry, function, error))
		return false;
	if (function->new_symbol != NULL) {
		if (!objects_check_name("a symbol", function->new_symbol, HVP_PATCH_MAX_SYMBOL_NAME,
					error))
			return false;
		copy.new_symbol = g_string_chunk_insert(self->strings, function->new_symbol);
	}
	copy.name = g_string_chunk_insert(self->strings, function->name);
	g_array_append_val(entry->functions, copy);
	return true;
}

bool hvp_objects_add_callback(HvpObjects *self, const char *object, HvpObjectsCallback callback,
			      GError **error)
{
	ObjectsEntry *entry = objects_entry(self, object, error);

	if (entry == NULL)
		return false;
	entry->callbacks[callback] = true;
	return true;
}

static HvpPatchObject objects_build(ObjectsEntry *entry)
{
	guint count = entry->functions->len;

	return (HvpPatchObject){
		.name = entry->name,
		.functions = (HvpPatchFunction *)(void *)g_array_free(
			g_steal_pointer(&entry->functions), FALSE),
		.function_count = count,
		.pre_patch = entry->callbacks[HVP_OBJECTS_PRE_PATCH],
		.post_patch = entry->callbacks[HVP_OBJECTS_POST_PATCH],
		.pre_unpatch = entry->callbacks[HVP_OBJECTS_PRE_UNPATCH],
		.post_unpatch = entry->callbacks[HVP_OBJECTS_POST_UNPATCH],
	};
}

void hvp_objects_finish(HvpObjects *self, HvpPatch *patch)
{
	HvpPatchObject *objects = g_new0(HvpPatchObject, self->entries->len);

	for (guint i = 0; i < self->entries->len; i++)
		objects[i] = objects_build(&g_array_index(self->entries, ObjectsEntry, i));
	patch->objects = objects;
	patch->object_count = self->entries->len;
	patch->function_count = self->function_count;
	g_array_set_size(self->entries, 0);
	g_hash_table_remove_all(self->by_name);
	g_hash_table_remove_all(self->seen);
	self->function_count = 0;
}

void hvp_objects_clear_patch(HvpPatch *patch)
{
	for (guint i = 0; i < patch->object_count; i++)
		g_free((gpointer)patch->objects[i].functions);
	g_free((gpointer)patch->objects);
	patch->objects = NULL;
	patch->object_count = 0;
	patch->function_count = 0;
}
