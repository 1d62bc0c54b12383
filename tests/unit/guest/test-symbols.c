/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "base/bytes.h"
#include "guest/symbols.h"

#define ENTRY_BYTES 16U

static void add(HvpSymbols *symbols, const char *name, guint64 value, bool absolute)
{
	g_autoptr(GError) error = NULL;

	g_assert_true(hvp_symbols_add(symbols, name, value, absolute, 't', &error));
}

static HvpSymbols *sample(void)
{
	HvpSymbols *symbols = hvp_symbols_new();

	add(symbols, "same", 0x3000, false);
	add(symbols, "_text", 0, false);
	add(symbols, "per_cpu", 0x1000, true);
	add(symbols, "same", 0x1000, false);
	add(symbols, "alias_b", 0x2000, false);
	add(symbols, "alias_a", 0x2000, false);
	add(symbols, "same", 0x2800, false);
	add(symbols, "last", 0x4000, false);
	hvp_symbols_finish(symbols);
	return symbols;
}

static void assert_sample(const HvpSymbols *symbols)
{
	gsize first = 77;
	HvpSymbol symbol;
	guint64 end;

	g_assert_cmpuint(hvp_symbols_count(symbols), ==, 8);
	g_assert_cmpuint(hvp_symbols_find(symbols, "same", &first), ==, 3);
	g_assert_cmphex(hvp_symbols_by_name(symbols, first).value, ==, 0x1000);
	g_assert_cmphex(hvp_symbols_by_name(symbols, first + 1).value, ==, 0x2800);
	g_assert_cmphex(hvp_symbols_by_name(symbols, first + 2).value, ==, 0x3000);
	g_assert_true(hvp_symbols_find_address(symbols, 0x2abc, &symbol, &end));
	g_assert_cmpstr(symbol.name, ==, "same");
	g_assert_cmphex(end, ==, 0x3000);
}

static void test_by_name(void)
{
	g_autoptr(HvpSymbols) symbols = sample();
	gsize first = 77;

	assert_sample(symbols);
	g_assert_cmpuint(hvp_symbols_find(symbols, "sam", &first), ==, 0);
	g_assert_cmpuint(hvp_symbols_find(symbols, "same_", &first), ==, 0);
	g_assert_cmpuint(hvp_symbols_find(symbols, "", &first), ==, 0);
	g_assert_cmpuint(hvp_symbols_find(symbols, "zzz", &first), ==, 0);
	g_assert_cmpuint(first, ==, 77);
	g_assert_cmpuint(hvp_symbols_find(symbols, "_text", &first), ==, 1);
	g_assert_cmpuint(hvp_symbols_find(symbols, "per_cpu", &first), ==, 1);
	g_assert_true(hvp_symbols_by_name(symbols, first).absolute);
}

static void test_by_address(void)
{
	g_autoptr(HvpSymbols) symbols = sample();
	HvpSymbol symbol;
	guint64 end;

	/* The first of several at one address, as kallsyms lists them. */
	g_assert_true(hvp_symbols_find_address(symbols, 0x2000, &symbol, &end));
	g_assert_cmpstr(symbol.name, ==, "alias_b");
	g_assert_cmphex(end, ==, 0x2800);
	g_assert_true(hvp_symbols_find_address(symbols, 0x27ff, &symbol, &end));
	g_assert_cmpstr(symbol.name, ==, "alias_b");
	/* An absolute symbol has no place in the image. */
	g_assert_true(hvp_symbols_find_address(symbols, 0x1000, &symbol, &end));
	g_assert_cmpstr(symbol.name, ==, "same");
	g_assert_cmphex(end, ==, 0x2000);
	g_assert_true(hvp_symbols_find_address(symbols, 0, &symbol, &end));
	g_assert_cmpstr(symbol.name, ==, "_text");
	g_assert_true(hvp_symbols_find_address(symbols, G_MAXUINT64, &symbol, &end));
	g_assert_cmpstr(symbol.name, ==, "last");
	g_assert_cmphex(end, ==, G_MAXUINT64);
}

static void test_order(void)
{
	g_autoptr(HvpSymbols) symbols = sample();
	guint64 previous = 0;

	g_assert_true(hvp_symbols_get(symbols, 0).absolute);
	for (gsize i = 1; i < hvp_symbols_count(symbols); i++) {
		HvpSymbol symbol = hvp_symbols_get(symbols, i);

		g_assert_false(symbol.absolute);
		g_assert_cmpuint(symbol.value, >=, previous);
		previous = symbol.value;
	}
}

static void test_none(void)
{
	g_autoptr(HvpSymbols) empty = hvp_symbols_new();
	g_autoptr(HvpSymbols) absolute = hvp_symbols_new();
	HvpSymbol symbol;
	guint64 end;
	gsize first;

	hvp_symbols_finish(empty);
	g_assert_cmpuint(hvp_symbols_count(empty), ==, 0);
	g_assert_cmpuint(hvp_symbols_find(empty, "x", &first), ==, 0);
	g_assert_false(hvp_symbols_find_address(empty, 5, &symbol, &end));
	add(absolute, "a", 4, true);
	hvp_symbols_finish(absolute);
	g_assert_false(hvp_symbols_find_address(absolute, 5, &symbol, &end));
	hvp_symbols_free(NULL);
}

static void test_too_long(void)
{
	g_autoptr(HvpSymbols) symbols = hvp_symbols_new();
	g_autofree char *name = g_strnfill(HVP_SYMBOLS_MAX_NAME_BYTES, 'x');
	g_autoptr(GError) error = NULL;

	g_assert_false(hvp_symbols_add(symbols, name, 0, false, 't', &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	name[HVP_SYMBOLS_MAX_NAME_BYTES - 1] = 0;
	add(symbols, name, 0, false);
}

static void test_round_trip(void)
{
	g_autoptr(HvpSymbols) symbols = sample();
	g_autoptr(GBytes) bytes = hvp_symbols_serialize(symbols);
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpSymbols) again = hvp_symbols_deserialize(g_bytes_get_data(bytes, NULL),
							      g_bytes_get_size(bytes), &error);
	g_autoptr(GBytes) bytes_again = NULL;

	g_assert_no_error(error);
	assert_sample(again);
	bytes_again = hvp_symbols_serialize(again);
	g_assert_true(g_bytes_equal(bytes, bytes_again));
}

/* Looks at everything in a table that was believed. */
static void touch(const HvpSymbols *symbols)
{
	HvpSymbol symbol;
	guint64 end;
	gsize first;

	for (gsize i = 0; i < hvp_symbols_count(symbols); i++) {
		g_assert_cmpuint(strlen(hvp_symbols_get(symbols, i).name), <, 4096);
		g_assert_cmpuint(strlen(hvp_symbols_by_name(symbols, i).name), <, 4096);
	}
	hvp_symbols_find(symbols, "same", &first);
	hvp_symbols_find_address(symbols, 0x2000, &symbol, &end);
	hvp_symbols_find_address(symbols, G_MAXUINT64, &symbol, &end);
}

static bool believed(const guint8 *bytes, gsize length_bytes)
{
	g_autofree guint8 *exact = g_memdup2(bytes, length_bytes ? length_bytes : 1);
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpSymbols) symbols = hvp_symbols_deserialize(exact, length_bytes, &error);

	if (symbols == NULL)
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	else
		touch(symbols);
	return symbols != NULL;
}

static void test_truncated(void)
{
	g_autoptr(HvpSymbols) symbols = sample();
	g_autoptr(GBytes) bytes = hvp_symbols_serialize(symbols);
	gsize length_bytes;
	const guint8 *data = g_bytes_get_data(bytes, &length_bytes);

	for (gsize cut = 0; cut < length_bytes; cut++)
		g_assert_false(believed(data, cut));
	g_assert_true(believed(data, length_bytes));
}

static void test_indices(void)
{
	g_autoptr(HvpSymbols) symbols = sample();
	g_autoptr(GBytes) bytes = hvp_symbols_serialize(symbols);
	gsize length_bytes, count = hvp_symbols_count(symbols);
	g_autofree guint8 *data = g_memdup2(g_bytes_get_data(bytes, &length_bytes),
					    g_bytes_get_size(bytes));
	guint32 strings_bytes = hvp_load_u32(data + 4);
	guint32 saved;

	/* A name beyond the strings. */
	saved = hvp_load_u32(data + 8 + 8);
	hvp_store_u32(data + 8 + 8, strings_bytes);
	g_assert_false(believed(data, length_bytes));
	hvp_store_u32(data + 8 + 8, G_MAXUINT32);
	g_assert_false(believed(data, length_bytes));
	hvp_store_u32(data + 8 + 8, saved);
	/* An index by name beyond the entries. */
	hvp_store_u32(data + 8 + count * ENTRY_BYTES, (guint32)count);
	g_assert_false(believed(data, length_bytes));
	hvp_store_u32(data + 8 + count * ENTRY_BYTES, 0);
	/* Strings that do not end. */
	data[length_bytes - 1] = 'x';
	g_assert_false(believed(data, length_bytes));
	/* Counts that lie. */
	data[length_bytes - 1] = 0;
	for (guint i = 0; i < 2; i++) {
		saved = hvp_load_u32(data + i * 4);
		hvp_store_u32(data + i * 4, G_MAXUINT32);
		g_assert_false(believed(data, length_bytes));
		hvp_store_u32(data + i * 4, 1U << 31);
		g_assert_false(believed(data, length_bytes));
		hvp_store_u32(data + i * 4, saved);
	}
	g_assert_true(believed(data, length_bytes));
}

static void test_flipped(void)
{
	g_autoptr(HvpSymbols) symbols = sample();
	g_autoptr(GBytes) bytes = hvp_symbols_serialize(symbols);
	gsize length_bytes;
	g_autofree guint8 *data = g_memdup2(g_bytes_get_data(bytes, &length_bytes),
					    g_bytes_get_size(bytes));

	for (gsize at = 0; at < length_bytes; at++)
		for (guint bit = 0; bit < 8; bit++) {
			data[at] ^= 1U << bit;
			believed(data, length_bytes);
			data[at] ^= 1U << bit;
		}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/symbols/duplicates-by-name-IN-ADDRESS-ORDER", test_by_name);
	g_test_add_func("/symbols/by-address-FIRST-ALIAS-and-end", test_by_address);
	g_test_add_func("/symbols/absolute-ones-FIRST", test_order);
	g_test_add_func("/symbols/empty-FINDS-nothing", test_none);
	g_test_add_func("/symbols/name-of-1-KiB-REFUSED", test_too_long);
	g_test_add_func("/symbols/serialized-ROUND-TRIP", test_round_trip);
	g_test_add_func("/symbols/every-truncation-REFUSED", test_truncated);
	g_test_add_func("/symbols/indices-out-of-range-REFUSED", test_indices);
	g_test_add_func("/symbols/any-bit-flipped-SAFE", test_flipped);
	return g_test_run();
}
