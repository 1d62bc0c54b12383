/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/modinfo.h"

#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "patch/patch.h"

/*
 * struct module begins with state, list and name on every x86-64 kernel; the
 * name has MODULE_NAME_LEN (56) bytes with its NUL.
 */
#define MODINFO_THIS_MODULE_NAME_OFFSET 24U

static bool modinfo_add(GHashTable *table, const char *entry, gsize entry_bytes, GError **error)
{
	const char *equals = memchr(entry, '=', MIN(entry_bytes, HVP_MODINFO_MAX_KEY_BYTES + 1));
	g_autofree char *key = NULL;
	g_autofree char *escaped = NULL;

	if (equals != NULL)
		key = g_strndup(entry, (gsize)(equals - entry));
	if (key == NULL || !hvp_text_is_name(key, HVP_MODINFO_MAX_KEY_BYTES)) {
		escaped = hvp_text_escape(entry, entry_bytes, HVP_MODINFO_MAX_KEY_BYTES);
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the modinfo entry \"%s\" has no sound key", escaped);
	}
	if (g_hash_table_contains(table, key))
		return true;
	g_hash_table_insert(table, g_steal_pointer(&key),
			    hvp_text_escape(equals + 1, entry_bytes - (gsize)(equals + 1 - entry),
					    HVP_MODINFO_MAX_VALUE_BYTES));
	return true;
}

static bool modinfo_read_entries(GHashTable *table, const HvpElfSection *section, GError **error)
{
	const char *text = (const char *)section->data;
	guint64 offset = 0;
	guint count = 0;

	while (offset < section->size_bytes) {
		gsize entry_bytes = strnlen(text + offset, section->size_bytes - offset);

		if (entry_bytes == section->size_bytes - offset)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "the modinfo entry at 0x%" G_GINT64_MODIFIER
					     "x is not terminated",
					     offset);
		if (entry_bytes != 0 && ++count > HVP_MODINFO_MAX_ENTRIES)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "more than %u modinfo entries",
					     HVP_MODINFO_MAX_ENTRIES);
		if (entry_bytes != 0 && !modinfo_add(table, text + offset, entry_bytes, error))
			return false;
		offset += entry_bytes + 1;
	}
	return true;
}

GHashTable *hvp_modinfo_read(const HvpElf *elf, GError **error)
{
	const HvpElfSection *section = hvp_elf_find_section(elf, ".modinfo", NULL);
	g_autoptr(GHashTable) table =
		g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

	if (section == NULL || section->data == NULL) {
		hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			      "not a livepatch module: no section .modinfo");
		return NULL;
	}
	if (!modinfo_read_entries(table, section, error))
		return NULL;
	return g_steal_pointer(&table);
}

static const char *modinfo_this_module_name(const HvpElf *elf, GError **error)
{
	const HvpElfSection *section = hvp_elf_find_section(elf, ".gnu.linkonce.this_module", NULL);
	const char *name;

	if (section == NULL || section->data == NULL) {
		hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			      "not a livepatch module: no struct module in it");
		return NULL;
	}
	name = hvp_elf_string(section, MODINFO_THIS_MODULE_NAME_OFFSET);
	if (name == NULL || !hvp_text_is_name(name, HVP_PATCH_MAX_MODULE_NAME) ||
	    strchr(name, '/') != NULL) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "struct module holds no sound name");
		return NULL;
	}
	return name;
}

const char *hvp_modinfo_module_name(const HvpElf *elf, GHashTable *modinfo, GError **error)
{
	const char *told = g_hash_table_lookup(modinfo, "name");
	const char *name = modinfo_this_module_name(elf, error);

	if (name == NULL)
		return NULL;
	if (told != NULL && strcmp(told, name) != 0) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA,
			      "the module is called \"%s\" by modinfo and \"%s\" by struct module",
			      told, name);
		return NULL;
	}
	return name;
}

const char *hvp_modinfo_vermagic(GHashTable *modinfo, GError **error)
{
	const char *vermagic = g_hash_table_lookup(modinfo, "vermagic");

	/* An escaped byte shows as a backslash, which no vermagic has. */
	if (vermagic == NULL || vermagic[0] == '\0' || strchr(vermagic, '\\') != NULL ||
	    strlen(vermagic) > HVP_MODINFO_MAX_VERMAGIC_BYTES) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "no sound vermagic in modinfo");
		return NULL;
	}
	return vermagic;
}
