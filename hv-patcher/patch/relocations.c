/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/relocations.h"

#include <elf.h>

#include "base/error.h"

/* A 32-bit field reaches a base within 4 GiB at most, so no sound addend is larger. */
#define RELOCATIONS_MAX_ADDEND_32 (G_GINT64_CONSTANT(1) << 32)
#define RELOCATIONS_UNKNOWN_TYPE G_MAXUINT

/* The bytes that a relocation writes: the types of arch/x86/kernel/module.c. */
static guint relocations_width_bytes(guint32 type)
{
	switch (type) {
	case R_X86_64_NONE:
		return 0;
	case R_X86_64_64:
	case R_X86_64_PC64:
		return 8;
	case R_X86_64_PC32:
	case R_X86_64_PLT32:
	case R_X86_64_32:
	case R_X86_64_32S:
		return 4;
	default:
		return RELOCATIONS_UNKNOWN_TYPE;
	}
}

static bool relocations_check_section(const HvpElf *elf, guint32 index, GError **error)
{
	const HvpElfSection *rela = hvp_elf_section(elf, index);

	if (rela->info == 0 || rela->info >= hvp_elf_section_count(elf) || rela->info == index)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "relocation section %u is for section %u of %u", index,
				     rela->info, hvp_elf_section_count(elf));
	if (rela->link != hvp_elf_symbol_table(elf))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "relocation section %u uses section %u for its symbols", index,
				     rela->link);
	if (rela->entry_bytes != sizeof(Elf64_Rela) || rela->size_bytes % sizeof(Elf64_Rela) != 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "relocation section %u has 0x%" G_GINT64_MODIFIER
				     "x bytes in entries of %" G_GUINT64_FORMAT,
				     index, rela->size_bytes, rela->entry_bytes);
	return true;
}

static bool relocations_check_loaded_entry(const HvpElfRelocation *entry, guint width_bytes,
					   GError **error)
{
	if (width_bytes == RELOCATIONS_UNKNOWN_TYPE)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "unknown type %u", entry->type);
	if (width_bytes == 4 && (entry->addend >= RELOCATIONS_MAX_ADDEND_32 ||
				 entry->addend <= -RELOCATIONS_MAX_ADDEND_32))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the addend 0x%" G_GINT64_MODIFIER "x does not fit",
				     (guint64)entry->addend);
	return true;
}

static bool relocations_check_entry(const HvpElf *elf, const HvpElfSection *target,
				    const HvpElfRelocation *entry, GError **error)
{
	guint width_bytes = relocations_width_bytes(entry->type);
	guint64 target_bytes = target->data == NULL ? 0 : target->size_bytes;

	if (entry->symbol >= hvp_elf_symbol_count(elf))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "symbol %u of %u", entry->symbol,
				     hvp_elf_symbol_count(elf));
	/* Debug sections may use types of their own; nothing ever applies them. */
	if (hvp_elf_section_is_loaded(target) &&
	    !relocations_check_loaded_entry(entry, width_bytes, error))
		return false;
	if (width_bytes == RELOCATIONS_UNKNOWN_TYPE)
		width_bytes = 0;
	if (width_bytes > target_bytes || entry->offset > target_bytes - width_bytes)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the place 0x%" G_GINT64_MODIFIER
				     "x lies outside of its section of 0x%" G_GINT64_MODIFIER
				     "x bytes",
				     entry->offset, target_bytes);
	return true;
}

static bool relocations_check_entries(const HvpElf *elf, guint32 index, GError **error)
{
	const HvpElfSection *rela = hvp_elf_section(elf, index);
	const HvpElfSection *target = hvp_elf_section(elf, rela->info);
	guint64 count = hvp_elf_relocation_count(rela);

	for (guint64 i = 0; i < count; i++) {
		HvpElfRelocation entry = hvp_elf_relocation(rela, i);

		if (relocations_check_entry(elf, target, &entry, error))
			continue;
		g_prefix_error(error, "relocation %" G_GUINT64_FORMAT " of section %u: ", i, index);
		return false;
	}
	return true;
}

bool hvp_relocations_check(const HvpElf *elf, GError **error)
{
	guint64 loaded_count = 0;

	for (guint32 i = 1; i < hvp_elf_section_count(elf); i++) {
		const HvpElfSection *rela = hvp_elf_section(elf, i);

		if (rela->type == SHT_REL)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "section %u holds relocations without addends", i);
		if (rela->type != SHT_RELA)
			continue;
		if (!relocations_check_section(elf, i, error))
			return false;
		if (hvp_elf_section_is_loaded(hvp_elf_section(elf, rela->info)))
			loaded_count += hvp_elf_relocation_count(rela);
		if (loaded_count > HVP_ELF_MAX_RELOCATIONS)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA, "more than %u relocations",
					     HVP_ELF_MAX_RELOCATIONS);
		if (!relocations_check_entries(elf, i, error))
			return false;
	}
	return true;
}
