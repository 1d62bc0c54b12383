/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/ram.h"

static void test_new_merges(void)
{
	static const HvpRamRange ranges[] = {
		{{0x100000}, {0x200000}, {0x7f0000100000}},
		{{0}, {0x80000}, {0x7f0000000000}},
		{{0x80000}, {0x100000}, {0x7f0000080000}},
		{{0x200000}, {0x300000}, {0x7e0000000000}},
	};
	g_autoptr(HvpRam) ram = hvp_ram_new(ranges, G_N_ELEMENTS(ranges), NULL);
	const HvpRamRange *merged;
	gsize count;

	merged = hvp_ram_get_ranges(ram, &count);
	g_assert_cmpuint(count, ==, 2);
	g_assert_cmphex(merged[0].end.value, ==, 0x200000);
	g_assert_cmphex(hvp_ram_get_size_bytes(ram), ==, 0x300000);
	g_assert_true(hvp_ram_find(ram, hvp_gpa(0x1fffff)) == &merged[0]);
	g_assert_true(hvp_ram_find(ram, hvp_gpa(0x200000)) == &merged[1]);
	g_assert_null(hvp_ram_find(ram, hvp_gpa(0x300000)));
	g_assert_null(hvp_ram_find(ram, hvp_gpa(G_MAXUINT64)));
}

static void test_new_bad(void)
{
	static const HvpRamRange bad[][2] = {
		{{{0}, {0x2000}, {0x1000}}, {{0x1000}, {0x3000}, {0x9000}}},
		{{{0}, {0x1000}, {0x1000}}, {{0x2000}, {0x2000}, {0x9000}}},
		{{{0}, {0x1000}, {0x1000}}, {{0x3000}, {0x2000}, {0x9000}}},
		{{{0}, {0x2000}, {G_MAXUINT64 - 0xfff}}, {{0x3000}, {0x4000}, {0}}},
	};

	for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_null(hvp_ram_new(bad[i], 2, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
	g_assert_null(hvp_ram_new(bad[0], 0, NULL));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/ram/new/merges", test_new_merges);
	g_test_add_func("/ram/new/overlap-BAD_DATA", test_new_bad);
	return g_test_run();
}
