/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/klp.h"

#include <elf.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

#define KLP_SYMBOL_PREFIX ".klp.sym."
#define KLP_SECTION_PREFIX ".klp.rela."
/* Placeholders of klp-build that nothing looks up. */
#define KLP_TOMBSTONE_PREFIX ".klp.tombstone."
#define KLP_MESSAGE_NAME_BYTES 128U

static const char klp_vmlinux[] = "vmlinux";

typedef struct {
	const HvpElf *elf;
	GStringChunk *strings;
	/* Of HvpPatchKlpSymbol. */
	GArray *symbols;
	/* Of HvpPatchUndefined. */
	GArray *undefined;
	/* Of HvpPatchKlpRelocations. */
	GArray *relocations;
	/* For each symbol of the file: index in symbols + 1, or 0. */
	guint32 *klp_index;
} KlpReader;

static void klp_reader_clear(KlpReader *self)
{
	g_clear_pointer(&self->symbols, g_array_unref);
	g_clear_pointer(&self->undefined, g_array_unref);
	g_clear_pointer(&self->relocations, g_array_unref);
	g_free(self->klp_index);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KlpReader, klp_reader_clear)

static bool klp_set_bad_name(const char *what, const char *name, GError **error)
{
	g_autofree char *escaped =
		hvp_text_escape(name, HVP_TEXT_TERMINATED, KLP_MESSAGE_NAME_BYTES);

	return hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s \"%s\"", what, escaped);
}

static bool klp_check_count(const GArray *taken, const char *what, GError **error)
{
	if (taken->len < HVP_PATCH_MAX_REFERENCES)
		return true;
	return hvp_error_set(error, HVP_ERROR_BAD_DATA, "more than %u %s", HVP_PATCH_MAX_REFERENCES,
			     what);
}

/*
 * Copies the object's name, which ends at the first dot, NULL for vmlinux, and
 * moves @text behind that dot.
 */
static bool klp_take_object(const char **text, GStringChunk *strings, const char **ret_object)
{
	char object[HVP_PATCH_MAX_MODULE_NAME + 1];
	const char *dot = memchr(*text, '.', strnlen(*text, sizeof object));

	if (dot == NULL)
		return false;
	memcpy(object, *text, (gsize)(dot - *text));
	object[dot - *text] = '\0';
	if (!hvp_text_is_name(object, HVP_PATCH_MAX_MODULE_NAME))
		return false;
	*ret_object =
		strcmp(object, klp_vmlinux) == 0 ? NULL : g_string_chunk_insert(strings, object);
	*text = dot + 1;
	return true;
}

bool hvp_klp_parse_symbol(const char *text, GStringChunk *strings, HvpPatchKlpSymbol *ret_symbol)
{
	g_autofree char *name = NULL;
	const char *comma;

	if (!g_str_has_prefix(text, KLP_SYMBOL_PREFIX))
		return false;
	text += strlen(KLP_SYMBOL_PREFIX);
	if (!klp_take_object(&text, strings, &ret_symbol->object))
		return false;
	comma = strchr(text, ',');
	if (comma == NULL)
		return false;
	name = g_strndup(text, (gsize)(comma - text));
	if (!hvp_text_is_name(name, HVP_PATCH_MAX_SYMBOL_NAME) ||
	    !g_ascii_string_to_unsigned(comma + 1, 10, 0, G_MAXUINT64, &ret_symbol->sympos, NULL))
		return false;
	ret_symbol->name = g_string_chunk_insert(strings, name);
	return true;
}

static bool klp_take_livepatch_symbol(KlpReader *self, guint32 index, const char *name,
				      GError **error)
{
	HvpPatchKlpSymbol symbol = { NULL, NULL, 0 };

	if (!klp_check_count(self->symbols, "livepatch symbols", error))
		return false;
	if (!hvp_klp_parse_symbol(name, self->strings, &symbol))
		return klp_set_bad_name("not a livepatch symbol:", name, error);
	g_array_append_val(self->symbols, symbol);
	self->klp_index[index] = self->symbols->len;
	return true;
}

static bool klp_take_undefined(KlpReader *self, const HvpElfSymbol *symbol, GError **error)
{
	HvpPatchUndefined undefined = { NULL, symbol->binding == STB_WEAK };

	if (g_str_has_prefix(symbol->name, KLP_TOMBSTONE_PREFIX))
		return true;
	/* The loader would look it up as an ordinary symbol and fail. */
	if (g_str_has_prefix(symbol->name, KLP_SYMBOL_PREFIX))
		return klp_set_bad_name("livepatch symbol without its section:", symbol->name,
					error);
	if (!hvp_text_is_name(symbol->name, HVP_PATCH_MAX_SYMBOL_NAME))
		return klp_set_bad_name("undefined symbol with an unsound name:", symbol->name,
					error);
	if (!klp_check_count(self->undefined, "undefined symbols", error))
		return false;
	undefined.name = g_string_chunk_insert(self->strings, symbol->name);
	g_array_append_val(self->undefined, undefined);
	return true;
}

static bool klp_read_symbols(KlpReader *self, GError **error)
{
	/* Symbol 0 is the null symbol. */
	for (guint32 i = 1; i < hvp_elf_symbol_count(self->elf); i++) {
		HvpElfSymbol symbol = hvp_elf_symbol(self->elf, i);

		if (symbol.section == HVP_ELF_SHN_LIVEPATCH) {
			if (!klp_take_livepatch_symbol(self, i, symbol.name, error))
				return false;
		} else if (symbol.section == SHN_UNDEF) {
			if (!klp_take_undefined(self, &symbol, error))
				return false;
		}
	}
	return true;
}

/* Livepatch symbols have no value for the ordinary loader: it would write 0. */
static bool klp_check_plain_section(const KlpReader *self, const HvpElfSection *rela,
				    GError **error)
{
	guint64 count = hvp_elf_relocation_count(rela);

	for (guint64 i = 0; i < count; i++) {
		HvpElfRelocation relocation = hvp_elf_relocation(rela, i);

		if (relocation.type != R_X86_64_NONE && self->klp_index[relocation.symbol] != 0)
			return klp_set_bad_name("an ordinary relocation uses the livepatch symbol",
						hvp_elf_symbol(self->elf, relocation.symbol).name,
						error);
	}
	return true;
}

/*
 * The rules of klp_resolve_symbols: livepatch symbols only, and nothing of a
 * module in what is applied when vmlinux is patched (since 5.8).
 */
static bool klp_check_klp_section(const KlpReader *self, const HvpElfSection *rela,
				  const char *object, GError **error)
{
	guint64 count = hvp_elf_relocation_count(rela);

	for (guint64 i = 0; i < count; i++) {
		HvpElfRelocation relocation = hvp_elf_relocation(rela, i);
		guint32 number = self->klp_index[relocation.symbol];
		const char *name = hvp_elf_symbol(self->elf, relocation.symbol).name;

		if (number == 0)
			return klp_set_bad_name("a livepatch relocation uses the ordinary symbol",
						name, error);
		if (object == NULL &&
		    g_array_index(self->symbols, HvpPatchKlpSymbol, number - 1).object != NULL)
			return klp_set_bad_name("a relocation for vmlinux uses the module's symbol",
						name, error);
	}
	return true;
}

static bool klp_take_section(KlpReader *self, const HvpElfSection *rela, GError **error)
{
	const HvpElfSection *target = hvp_elf_section(self->elf, rela->info);
	HvpPatchKlpRelocations relocations = { .count = (guint)hvp_elf_relocation_count(rela) };
	const char *text = rela->name + strlen(KLP_SECTION_PREFIX);

	if (!g_str_has_prefix(rela->name, KLP_SECTION_PREFIX) ||
	    !klp_take_object(&text, self->strings, &relocations.object))
		return klp_set_bad_name("not a livepatch relocation section:", rela->name, error);
	if (!hvp_elf_section_is_loaded(target) ||
	    !hvp_text_is_name(target->name, HVP_ELF_MAX_NAME_BYTES))
		return klp_set_bad_name("livepatch relocations for a section that is not loaded:",
					rela->name, error);
	if (!klp_check_klp_section(self, rela, relocations.object, error) ||
	    !klp_check_count(self->relocations, "livepatch relocation sections", error))
		return false;
	relocations.section = g_string_chunk_insert(self->strings, target->name);
	g_array_append_val(self->relocations, relocations);
	return true;
}

static bool klp_read_section(KlpReader *self, const HvpElfSection *section, GError **error)
{
	bool is_flagged = (section->flags & HVP_ELF_SHF_RELA_LIVEPATCH) != 0;

	if (section->type != SHT_RELA) {
		if (g_str_has_prefix(section->name, KLP_SECTION_PREFIX))
			return klp_set_bad_name("not a relocation section:", section->name, error);
		return true;
	}
	if (is_flagged)
		return klp_take_section(self, section, error);
	/* A tool that drops the flag leaves relocations that are never applied right. */
	if (g_str_has_prefix(section->name, KLP_SECTION_PREFIX))
		return klp_set_bad_name("livepatch relocations without their flag:", section->name,
					error);
	if (!hvp_elf_section_is_loaded(hvp_elf_section(self->elf, section->info)))
		return true;
	return klp_check_plain_section(self, section, error);
}

static bool klp_read_all(KlpReader *self, GError **error)
{
	if (self->klp_index == NULL)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "too many symbols for the memory");
	if (!klp_read_symbols(self, error))
		return false;
	for (guint32 i = 1; i < hvp_elf_section_count(self->elf); i++) {
		if (!klp_read_section(self, hvp_elf_section(self->elf, i), error))
			return false;
	}
	return true;
}

bool hvp_klp_read(const HvpElf *elf, HvpPatch *patch, GError **error)
{
	g_auto(KlpReader) reader = {
		.elf = elf,
		.strings = patch->strings,
		.symbols = g_array_new(FALSE, FALSE, sizeof(HvpPatchKlpSymbol)),
		.undefined = g_array_new(FALSE, FALSE, sizeof(HvpPatchUndefined)),
		.relocations = g_array_new(FALSE, FALSE, sizeof(HvpPatchKlpRelocations)),
		.klp_index = g_try_new0(guint32, hvp_elf_symbol_count(elf)),
	};

	if (!klp_read_all(&reader, error))
		return false;
	patch->klp_symbol_count = reader.symbols->len;
	patch->klp_symbols = (void *)g_array_free(g_steal_pointer(&reader.symbols), FALSE);
	patch->undefined_count = reader.undefined->len;
	patch->undefined = (void *)g_array_free(g_steal_pointer(&reader.undefined), FALSE);
	patch->klp_relocations_count = reader.relocations->len;
	patch->klp_relocations = (void *)g_array_free(g_steal_pointer(&reader.relocations), FALSE);
	return true;
}

void hvp_klp_clear_patch(HvpPatch *patch)
{
	g_free((gpointer)patch->klp_symbols);
	g_free((gpointer)patch->undefined);
	g_free((gpointer)patch->klp_relocations);
}
