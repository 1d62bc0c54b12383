/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/blocks.h"

#include <stdlib.h>
#include <string.h>

HvpBlocks *hvp_blocks_new(void)
{
	HvpBlocks *self = g_new0(HvpBlocks, 1);

	self->parts = g_ptr_array_new_with_free_func(g_free);
	self->instructions = g_array_new(FALSE, TRUE, sizeof(HvpBlocksInstruction));
	self->blocks = g_array_new(FALSE, TRUE, sizeof(HvpBlocksBlock));
	return self;
}

void hvp_blocks_free(HvpBlocks *self)
{
	if (self == NULL)
		return;
	g_ptr_array_unref(self->parts);
	g_array_unref(self->instructions);
	g_array_unref(self->blocks);
	g_free(self);
}

static HvpBlocksInstruction *instruction_at(const HvpBlocks *self, guint index)
{
	return &g_array_index(self->instructions, HvpBlocksInstruction, index);
}

static HvpGva end_of(const HvpBlocksInstruction *instruction)
{
	return hvp_gva_add(instruction->address, instruction->decoded.length_bytes);
}

static int compare(gconstpointer a, gconstpointer b)
{
	const HvpBlocksInstruction *one = a, *other = b;

	return one->address.value < other->address.value   ? -1
	       : one->address.value > other->address.value ? 1
							   : 0;
}

static HvpBlocksInstruction *find(const HvpBlocks *self, HvpGva pc)
{
	HvpBlocksInstruction key = { .address = pc };

	if (self->instructions->len == 0)
		return NULL;
	return bsearch(&key, self->instructions->data, self->instructions->len, sizeof key,
		       compare);
}

static bool overlaps(const HvpBlocks *self, HvpGva start, gsize length_bytes)
{
	HvpGvaRange wanted = { start, hvp_gva_add(start, length_bytes) };

	for (guint i = 0; i < self->instructions->len; i++) {
		const HvpBlocksInstruction *instruction = instruction_at(self, i);
		HvpGvaRange range = { instruction->address, end_of(instruction) };

		if (hvp_gva_range_overlaps(range, wanted))
			return true;
	}
	return false;
}

bool hvp_blocks_add(HvpBlocks *self, const guint8 *bytes, gsize length_bytes, HvpGva address,
		    GError **error)
{
	guint8 *copy;
	gsize at = 0;

	if (length_bytes > HVP_BLOCKS_MAX_BYTES - self->bytes)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the function at 0x%" G_GINT64_MODIFIER
				     "x is longer than %u bytes",
				     address.value, HVP_BLOCKS_MAX_BYTES);
	if (address.value + length_bytes < address.value || overlaps(self, address, length_bytes))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "parts of a function overlap at 0x%" G_GINT64_MODIFIER "x",
				     address.value);
	copy = g_memdup2(bytes, length_bytes);
	g_ptr_array_add(self->parts, copy);
	self->bytes += length_bytes;
	while (at < length_bytes) {
		HvpBlocksInstruction instruction = { .address = hvp_gva_add(address, at),
						     .bytes = copy + at };

		if (!hvp_instructions_decode(copy + at, length_bytes - at, instruction.address,
					     &instruction.decoded, NULL))
			break;
		g_array_append_val(self->instructions, instruction);
		at += instruction.decoded.length_bytes;
	}
	while (length_bytes > at && copy[length_bytes - 1] == 0)
		length_bytes--;
	self->undecoded_bytes += length_bytes - at;
	return true;
}

static bool has_target(const HvpInstruction *instruction)
{
	return instruction->kind == HVP_INSTRUCTION_JUMP ||
	       instruction->kind == HVP_INSTRUCTION_BRANCH;
}

static bool ends_block(const HvpInstruction *instruction)
{
	return has_target(instruction) || instruction->kind == HVP_INSTRUCTION_AWAY ||
	       instruction->kind == HVP_INSTRUCTION_TRAP ||
	       instruction->kind == HVP_INSTRUCTION_BREAKPOINT;
}

/* int3; and the zeros behind the last function of a section, which decode as additions. */
static bool is_no_code(const HvpBlocksInstruction *instruction)
{
	return instruction->decoded.kind == HVP_INSTRUCTION_BREAKPOINT ||
	       (instruction->decoded.length_bytes == 2 && instruction->bytes[0] == 0 &&
		instruction->bytes[1] == 0);
}

/* The above, or a NOP of any length: 90 or 0f 1f behind prefixes 66, 2e. */
static bool is_filling(const HvpBlocksInstruction *instruction)
{
	const guint8 *bytes = instruction->bytes;
	guint length = instruction->decoded.length_bytes, at = 0;

	if (is_no_code(instruction))
		return true;
	while (at < length && (bytes[at] == 0x66 || bytes[at] == 0x2e))
		at++;
	return (at + 1 == length && bytes[at] == 0x90) ||
	       (at + 1 < length && bytes[at] == 0x0f && bytes[at + 1] == 0x1f);
}

static bool begins_part(const HvpBlocks *self, guint index)
{
	return index == 0 || end_of(instruction_at(self, index - 1)).value !=
				     instruction_at(self, index)->address.value;
}

static bool begins_block(const HvpBlocks *self, guint index)
{
	const HvpBlocksInstruction *here = instruction_at(self, index), *before;

	if (begins_part(self, index) || here->is_target)
		return true;
	before = here - 1;
	/* Behind a call that never returns the function may end. */
	return ends_block(&before->decoded) || (is_no_code(here) && !is_no_code(before));
}

/* Filling that is jumped to (a loop's alignment is not) or run into is code. */
static bool is_padding(const HvpBlocks *self, const HvpBlocksBlock *block)
{
	const HvpBlocksInstruction *before;

	if (begins_part(self, block->first) || instruction_at(self, block->first)->is_target)
		return false;
	before = instruction_at(self, block->first - 1);
	if (before->decoded.kind == HVP_INSTRUCTION_BRANCH)
		return false;
	for (guint i = 0; i < block->count; i++)
		if (!is_filling(instruction_at(self, block->first + i)))
			return false;
	return true;
}

void hvp_blocks_divide(HvpBlocks *self)
{
	guint first = 0;

	g_array_sort(self->instructions, compare);
	g_array_set_size(self->blocks, 0);
	for (guint i = 0; i < self->instructions->len; i++) {
		const HvpInstruction *decoded = &instruction_at(self, i)->decoded;
		HvpBlocksInstruction *target = has_target(decoded) ? find(self, decoded->target)
								   : NULL;

		if (target != NULL)
			target->is_target = TRUE;
	}
	for (guint i = 1; i <= self->instructions->len; i++) {
		HvpBlocksBlock block = { first, i - first, FALSE };

		if (i < self->instructions->len && !begins_block(self, i))
			continue;
		block.is_padding = is_padding(self, &block);
		g_array_append_val(self->blocks, block);
		first = i;
	}
}

bool hvp_blocks_count(HvpBlocks *self, HvpGva pc, guint64 count)
{
	HvpBlocksInstruction *instruction = find(self, pc);

	if (instruction == NULL)
		return false;
	instruction->count += count;
	return true;
}

bool hvp_blocks_ran(const HvpBlocks *self, const HvpBlocksBlock *block)
{
	for (guint i = 0; i < block->count; i++)
		if (instruction_at(self, block->first + i)->count > 0)
			return true;
	return false;
}

guint hvp_blocks_total(const HvpBlocks *self)
{
	guint total = 0;

	for (guint i = 0; i < self->blocks->len; i++)
		if (!g_array_index(self->blocks, HvpBlocksBlock, i).is_padding)
			total++;
	return total;
}

guint hvp_blocks_executed(const HvpBlocks *self)
{
	guint executed = 0;

	for (guint i = 0; i < self->blocks->len; i++) {
		const HvpBlocksBlock *block = &g_array_index(self->blocks, HvpBlocksBlock, i);

		if (!block->is_padding && hvp_blocks_ran(self, block))
			executed++;
	}
	return executed;
}
