/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kallsyms tables made up by tests, in both layouts. Asserts on every failure of its own. */
#pragma once

#include "base/address.h"

typedef struct KallsymsMaker KallsymsMaker;

typedef enum { KALLSYMS_BEFORE_6_4, KALLSYMS_SINCE_6_4 } KallsymsLayout;
/* Whether per-CPU symbols are absolute and all others negative, or all are relative. */
typedef enum { KALLSYMS_ABSOLUTE_PERCPU, KALLSYMS_RELATIVE } KallsymsOffsets;

/* Where the tables were put. */
typedef struct {
	gsize start, offsets, relative_base, count, names, markers, token_table, token_index, end;
} KallsymsPlaces;

KallsymsMaker *kallsyms_maker_new(void);
void kallsyms_maker_free(KallsymsMaker *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KallsymsMaker, kallsyms_maker_free)

void kallsyms_maker_add(KallsymsMaker *self, const char *name, char type, guint64 value,
			bool absolute);

guint kallsyms_maker_count(KallsymsMaker *self);

/* Writes the tables into @image at @at, a multiple of 8. */
KallsymsPlaces kallsyms_maker_write(KallsymsMaker *self, KallsymsLayout layout,
				    KallsymsOffsets offsets, HvpGva base, guint8 *image,
				    gsize image_bytes, gsize at);
