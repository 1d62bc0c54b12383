/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/blocks.h"

#include <string.h>

#define HERE 0xffffffffc0000000ULL

/*
 *  0: test edi, edi     block 1
 *  2: je 8
 *  4: xor eax, eax      block 2
 *  6: ret
 *  7: int3              padding
 *  8: call far away     block 3 (a call ends none)
 * 13: nop word [rax]
 * 17: jmp 4
 * 19: nop, int3         padding
 */
static const guint8 code[] = { 0x85, 0xff, 0x74, 0x04, 0x31, 0xc0, 0xc3, 0xcc, 0xe8, 0x00, 0x10,
			       0x00, 0x00, 0x0f, 0x1f, 0x40, 0x00, 0xeb, 0xf1, 0x90, 0xcc };

static HvpBlocks *make(void)
{
	HvpBlocks *blocks = hvp_blocks_new();

	g_assert_true(hvp_blocks_add(blocks, code, sizeof code, hvp_gva(HERE), NULL));
	hvp_blocks_divide(blocks);
	return blocks;
}

static void test_divide(void)
{
	static const guint64 starts[] = { 0, 4, 7, 8, 19, 20 };
	static const gboolean padding[] = { FALSE, FALSE, TRUE, FALSE, TRUE, TRUE };
	g_autoptr(HvpBlocks) blocks = make();

	g_assert_cmpuint(blocks->blocks->len, ==, G_N_ELEMENTS(starts));
	for (guint i = 0; i < blocks->blocks->len; i++) {
		const HvpBlocksBlock *block = &g_array_index(blocks->blocks, HvpBlocksBlock, i);
		const HvpBlocksInstruction *first = &g_array_index(
			blocks->instructions, HvpBlocksInstruction, block->first);

		g_assert_cmphex(first->address.value, ==, HERE + starts[i]);
		g_assert_cmpint(block->is_padding, ==, padding[i]);
	}
	g_assert_cmpuint(hvp_blocks_total(blocks), ==, 3);
	g_assert_cmpuint(hvp_blocks_executed(blocks), ==, 0);
	g_assert_cmpuint(blocks->undecoded_bytes, ==, 0);
}

static void test_coverage(void)
{
	g_autoptr(HvpBlocks) blocks = make();

	g_assert_true(hvp_blocks_count(blocks, hvp_gva(HERE), 3));
	g_assert_true(hvp_blocks_count(blocks, hvp_gva(HERE + 2), 3));
	g_assert_cmpuint(hvp_blocks_executed(blocks), ==, 1);
	g_assert_true(hvp_blocks_count(blocks, hvp_gva(HERE + 4), 1));
	g_assert_true(hvp_blocks_count(blocks, hvp_gva(HERE + 4), 1));
	g_assert_cmpuint(hvp_blocks_executed(blocks), ==, 2);
	g_assert_cmpuint(g_array_index(blocks->instructions, HvpBlocksInstruction, 2).count, ==, 2);
	/* An exception's way back may lead into the middle of a block. */
	g_assert_true(hvp_blocks_count(blocks, hvp_gva(HERE + 17), 1));
	g_assert_cmpuint(hvp_blocks_executed(blocks), ==, 3);
	/* Padding that runs is no block; and nothing begins within an instruction. */
	g_assert_true(hvp_blocks_count(blocks, hvp_gva(HERE + 7), 1));
	g_assert_cmpuint(hvp_blocks_executed(blocks), ==, 3);
	g_assert_false(hvp_blocks_count(blocks, hvp_gva(HERE + 1), 1));
	g_assert_false(hvp_blocks_count(blocks, hvp_gva(HERE - 1), 1));
	g_assert_false(hvp_blocks_count(blocks, hvp_gva(HERE + sizeof code), 1));
}

static void test_cold_part(void)
{
	/* jne to the cold part; ret -- and there: ud2; jmp back to the ret */
	static const guint8 hot[] = { 0x0f, 0x85, 0xfa, 0x0f, 0x00, 0x00, 0x90, 0xc3 };
	static const guint8 cold[] = { 0x0f, 0x0b, 0xe9, 0x00, 0xf0, 0xff, 0xff };
	g_autoptr(HvpBlocks) blocks = hvp_blocks_new();

	/* In either order. */
	g_assert_true(hvp_blocks_add(blocks, cold, sizeof cold, hvp_gva(HERE + 0x1000), NULL));
	g_assert_true(hvp_blocks_add(blocks, hot, sizeof hot, hvp_gva(HERE), NULL));
	hvp_blocks_divide(blocks);
	/* jne | nop | ret (a target) || ud2 | jmp */
	g_assert_cmpuint(hvp_blocks_total(blocks), ==, 5);
	g_assert_true(g_array_index(blocks->instructions, HvpBlocksInstruction, 3).is_target);
}

static void test_junk(void)
{
	/* 06 is no instruction in 64-bit mode. */
	static const guint8 junk[] = { 0x90, 0x06, 0x90 };
	g_autoptr(HvpBlocks) blocks = hvp_blocks_new();
	g_autoptr(GError) error = NULL;

	g_assert_true(hvp_blocks_add(blocks, junk, sizeof junk, hvp_gva(HERE), NULL));
	g_assert_cmpuint(blocks->undecoded_bytes, ==, 2);
	g_assert_false(hvp_blocks_add(blocks, junk, sizeof junk, hvp_gva(HERE), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	hvp_blocks_divide(blocks);
	g_assert_cmpuint(hvp_blocks_total(blocks), ==, 1);
}

/* What lies between the last function of a section and the next section. */
static void test_zeros(void)
{
	/* A call that does not return, at the end. */
	static const guint8 last[] = { 0x90, 0xe8, 0, 1, 0, 0, 0, 0, 0, 0, 0 };
	g_autoptr(HvpBlocks) blocks = hvp_blocks_new();

	g_assert_true(hvp_blocks_add(blocks, last, sizeof last, hvp_gva(HERE), NULL));
	hvp_blocks_divide(blocks);
	g_assert_cmpuint(blocks->undecoded_bytes, ==, 0);
	g_assert_cmpuint(hvp_blocks_total(blocks), ==, 1);
	g_assert_cmpuint(g_array_index(blocks->blocks, HvpBlocksBlock, 0).count, ==, 2);
}

static void test_limits(void)
{
	g_autofree guint8 *large = g_malloc0(HVP_BLOCKS_MAX_BYTES + 1);
	g_autoptr(HvpBlocks) blocks = hvp_blocks_new();
	g_autoptr(GError) error = NULL;

	g_assert_false(
		hvp_blocks_add(blocks, large, HVP_BLOCKS_MAX_BYTES + 1, hvp_gva(HERE), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	g_clear_error(&error);
	/* A range that wraps. */
	g_assert_false(hvp_blocks_add(blocks, large, 4096, hvp_gva(-100ULL), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	/* Nothing at all. */
	g_assert_true(hvp_blocks_add(blocks, large, 0, hvp_gva(HERE), NULL));
	hvp_blocks_divide(blocks);
	g_assert_cmpuint(hvp_blocks_total(blocks), ==, 0);
	g_assert_false(hvp_blocks_count(blocks, hvp_gva(HERE), 1));
}

/* Every instruction is in exactly one block, whatever the bytes are. */
static void test_random(void)
{
	for (guint round = 0; round < 300; round++) {
		g_autoptr(HvpBlocks) blocks = hvp_blocks_new();
		guint8 bytes[64];
		guint next = 0;

		for (guint i = 0; i < sizeof bytes; i++)
			bytes[i] = (guint8)g_test_rand_int();
		g_assert_true(hvp_blocks_add(blocks, bytes, sizeof bytes, hvp_gva(HERE), NULL));
		hvp_blocks_divide(blocks);
		for (guint i = 0; i < blocks->blocks->len; i++) {
			const HvpBlocksBlock *block = &g_array_index(blocks->blocks, HvpBlocksBlock,
								     i);

			g_assert_cmpuint(block->first, ==, next);
			g_assert_cmpuint(block->count, >, 0);
			next += block->count;
		}
		g_assert_cmpuint(next, ==, blocks->instructions->len);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/blocks/branches-and-padding-DIVIDED", test_divide);
	g_test_add_func("/blocks/counts-COVERAGE", test_coverage);
	g_test_add_func("/blocks/cold-part-LEADS-BACK", test_cold_part);
	g_test_add_func("/blocks/junk-and-overlap-BAD_DATA", test_junk);
	g_test_add_func("/blocks/zeros-behind-a-section-NO-BLOCK", test_zeros);
	g_test_add_func("/blocks/too-long-or-wrapping-BAD_DATA", test_limits);
	g_test_add_func("/blocks/random-bytes-PARTITION", test_random);
	return g_test_run();
}
