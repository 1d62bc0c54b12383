/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/patch.h"

#include <elf.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "patch/elf.h"
#include "patch/klp-build.h"
#include "patch/klp-static.h"
#include "patch/klp.h"
#include "patch/kpatch.h"
#include "patch/modinfo.h"
#include "patch/objects.h"
#include "patch/pointers.h"
#include "patch/relocations.h"
#include "patch/signature.h"
#include "patch/source.h"

#define PATCH_MESSAGE_PATH_BYTES 256U
#define PATCH_STRINGS_BLOCK_BYTES 4096U

static const char patch_cold_suffix[] = ".cold";

/* 6.1 and 6.12, x86-64, Debian's configuration. */
static const HvpPatchLayout patch_layout_default = {
	.func_size_bytes = 152,
	.func_old_name = 0,
	.func_new_func = 8,
	.func_old_sympos = 16,
	.object_size_bytes = 168,
	.object_name = 0,
	.object_funcs = 8,
	.object_callbacks = 16,
	.patch_size_bytes = 200,
	.patch_mod = 0,
	.patch_objs = 8,
	.patch_states = 16,
	.patch_replace = 24,
	.state_size_bytes = 24,
	.state_id = 0,
	.state_version = 8,
};

/* What a module loader, or a part of the kernel that it calls, reads by name. */
static const char *const patch_special_sections[] = {
	".altinstructions",
	".altinstr_replacement",
	".altinstr_aux",
	".parainstructions",
	".smp_locks",
	"__jump_table",
	".static_call_sites",
	".static_call_tramp_key",
	".static_call.text",
	"__bug_table",
	"__ex_table",
	".orc_unwind",
	".orc_unwind_ip",
	".orc_header",
	".retpoline_sites",
	".return_sites",
	".call_sites",
	".ibt_endbr_seal",
	".cfi_sites",
	"__mcount_loc",
	"__patchable_function_entries",
	".kprobes.text",
	"_kprobe_blacklist",
	".noinstr.text",
	".data..percpu",
	".data..ro_after_init",
	"__dyndbg",
	"__tracepoints",
	"__tracepoints_ptrs",
	"_ftrace_events",
	"_ftrace_eval_map",
	"__bpf_raw_tp_map",
	"__trace_printk_fmt",
	"__param",
	"__ksymtab",
	"__ksymtab_gpl",
	"_error_injection_whitelist",
	".init_array",
	".ctors",
	".BTF",
	".printk_index",
};

const HvpPatchLayout *hvp_patch_layout_default(void)
{
	return &patch_layout_default;
}

const char *hvp_patch_format_name(HvpPatchFormat format)
{
	switch (format) {
	case HVP_PATCH_FORMAT_KPATCH:
		return "kpatch";
	case HVP_PATCH_FORMAT_KLP_BUILD:
		return "klp-build";
	case HVP_PATCH_FORMAT_KLP:
		break;
	}
	return "klp";
}

void hvp_patch_free(HvpPatch *self)
{
	if (self == NULL)
		return;
	hvp_objects_clear_patch(self);
	hvp_klp_clear_patch(self);
	g_free((gpointer)self->states);
	g_free((gpointer)self->special_sections);
	g_clear_pointer(&self->modinfo, g_hash_table_unref);
	g_clear_pointer(&self->strings, g_string_chunk_free);
	g_clear_pointer(&self->bytes, g_bytes_unref);
	g_free(self);
}

static bool patch_read_modinfo(HvpPatch *self, const HvpElf *elf, GError **error)
{
	const char *name;

	self->modinfo = hvp_modinfo_read(elf, error);
	if (self->modinfo == NULL)
		return false;
	/* The kernel asks for the key only; the tools write Y (check_modinfo_livepatch). */
	if (hvp_patch_modinfo(self, "livepatch") == NULL)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "not a livepatch module: no livepatch=Y in its modinfo");
	name = hvp_modinfo_module_name(elf, self->modinfo, error);
	if (name == NULL)
		return false;
	self->name = g_string_chunk_insert(self->strings, name);
	self->vermagic = hvp_modinfo_vermagic(self->modinfo, error);
	self->depends = hvp_patch_modinfo(self, "depends");
	self->description = hvp_patch_modinfo(self, "description");
	self->license = hvp_patch_modinfo(self, "license");
	self->srcversion = hvp_patch_modinfo(self, "srcversion");
	return self->vermagic != NULL;
}

static void patch_read_special_sections(HvpPatch *self, const HvpElf *elf)
{
	HvpPatchSection *found = g_new0(HvpPatchSection, G_N_ELEMENTS(patch_special_sections));
	guint count = 0;

	for (guint i = 0; i < G_N_ELEMENTS(patch_special_sections); i++) {
		const HvpElfSection *section =
			hvp_elf_find_section(elf, patch_special_sections[i], NULL);

		if (section == NULL || section->size_bytes == 0 ||
		    !hvp_elf_section_is_loaded(section))
			continue;
		found[count++] =
			(HvpPatchSection){ patch_special_sections[i], section->size_bytes };
	}
	self->special_sections = found;
	self->special_section_count = count;
}

static void patch_read_entry_points(HvpPatch *self, const HvpElf *elf)
{
	for (guint32 i = 1; i < hvp_elf_symbol_count(elf); i++) {
		HvpElfSymbol symbol = hvp_elf_symbol(elf, i);

		if (symbol.section == SHN_UNDEF || symbol.section == HVP_ELF_SHN_LIVEPATCH)
			continue;
		if (strcmp(symbol.name, "init_module") == 0)
			self->has_init = true;
		else if (strcmp(symbol.name, "cleanup_module") == 0)
			self->has_exit = true;
	}
}

static bool patch_read_format(HvpPatch *self, const HvpElf *elf, const HvpPatchLayout *layout,
			      HvpObjects *objects, GError **error)
{
	g_autoptr(HvpPointers) pointers = hvp_pointers_new(elf, error);

	if (pointers == NULL)
		return false;
	self->replace = HVP_PATCH_UNKNOWN;
	self->objects_known = true;
	if (hvp_kpatch_is_format(elf)) {
		self->format = HVP_PATCH_FORMAT_KPATCH;
		return hvp_kpatch_read(elf, pointers, objects, error);
	}
	if (hvp_klp_build_is_format(elf)) {
		self->format = HVP_PATCH_FORMAT_KLP_BUILD;
		return hvp_klp_build_read(elf, pointers, objects, error);
	}
	self->format = HVP_PATCH_FORMAT_KLP;
	return hvp_klp_static_read(elf, pointers, layout, objects, self, error);
}

static bool patch_read_elf(HvpPatch *self, const HvpElf *elf, const HvpPatchLayout *layout,
			   GError **error)
{
	g_autoptr(HvpObjects) objects = hvp_objects_new(self->strings);

	/* First what it is: an object file of another kind is not damaged. */
	if (!patch_read_modinfo(self, elf, error) || !hvp_relocations_check(elf, error) ||
	    !hvp_klp_read(elf, self, error) ||
	    !patch_read_format(self, elf, layout, objects, error))
		return false;
	hvp_objects_finish(objects, self);
	patch_read_special_sections(self, elf);
	patch_read_entry_points(self, elf);
	self->memory_bytes = hvp_elf_loaded_bytes(elf);
	return true;
}

static bool patch_read(HvpPatch *self, const HvpPatchLayout *layout, GError **error)
{
	gsize length_bytes;
	const guint8 *bytes = g_bytes_get_data(self->bytes, &length_bytes);
	g_autofree char *sha256 = NULL;
	g_autoptr(HvpElf) elf = NULL;

	if (length_bytes == 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "empty");
	if (length_bytes > HVP_PATCH_MAX_FILE_BYTES)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "too large: %" G_GSIZE_FORMAT " bytes, the limit is %u",
				     length_bytes, HVP_PATCH_MAX_FILE_BYTES);
	sha256 = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, self->bytes);
	self->sha256 = g_string_chunk_insert(self->strings, sha256);
	if (!hvp_signature_measure(bytes, length_bytes, &self->signature_bytes, error))
		return false;
	self->is_signed = self->signature_bytes != 0;
	/* The guest's loader, too, takes the signature off before it looks at the file. */
	elf = hvp_elf_new(bytes, length_bytes - self->signature_bytes, error);
	return elf != NULL && patch_read_elf(self, elf, layout, error);
}

static void patch_prefix_error(const char *label, GError **error)
{
	g_autofree char *escaped =
		hvp_text_escape(label, HVP_TEXT_TERMINATED, PATCH_MESSAGE_PATH_BYTES);

	g_prefix_error(error, "%s: ", escaped);
}

HvpPatch *hvp_patch_open_bytes(GBytes *bytes, const char *label, const HvpPatchLayout *layout,
			       GError **error)
{
	g_autoptr(HvpPatch) self = g_new0(HvpPatch, 1);

	if (layout == NULL)
		layout = &patch_layout_default;
	if (!hvp_klp_static_layout_is_sane(layout)) {
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
			      "the layout of struct klp_patch makes no sense");
		return NULL;
	}
	self->bytes = g_bytes_ref(bytes);
	self->strings = g_string_chunk_new(PATCH_STRINGS_BLOCK_BYTES);
	if (!patch_read(self, layout, error)) {
		patch_prefix_error(label, error);
		return NULL;
	}
	return g_steal_pointer(&self);
}

HvpPatch *hvp_patch_open(const char *path, GError **error)
{
	g_autoptr(GBytes) bytes = hvp_source_read(path, HVP_PATCH_MAX_FILE_BYTES, error);

	if (bytes == NULL) {
		patch_prefix_error(path, error);
		return NULL;
	}
	return hvp_patch_open_bytes(bytes, path, NULL, error);
}

HvpPatch *hvp_patch_open_fd(int fd, const char *label, GError **error)
{
	g_autoptr(GBytes) bytes = hvp_source_read_fd(fd, HVP_PATCH_MAX_FILE_BYTES, error);

	if (bytes == NULL) {
		patch_prefix_error(label, error);
		return NULL;
	}
	return hvp_patch_open_bytes(bytes, label, NULL, error);
}

const char *hvp_patch_modinfo(const HvpPatch *self, const char *key)
{
	return g_hash_table_lookup(self->modinfo, key);
}

bool hvp_patch_needs_symbol(const HvpPatch *self, const char *name)
{
	for (guint i = 0; i < self->undefined_count; i++) {
		if (strcmp(self->undefined[i].name, name) == 0)
			return true;
	}
	return false;
}

/* The length of F in "F.cold" or "F.cold.N", 0 for any other name. */
static gsize patch_cold_parent_bytes(const char *name)
{
	const char *cold = g_strrstr(name, patch_cold_suffix);
	const char *rest;

	if (cold == NULL)
		return 0;
	rest = cold + strlen(patch_cold_suffix);
	if (rest[0] != '\0' &&
	    (rest[0] != '.' || rest[1] == '\0' || rest[1 + strspn(rest + 1, "0123456789")] != '\0'))
		return 0;
	return (gsize)(cold - name);
}

/* Names cannot hold a space, so it separates the two parts of a key. */
static char *patch_function_key(const char *object, const char *name, gsize name_bytes)
{
	return g_strdup_printf("%s %.*s", object == NULL ? "vmlinux" : object, (int)name_bytes,
			       name);
}

static GHashTable *patch_function_keys(const HvpPatch *self)
{
	GHashTable *keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

	for (guint i = 0; i < self->object_count; i++) {
		const HvpPatchObject *object = &self->objects[i];

		for (guint k = 0; k < object->function_count; k++) {
			const char *name = object->functions[k].name;

			g_hash_table_add(keys,
					 patch_function_key(object->name, name, strlen(name)));
		}
	}
	return keys;
}

GPtrArray *hvp_patch_cold_references(const HvpPatch *self)
{
	g_autoptr(GHashTable) replaced = patch_function_keys(self);
	GPtrArray *references = g_ptr_array_new();

	for (guint i = 0; i < self->klp_symbol_count; i++) {
		const HvpPatchKlpSymbol *symbol = &self->klp_symbols[i];
		gsize parent_bytes = patch_cold_parent_bytes(symbol->name);
		g_autofree char *key = NULL;

		if (parent_bytes == 0)
			continue;
		key = patch_function_key(symbol->object, symbol->name, parent_bytes);
		if (g_hash_table_contains(replaced, key))
			g_ptr_array_add(references, (gpointer)symbol);
	}
	return references;
}
