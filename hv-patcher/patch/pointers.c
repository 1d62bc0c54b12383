/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/pointers.h"

#include <elf.h>
#include <stdlib.h>

#include "base/error.h"

/* Where a function starts, and its symbol. */
typedef struct {
	HvpPlace start;
	guint32 symbol;
} PointersFunction;

struct HvpPointers {
	const HvpElf *elf;
	/* Of HvpPointer, sorted by at. */
	GArray *pointers;
	/* Of PointersFunction, sorted by start, then by symbol. */
	GArray *functions;
};

static int pointers_compare_places(const HvpPlace *a, const HvpPlace *b)
{
	if (a->section != b->section)
		return a->section < b->section ? -1 : 1;
	return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static int pointers_compare(const void *left, const void *right)
{
	const HvpPointer *a = left;
	const HvpPointer *b = right;

	return pointers_compare_places(&a->at, &b->at);
}

static int pointers_compare_functions(const void *left, const void *right)
{
	const PointersFunction *a = left;
	const PointersFunction *b = right;
	int order = pointers_compare_places(&a->start, &b->start);

	return order != 0 ? order : a->symbol < b->symbol ? -1 : a->symbol > b->symbol;
}

/* Tables with pointers are data, and klp relocations are filled in by the guest. */
static bool pointers_section_counts(const HvpElf *elf, const HvpElfSection *rela)
{
	const HvpElfSection *target;

	if (rela->type != SHT_RELA || (rela->flags & HVP_ELF_SHF_RELA_LIVEPATCH) != 0)
		return false;
	target = hvp_elf_section(elf, rela->info);
	return hvp_elf_section_is_loaded(target) && (target->flags & SHF_EXECINSTR) == 0;
}

static HvpPointer pointers_resolve(const HvpElf *elf, guint32 section,
				   const HvpElfRelocation *relocation)
{
	HvpElfSymbol symbol = hvp_elf_symbol(elf, relocation->symbol);
	HvpPointer pointer = {
		.at = hvp_place(section, relocation->offset),
		.symbol = relocation->symbol,
	};
	/* Wraps as the machine's addition does; the range check below catches it. */
	guint64 offset = symbol.value + (guint64)relocation->addend;

	if (symbol.section == SHN_UNDEF || symbol.section >= hvp_elf_section_count(elf))
		return pointer;
	if (offset > hvp_elf_section(elf, symbol.section)->size_bytes)
		return pointer;
	pointer.is_inside = true;
	pointer.target = hvp_place(symbol.section, offset);
	return pointer;
}

static void pointers_collect_section(HvpPointers *self, const HvpElfSection *rela)
{
	guint64 count = hvp_elf_relocation_count(rela);

	for (guint64 i = 0; i < count; i++) {
		HvpElfRelocation relocation = hvp_elf_relocation(rela, i);
		HvpPointer pointer;

		/* klp-build turns what it has moved to klp relocations into NONE. */
		if (relocation.type != R_X86_64_64)
			continue;
		pointer = pointers_resolve(self->elf, rela->info, &relocation);
		g_array_append_val(self->pointers, pointer);
	}
}

static bool pointers_collect(HvpPointers *self, GError **error)
{
	for (guint32 i = 1; i < hvp_elf_section_count(self->elf); i++) {
		const HvpElfSection *rela = hvp_elf_section(self->elf, i);

		if (pointers_section_counts(self->elf, rela))
			pointers_collect_section(self, rela);
	}
	g_array_sort(self->pointers, pointers_compare);
	for (guint i = 1; i < self->pointers->len; i++) {
		const HvpPointer *pointer = hvp_pointers_nth(self, i);

		if (pointers_compare(hvp_pointers_nth(self, i - 1), pointer) == 0)
			return hvp_error_set(
				error, HVP_ERROR_BAD_DATA,
				"two relocations for the pointer at 0x%" G_GINT64_MODIFIER
				"x of section %u",
				pointer->at.offset, pointer->at.section);
	}
	return true;
}

static void pointers_collect_functions(HvpPointers *self)
{
	for (guint32 i = 1; i < hvp_elf_symbol_count(self->elf); i++) {
		HvpElfSymbol symbol = hvp_elf_symbol(self->elf, i);
		PointersFunction function = { hvp_place(symbol.section, symbol.value), i };

		if (symbol.type == STT_FUNC && symbol.section != SHN_UNDEF &&
		    symbol.section < hvp_elf_section_count(self->elf))
			g_array_append_val(self->functions, function);
	}
	g_array_sort(self->functions, pointers_compare_functions);
}

void hvp_pointers_free(HvpPointers *self)
{
	if (self == NULL)
		return;
	g_clear_pointer(&self->pointers, g_array_unref);
	g_clear_pointer(&self->functions, g_array_unref);
	g_free(self);
}

HvpPointers *hvp_pointers_new(const HvpElf *elf, GError **error)
{
	g_autoptr(HvpPointers) self = g_new0(HvpPointers, 1);

	self->elf = elf;
	self->pointers = g_array_new(FALSE, FALSE, sizeof(HvpPointer));
	self->functions = g_array_new(FALSE, FALSE, sizeof(PointersFunction));
	if (!pointers_collect(self, error))
		return NULL;
	pointers_collect_functions(self);
	return g_steal_pointer(&self);
}

guint hvp_pointers_count(const HvpPointers *self)
{
	return self->pointers->len;
}

const HvpPointer *hvp_pointers_nth(const HvpPointers *self, guint index)
{
	return &g_array_index(self->pointers, HvpPointer, index);
}

const HvpPointer *hvp_pointers_at(const HvpPointers *self, HvpPlace at)
{
	HvpPointer key = { .at = at };

	if (self->pointers->len == 0)
		return NULL;
	return bsearch(&key, self->pointers->data, self->pointers->len, sizeof key,
		       pointers_compare);
}

const char *hvp_pointers_string(const HvpPointers *self, HvpPlace at)
{
	const HvpPointer *pointer = hvp_pointers_at(self, at);

	if (pointer == NULL || !pointer->is_inside)
		return NULL;
	return hvp_elf_string(hvp_elf_section(self->elf, pointer->target.section),
			      pointer->target.offset);
}

/* The first function of several at one place: that is the file's own order. */
static const PointersFunction *pointers_find_function(const HvpPointers *self, HvpPlace start)
{
	guint low = 0;
	guint high = self->functions->len;

	while (low < high) {
		guint middle = low + (high - low) / 2;
		const PointersFunction *function =
			&g_array_index(self->functions, PointersFunction, middle);

		if (pointers_compare_places(&function->start, &start) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < self->functions->len ? &g_array_index(self->functions, PointersFunction, low)
					  : NULL;
}

bool hvp_pointers_function(const HvpPointers *self, HvpPlace at, HvpElfSymbol *ret_symbol)
{
	const HvpPointer *pointer = hvp_pointers_at(self, at);
	const PointersFunction *function;

	if (pointer == NULL || !pointer->is_inside)
		return false;
	function = pointers_find_function(self, pointer->target);
	if (function == NULL || pointers_compare_places(&function->start, &pointer->target) != 0)
		return false;
	*ret_symbol = hvp_elf_symbol(self->elf, function->symbol);
	return true;
}
