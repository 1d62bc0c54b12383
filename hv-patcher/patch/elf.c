/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/elf.h"

#include <elf.h>
#include <gelf.h>
#include <libelf.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"

/* How much of a section's name appears in a message. */
#define ELF_MESSAGE_NAME_BYTES 64U

struct HvpElf {
	const guint8 *bytes;
	gsize length_bytes;
	HvpElfSection *sections;
	guint32 section_count;
	GHashTable *by_name;
	guint32 symbol_table;
	guint32 symbol_count;
	guint64 loaded_bytes;
};

/* A stretch of the file that belongs to one section or table. */
typedef struct {
	guint64 start;
	guint64 end;
	const char *owner;
} ElfExtent;

/* Ways in which distributions compress modules, by their first bytes. */
static const struct {
	const char *magic;
	const char *name;
} elf_compressions[] = {
	{ "\x1f\x8b", "gzip" },
	{ "\xfd\x37zXZ", "xz" },
	{ "\x28\xb5\x2f\xfd", "zstd" },
};

void hvp_elf_free(HvpElf *self)
{
	if (self == NULL)
		return;
	g_clear_pointer(&self->by_name, g_hash_table_unref);
	g_free(self->sections);
	g_free(self);
}

static bool elf_check_not_compressed(const HvpElf *self, GError **error)
{
	for (guint i = 0; i < G_N_ELEMENTS(elf_compressions); i++) {
		gsize magic_bytes = strlen(elf_compressions[i].magic);

		if (self->length_bytes >= magic_bytes &&
		    memcmp(self->bytes, elf_compressions[i].magic, magic_bytes) == 0)
			return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
					     "compressed with %s; decompress the module first",
					     elf_compressions[i].name);
	}
	return true;
}

static bool elf_check_identity(const HvpElf *self, GError **error)
{
	const guint8 *ident = self->bytes;

	if (!elf_check_not_compressed(self, error))
		return false;
	if (self->length_bytes < SELFMAG || memcmp(ident, ELFMAG, SELFMAG) != 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "not an ELF file");
	if (self->length_bytes < sizeof(Elf64_Ehdr))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "truncated in the ELF header: %" G_GSIZE_FORMAT " bytes",
				     self->length_bytes);
	if (ident[EI_CLASS] != ELFCLASS64 || ident[EI_DATA] != ELFDATA2LSB)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "not a livepatch module for x86-64: ELF class %u, encoding %u",
				     ident[EI_CLASS], ident[EI_DATA]);
	if (ident[EI_VERSION] != EV_CURRENT)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "unknown ELF version %u",
				     ident[EI_VERSION]);
	return true;
}

static bool elf_check_section_table(const HvpElf *self, const Elf64_Ehdr *header, GError **error)
{
	guint64 table_bytes = (guint64)header->e_shnum * sizeof(Elf64_Shdr);

	if (header->e_shentsize != sizeof(Elf64_Shdr))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "section headers of %u bytes",
				     header->e_shentsize);
	if (header->e_shnum == 0 || header->e_shnum > HVP_ELF_MAX_SECTIONS)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "%u section headers, expected 1 to %u", header->e_shnum,
				     HVP_ELF_MAX_SECTIONS);
	if (header->e_shoff < sizeof(Elf64_Ehdr) || header->e_shoff > self->length_bytes ||
	    table_bytes > self->length_bytes - header->e_shoff)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the section header table (offset 0x%" G_GINT64_MODIFIER
				     "x, %u entries) lies outside of the file (0x%" G_GSIZE_MODIFIER
				     "x bytes)",
				     header->e_shoff, header->e_shnum, self->length_bytes);
	if (header->e_shstrndx == SHN_UNDEF || header->e_shstrndx >= header->e_shnum)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "section %u of %u cannot hold the section names",
				     header->e_shstrndx, header->e_shnum);
	return true;
}

static bool elf_check_header(const HvpElf *self, Elf64_Ehdr *ret_header, GError **error)
{
	Elf64_Ehdr header;

	if (!elf_check_identity(self, error))
		return false;
	memcpy(&header, self->bytes, sizeof header);
	if (header.e_type != ET_REL || header.e_machine != EM_X86_64)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "not a livepatch module for x86-64: ELF type %u, machine %u",
				     header.e_type, header.e_machine);
	if (header.e_version != EV_CURRENT || header.e_ehsize != sizeof header)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "ELF header of version %u and %u bytes", header.e_version,
				     header.e_ehsize);
	if (!elf_check_section_table(self, &header, error))
		return false;
	*ret_header = header;
	return true;
}

static bool elf_section_has_bytes(const GElf_Shdr *header)
{
	return header->sh_type != SHT_NULL && header->sh_type != SHT_NOBITS && header->sh_size != 0;
}

static bool elf_take_section(HvpElf *self, guint32 index, const GElf_Shdr *header, GError **error)
{
	HvpElfSection *section = &self->sections[index];

	if (elf_section_has_bytes(header)) {
		if (header->sh_offset > self->length_bytes ||
		    header->sh_size > self->length_bytes - header->sh_offset)
			return hvp_error_set(
				error, HVP_ERROR_BAD_DATA,
				"section %u (offset 0x%" G_GINT64_MODIFIER
				"x, 0x%" G_GINT64_MODIFIER
				"x bytes) lies outside of the file (0x%" G_GSIZE_MODIFIER
				"x bytes)",
				index, header->sh_offset, header->sh_size, self->length_bytes);
		section->data = self->bytes + header->sh_offset;
	}
	section->size_bytes = header->sh_type == SHT_NULL ? 0 : header->sh_size;
	section->flags = header->sh_flags;
	section->entry_bytes = header->sh_entsize;
	section->type = header->sh_type;
	section->link = header->sh_link;
	section->info = header->sh_info;
	return true;
}

/* libelf's own checks come on top of ours, not instead of them. */
static bool elf_read_sections(HvpElf *self, Elf *handle, GError **error)
{
	size_t count;

	if (elf_kind(handle) != ELF_K_ELF || elf_getshdrnum(handle, &count) != 0 ||
	    count != self->section_count)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "not a readable ELF file");
	for (guint32 i = 0; i < self->section_count; i++) {
		Elf_Scn *scn = elf_getscn(handle, i);
		GElf_Shdr header;

		if (scn == NULL || gelf_getshdr(scn, &header) == NULL)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "the header of section %u is not readable", i);
		if (!elf_take_section(self, i, &header, error))
			return false;
	}
	return true;
}

static bool elf_load_sections(HvpElf *self, const Elf64_Ehdr *header, GError **error)
{
	Elf *handle;
	bool done;

	self->section_count = header->e_shnum;
	self->sections = g_new0(HvpElfSection, self->section_count);
	elf_version(EV_CURRENT);
	/* libelf takes a pointer to non-const, but writes only in elf_update. */
	handle = elf_memory((char *)self->bytes, self->length_bytes);
	if (handle == NULL)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "not a readable ELF file: %s",
				     elf_errmsg(-1));
	done = elf_read_sections(self, handle, error);
	elf_end(handle);
	return done;
}

static bool elf_is_string_table(const HvpElfSection *section)
{
	return section->type == SHT_STRTAB && section->data != NULL &&
	       section->data[section->size_bytes - 1] == '\0';
}

static guint32 elf_name_offset(const HvpElf *self, const Elf64_Ehdr *header, guint32 index)
{
	const guint8 *entry = self->bytes + header->e_shoff + index * sizeof(Elf64_Shdr);

	return hvp_load_u32(entry + offsetof(Elf64_Shdr, sh_name));
}

static bool elf_name_sections(HvpElf *self, const Elf64_Ehdr *header, GError **error)
{
	const HvpElfSection *names = &self->sections[header->e_shstrndx];

	if (!elf_is_string_table(names))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "section %u (the section names) is no terminated string table",
				     header->e_shstrndx);
	self->by_name = g_hash_table_new(g_str_hash, g_str_equal);
	for (guint32 i = 0; i < self->section_count; i++) {
		self->sections[i].name = hvp_elf_string(names, elf_name_offset(self, header, i));
		if (self->sections[i].name == NULL)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "the name of section %u is outside of the names or "
					     "longer than %u bytes",
					     i, HVP_ELF_MAX_NAME_BYTES);
		if (i > 0 && !g_hash_table_contains(self->by_name, self->sections[i].name))
			g_hash_table_insert(self->by_name, (gpointer)self->sections[i].name,
					    GUINT_TO_POINTER(i));
	}
	return true;
}

static int elf_compare_extents(const void *left, const void *right)
{
	const ElfExtent *a = left;
	const ElfExtent *b = right;

	return a->start < b->start ? -1 : a->start > b->start;
}

static GArray *elf_extents(const HvpElf *self, const Elf64_Ehdr *header)
{
	guint64 table_bytes = (guint64)header->e_shnum * sizeof(Elf64_Shdr);
	ElfExtent fixed[] = {
		{ 0, sizeof(Elf64_Ehdr), "the ELF header" },
		{ header->e_shoff, header->e_shoff + table_bytes, "the section header table" },
	};
	GArray *extents = g_array_new(FALSE, FALSE, sizeof(ElfExtent));

	g_array_append_vals(extents, fixed, G_N_ELEMENTS(fixed));
	for (guint32 i = 0; i < self->section_count; i++) {
		const HvpElfSection *section = &self->sections[i];
		guint64 start;
		ElfExtent extent;

		if (section->data == NULL)
			continue;
		start = (guint64)(section->data - self->bytes);
		extent = (ElfExtent){ start, start + section->size_bytes, section->name };
		g_array_append_val(extents, extent);
	}
	g_array_sort(extents, elf_compare_extents);
	return extents;
}

static bool elf_set_overlap(const ElfExtent *a, const ElfExtent *b, GError **error)
{
	g_autofree char *first =
		hvp_text_escape(a->owner, HVP_TEXT_TERMINATED, ELF_MESSAGE_NAME_BYTES);
	g_autofree char *second =
		hvp_text_escape(b->owner, HVP_TEXT_TERMINATED, ELF_MESSAGE_NAME_BYTES);

	return hvp_error_set(error, HVP_ERROR_BAD_DATA,
			     "%s and %s overlap at offset 0x%" G_GINT64_MODIFIER "x", first, second,
			     b->start);
}

static bool elf_check_overlaps(const HvpElf *self, const Elf64_Ehdr *header, GError **error)
{
	g_autoptr(GArray) extents = elf_extents(self, header);

	for (guint i = 1; i < extents->len; i++) {
		const ElfExtent *previous = &g_array_index(extents, ElfExtent, i - 1);
		const ElfExtent *extent = &g_array_index(extents, ElfExtent, i);

		if (extent->start < previous->end)
			return elf_set_overlap(previous, extent, error);
	}
	return true;
}

static bool elf_sum_loaded(HvpElf *self, GError **error)
{
	for (guint32 i = 1; i < self->section_count; i++) {
		const HvpElfSection *section = &self->sections[i];

		if (!hvp_elf_section_is_loaded(section))
			continue;
		if (section->size_bytes > HVP_ELF_MAX_LOADED_BYTES - self->loaded_bytes)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "section %u (0x%" G_GINT64_MODIFIER
					     "x bytes) brings the module above %u bytes of memory",
					     i, section->size_bytes, HVP_ELF_MAX_LOADED_BYTES);
		self->loaded_bytes += section->size_bytes;
	}
	return true;
}

static bool elf_find_symbol_table(HvpElf *self, GError **error)
{
	guint found = 0;

	for (guint32 i = 1; i < self->section_count; i++) {
		if (self->sections[i].type != SHT_SYMTAB)
			continue;
		self->symbol_table = i;
		found++;
	}
	if (found != 1)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "%u symbol tables, expected one",
				     found);
	return true;
}

static bool elf_check_symbol_table(HvpElf *self, GError **error)
{
	const HvpElfSection *table;

	if (!elf_find_symbol_table(self, error))
		return false;
	table = &self->sections[self->symbol_table];
	if (table->entry_bytes != sizeof(Elf64_Sym) || table->data == NULL ||
	    table->size_bytes % sizeof(Elf64_Sym) != 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "symbol table of 0x%" G_GINT64_MODIFIER
				     "x bytes in entries of %" G_GUINT64_FORMAT,
				     table->size_bytes, table->entry_bytes);
	if (table->size_bytes / sizeof(Elf64_Sym) > HVP_ELF_MAX_SYMBOLS)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "more than %u symbols",
				     HVP_ELF_MAX_SYMBOLS);
	if (table->link >= self->section_count ||
	    !elf_is_string_table(&self->sections[table->link]))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "section %u (the symbol names) is no terminated string table",
				     table->link);
	self->symbol_count = (guint32)(table->size_bytes / sizeof(Elf64_Sym));
	return true;
}

static bool elf_symbol_section_is_known(const HvpElf *self, guint16 section)
{
	return section < self->section_count || section == SHN_ABS ||
	       section == HVP_ELF_SHN_LIVEPATCH;
}

static bool elf_check_symbols(const HvpElf *self, GError **error)
{
	const HvpElfSection *table = &self->sections[self->symbol_table];
	const HvpElfSection *names = &self->sections[table->link];

	for (guint32 i = 0; i < self->symbol_count; i++) {
		Elf64_Sym symbol;

		memcpy(&symbol, table->data + (gsize)i * sizeof symbol, sizeof symbol);
		if (hvp_elf_string(names, symbol.st_name) == NULL)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "the name of symbol %u is outside of the names or "
					     "longer than %u bytes",
					     i, HVP_ELF_MAX_NAME_BYTES);
		if (!elf_symbol_section_is_known(self, symbol.st_shndx))
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "symbol %u lies in section 0x%x of %u", i,
					     symbol.st_shndx, self->section_count);
	}
	return true;
}

HvpElf *hvp_elf_new(const guint8 *bytes, gsize length_bytes, GError **error)
{
	g_autoptr(HvpElf) self = g_new0(HvpElf, 1);
	Elf64_Ehdr header = { 0 };

	self->bytes = bytes;
	self->length_bytes = length_bytes;
	if (!elf_check_header(self, &header, error) || !elf_load_sections(self, &header, error) ||
	    !elf_name_sections(self, &header, error) || !elf_check_overlaps(self, &header, error) ||
	    !elf_sum_loaded(self, error) || !elf_check_symbol_table(self, error) ||
	    !elf_check_symbols(self, error))
		return NULL;
	return g_steal_pointer(&self);
}

guint32 hvp_elf_section_count(const HvpElf *self)
{
	return self->section_count;
}

const HvpElfSection *hvp_elf_section(const HvpElf *self, guint32 index)
{
	g_assert(index < self->section_count);
	return &self->sections[index];
}

const HvpElfSection *hvp_elf_find_section(const HvpElf *self, const char *name, guint32 *ret_index)
{
	guint32 index = GPOINTER_TO_UINT(g_hash_table_lookup(self->by_name, name));

	if (index == 0)
		return NULL;
	if (ret_index != NULL)
		*ret_index = index;
	return &self->sections[index];
}

guint32 hvp_elf_symbol_count(const HvpElf *self)
{
	return self->symbol_count;
}

guint32 hvp_elf_symbol_table(const HvpElf *self)
{
	return self->symbol_table;
}

HvpElfSymbol hvp_elf_symbol(const HvpElf *self, guint32 index)
{
	const HvpElfSection *table = &self->sections[self->symbol_table];
	Elf64_Sym symbol;

	g_assert(index < self->symbol_count);
	memcpy(&symbol, table->data + (gsize)index * sizeof symbol, sizeof symbol);
	return (HvpElfSymbol){
		.name = (const char *)self->sections[table->link].data + symbol.st_name,
		.value = symbol.st_value,
		.size_bytes = symbol.st_size,
		.section = symbol.st_shndx,
		.type = ELF64_ST_TYPE(symbol.st_info),
		.binding = ELF64_ST_BIND(symbol.st_info),
	};
}

guint64 hvp_elf_relocation_count(const HvpElfSection *rela)
{
	return rela->data == NULL ? 0 : rela->size_bytes / sizeof(Elf64_Rela);
}

HvpElfRelocation hvp_elf_relocation(const HvpElfSection *rela, guint64 index)
{
	Elf64_Rela entry;

	g_assert(index < hvp_elf_relocation_count(rela));
	memcpy(&entry, rela->data + index * sizeof entry, sizeof entry);
	return (HvpElfRelocation){
		.offset = entry.r_offset,
		.addend = entry.r_addend,
		.symbol = (guint32)ELF64_R_SYM(entry.r_info),
		.type = (guint32)ELF64_R_TYPE(entry.r_info),
	};
}

bool hvp_elf_section_is_loaded(const HvpElfSection *section)
{
	return (section->flags & SHF_ALLOC) != 0 && section->type != SHT_NULL;
}

guint64 hvp_elf_loaded_bytes(const HvpElf *self)
{
	return self->loaded_bytes;
}

const char *hvp_elf_string(const HvpElfSection *section, guint64 offset)
{
	const char *text;
	guint64 left_bytes;

	if (section->data == NULL || offset >= section->size_bytes)
		return NULL;
	text = (const char *)section->data + offset;
	left_bytes = MIN(section->size_bytes - offset, HVP_ELF_MAX_NAME_BYTES + 1);
	return memchr(text, '\0', left_bytes) == NULL ? NULL : text;
}
