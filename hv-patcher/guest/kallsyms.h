/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decodes the kallsyms tables in a copy of the kernel image. They have no header
 * and no address that is known beforehand; the token table is recognised by its
 * digits ("0" to "9" are always tokens of their own) and its index.
 *
 *   before 6.4:  offsets, relative_base, num_syms, names, markers, [seqs_of_names (6.2)],
 *                token_table, token_index
 *   since 6.4:   num_syms, names, markers, token_table, token_index, offsets, relative_base,
 *                seqs_of_names
 *
 *   names   = name*            name = length u8 (ULEB128 of two bytes when its top bit is set,
 *                                     since 6.1), length * token index
 *   markers = u32[], the offset of each 256th name
 *   offsets = s32[]: with absolute per-CPU symbols (before 6.15) a value >= 0 is absolute and a
 *             negative one means relative_base - 1 - value; else u32 from relative_base
 *
 * Source: scripts/kallsyms.c, kernel/kallsyms.c.
 */
#pragma once

#include "guest/symbols.h"

/* A piece of the image. */
typedef struct {
	guint64 offset; /* from the base */
	guint64 length_bytes;
} HvpKallsymsPiece;

/* The offsets, the names, the tokens with their index. */
#define HVP_KALLSYMS_PIECES 3U

/*
 * Decodes the tables in [@image, @image + @length_bytes), the kernel mapped at @base.
 * UNSUPPORTED where there are none (no KALLSYMS) or they contradict themselves.
 * Both layouts are tried by what is there, not by version. @ret_pieces: all that the result was
 * made from.
 */
HvpSymbols *hvp_kallsyms_decode(const guint8 *image, gsize length_bytes, HvpGva base,
				HvpKallsymsPiece ret_pieces[HVP_KALLSYMS_PIECES], GError **error);
