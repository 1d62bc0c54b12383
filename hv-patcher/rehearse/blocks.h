/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A function's instructions and basic blocks, found in a copy of its code, and how often each
 * instruction ran. Pure.
 *
 *   add the parts (the function, its .cold parts) -> divide -> count -> read
 *
 * A block begins at the start of a part, at the target of a branch, and behind whatever does not
 * simply go on: branches, jumps, returns, traps. Calls do not end one. What the compiler fills up
 * with between blocks is padding and no block. An indirect jump's targets are not known: where
 * such code runs is seen all the same, only the blocks may be fewer than they are.
 */
#pragma once

#include "guest/instructions.h"

#define HVP_BLOCKS_MAX_BYTES (1U << 20) /* of all parts */

typedef struct {
	HvpGva address;
	const guint8 *bytes; /* owned by the blocks */
	HvpInstruction decoded;
	guint64 count;	    /* executions */
	gboolean is_target; /* of a branch in one of the parts */
} HvpBlocksInstruction;

typedef struct {
	guint first; /* index of its first instruction */
	guint count; /* of instructions */
	gboolean is_padding;
} HvpBlocksBlock;

typedef struct {
	GPtrArray *parts;     /* guint8 *: copies */
	GArray *instructions; /* HvpBlocksInstruction, by address */
	GArray *blocks;	      /* HvpBlocksBlock, in that order */
	gsize bytes;
	gsize undecoded_bytes; /* behind the first of a part that are no instruction; zeros apart */
} HvpBlocks;

HvpBlocks *hvp_blocks_new(void);
void hvp_blocks_free(HvpBlocks *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpBlocks, hvp_blocks_free)

/* Adds the code at @address, a copy. BAD_DATA: too long, or parts overlap. */
bool hvp_blocks_add(HvpBlocks *self, const guint8 *bytes, gsize length_bytes, HvpGva address,
		    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Finds the blocks, once all parts are there. */
void hvp_blocks_divide(HvpBlocks *self);

/* Adds @count executions of the instruction at @pc; false where none begins there. */
bool hvp_blocks_count(HvpBlocks *self, HvpGva pc, guint64 count);

/* Whether any of its instructions ran: an indirect jump may lead into the middle. */
bool hvp_blocks_ran(const HvpBlocks *self, const HvpBlocksBlock *block);

/* How many blocks there are, padding apart, and how many of them ran. */
guint hvp_blocks_total(const HvpBlocks *self);
guint hvp_blocks_executed(const HvpBlocks *self);
