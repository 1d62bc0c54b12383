/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/bytes.h"

static const guint8 numbers[] = { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd,
				  0xef, 0x10, 0x32, 0x54, 0x76, 0x98 };

static void test_load(void)
{
	/* One past the start, so that no load is aligned. */
	g_assert_cmphex(hvp_load_u16(numbers + 1), ==, 0x4523);
	g_assert_cmphex(hvp_load_u32(numbers + 1), ==, 0x89674523);
	g_assert_cmphex(hvp_load_u64(numbers + 1), ==, G_GUINT64_CONSTANT(0x10efcdab89674523));
}

static void test_store(void)
{
	guint8 buffer[12] = { 0 };

	hvp_store_u16(buffer + 1, 0x4523);
	g_assert_cmpmem(buffer + 1, 2, numbers + 1, 2);
	hvp_store_u32(buffer + 1, 0x89674523);
	g_assert_cmpmem(buffer + 1, 4, numbers + 1, 4);
	hvp_store_u64(buffer + 1, G_GUINT64_CONSTANT(0x10efcdab89674523));
	g_assert_cmpmem(buffer + 1, 8, numbers + 1, 8);
	g_assert_cmphex(buffer[0], ==, 0);
	g_assert_cmphex(buffer[9], ==, 0);
}

static void test_cursor_in_order(void)
{
	HvpCursor cursor = hvp_cursor(numbers, sizeof numbers);

	g_assert_cmphex(hvp_cursor_u8(&cursor), ==, 0x01);
	g_assert_cmphex(hvp_cursor_u32(&cursor), ==, 0x89674523);
	g_assert_cmphex(hvp_cursor_u64(&cursor), ==, G_GUINT64_CONSTANT(0x9876543210efcdab));
	g_assert_false(cursor.failed);
	g_assert_cmpuint(cursor.offset_bytes, ==, sizeof numbers);
}

static void test_cursor_past_end(void)
{
	HvpCursor cursor = hvp_cursor(numbers, 5);

	g_assert_cmphex(hvp_cursor_u64(&cursor), ==, 0);
	g_assert_true(cursor.failed);
	/* Five bytes are there, but it stays failed. */
	g_assert_cmphex(hvp_cursor_u8(&cursor), ==, 0);
	g_assert_null(hvp_cursor_take(&cursor, 0));
	g_assert_cmpuint(cursor.offset_bytes, ==, 0);
}

static void test_cursor_huge_count(void)
{
	HvpCursor cursor = hvp_cursor(numbers, sizeof numbers);

	g_assert_nonnull(hvp_cursor_take(&cursor, 1));
	/* Offset + count wraps to 0. */
	g_assert_null(hvp_cursor_take(&cursor, G_MAXSIZE));
	g_assert_true(cursor.failed);
}

static void test_cursor_empty(void)
{
	HvpCursor cursor = hvp_cursor(numbers, 0);

	g_assert_true(hvp_cursor_take(&cursor, 0) == numbers);
	g_assert_false(cursor.failed);
	g_assert_cmphex(hvp_cursor_u8(&cursor), ==, 0);
	g_assert_true(cursor.failed);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/bytes/load-unaligned", test_load);
	g_test_add_func("/bytes/store-unaligned", test_store);
	g_test_add_func("/bytes/cursor-in-order-READ", test_cursor_in_order);
	g_test_add_func("/bytes/cursor-past-end-FAILED", test_cursor_past_end);
	g_test_add_func("/bytes/cursor-huge-count-FAILED", test_cursor_huge_count);
	g_test_add_func("/bytes/cursor-empty-FAILED", test_cursor_empty);
	return g_test_run();
}
