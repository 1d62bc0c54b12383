/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A relocatable x86-64 ELF file in memory, with every table checked against
 * the file before it is handed out: section headers, their contents and names,
 * the symbol table and its strings. As strict as the kernel's own module
 * loader (kernel/module/main.c, elf_validity_check), and stricter where files
 * made by compilers leave room: contents that overlap are refused.
 *
 * Not for executables, core dumps or other machines.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* e_shnum is 16 bits wide; modules with extended numbering do not load. */
#define HVP_ELF_MAX_SECTIONS 0xff00U
#define HVP_ELF_MAX_SYMBOLS 1000000U
/* In sections that the guest loads; what is left is bounded by the file's size. */
#define HVP_ELF_MAX_RELOCATIONS 1000000U
/* Of all sections that the guest loads together. */
#define HVP_ELF_MAX_LOADED_BYTES (256U << 20)

/* Of a section, a symbol or a followed string; a klp symbol has up to 9 + 55 + 511 + 22. */
#define HVP_ELF_MAX_NAME_BYTES 1024U

/* From the kernel's include/uapi/linux/elf.h. */
#define HVP_ELF_SHF_RELA_LIVEPATCH 0x00100000U
#define HVP_ELF_SHN_LIVEPATCH 0xff20U

typedef struct {
	/* Not checked for control characters: escape it before it is shown. */
	const char *name;
	/* NULL where the section has no bytes in the file. */
	const guint8 *data;
	guint64 size_bytes;
	guint64 flags;
	guint64 entry_bytes;
	guint32 type;
	guint32 link;
	guint32 info;
} HvpElfSection;

typedef struct {
	/* Not checked for control characters: escape it before it is shown. */
	const char *name;
	guint64 value;
	guint64 size_bytes;
	/* A section's index, or SHN_UNDEF, SHN_ABS or HVP_ELF_SHN_LIVEPATCH. */
	guint32 section;
	guint8 type;
	guint8 binding;
} HvpElfSymbol;

typedef struct {
	guint64 offset;
	gint64 addend;
	guint32 symbol;
	guint32 type;
} HvpElfRelocation;

typedef struct HvpElf HvpElf;

/*
 * Checks and indexes [bytes, bytes + length_bytes), which must outlive the
 * result. UNSUPPORTED: not relocatable, not x86-64, compressed. BAD_DATA:
 * anything else that is wrong. Does not block.
 */
HvpElf *hvp_elf_new(const guint8 *bytes, gsize length_bytes,
		    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Takes NULL. */
void hvp_elf_free(HvpElf *self);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpElf, hvp_elf_free)

guint32 hvp_elf_section_count(const HvpElf *self);

/* @index below the count. */
const HvpElfSection *hvp_elf_section(const HvpElf *self, guint32 index);

/* The first section of that name, and its index if @ret_index is given; NULL: none. */
const HvpElfSection *hvp_elf_find_section(const HvpElf *self, const char *name, guint32 *ret_index);

guint32 hvp_elf_symbol_count(const HvpElf *self);

/* The index of the symbol table. */
guint32 hvp_elf_symbol_table(const HvpElf *self);

/* @index below the count. */
HvpElfSymbol hvp_elf_symbol(const HvpElf *self, guint32 index);

/* How many whole entries a section of type SHT_RELA has. */
guint64 hvp_elf_relocation_count(const HvpElfSection *rela);

/* @index below the count of @rela. */
HvpElfRelocation hvp_elf_relocation(const HvpElfSection *rela, guint64 index);

/* Whether the guest keeps or reads the section in memory (SHF_ALLOC). */
bool hvp_elf_section_is_loaded(const HvpElfSection *section);

/* The bytes of all loaded sections together. */
guint64 hvp_elf_loaded_bytes(const HvpElf *self);

/*
 * The string at @offset of a section; NULL if it does not end inside of it or is
 * longer than HVP_ELF_MAX_NAME_BYTES.
 */
const char *hvp_elf_string(const HvpElfSection *section, guint64 offset);
