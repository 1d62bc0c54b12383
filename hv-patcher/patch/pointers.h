/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the pointers in a module's tables point to. In a relocatable file a
 * pointer is zero bytes and a relocation; this index answers "what will the
 * pointer at this place be" without a scan for each question.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "patch/elf.h"

/* A place in a section of the file. */
typedef struct {
	guint32 section;
	guint64 offset;
} HvpPlace;

typedef struct {
	HvpPlace at;
	/* False: the target is not in this file. */
	bool is_inside;
	HvpPlace target;
	/* Index of the symbol by which the target is named. */
	guint32 symbol;
} HvpPointer;

typedef struct HvpPointers HvpPointers;

/*
 * Indexes @elf, which must outlive the result and have passed
 * hvp_relocations_check. BAD_DATA: two relocations for one pointer.
 */
HvpPointers *hvp_pointers_new(const HvpElf *elf, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Takes NULL. */
void hvp_pointers_free(HvpPointers *self);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpPointers, hvp_pointers_free)

/* The pointer that is stored at @at, NULL if there is none. */
const HvpPointer *hvp_pointers_at(const HvpPointers *self, HvpPlace at);

/* All pointers, ordered by section and offset. */
guint hvp_pointers_count(const HvpPointers *self);
const HvpPointer *hvp_pointers_nth(const HvpPointers *self, guint index);

/* The string that the pointer at @at leads to, NULL if there is no pointer or no string. */
const char *hvp_pointers_string(const HvpPointers *self, HvpPlace at);

/*
 * The function that starts where the pointer at @at leads. False if there is
 * no pointer or its target has no function symbol.
 */
bool hvp_pointers_function(const HvpPointers *self, HvpPlace at,
			   HvpElfSymbol *ret_symbol) G_GNUC_WARN_UNUSED_RESULT;

static inline HvpPlace hvp_place(guint32 section, guint64 offset)
{
	return (HvpPlace){ section, offset };
}

static inline HvpPlace hvp_place_add(HvpPlace place, guint64 bytes)
{
	return (HvpPlace){ place.section, place.offset + bytes };
}
