/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/record.h"

#include <string.h>

#define SHA "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static HvpRecord *make_record(guint sites)
{
	HvpRecord *record = hvp_record_new("livepatch_test", SHA);

	record->applied_usec = 1234567890;
	record->klp_patch = hvp_gva(0xffffffffc0001000ULL);
	for (guint i = 0; i < sites; i++) {
		HvpRecordSite site = { .name = g_strdup_printf("function_%u", i), .position = i };

		site.old.start = hvp_gva(0xffffffff81000000ULL + i * 0x100);
		site.old.end = hvp_gva_add(site.old.start, 0x80);
		site.slot = site.old.start;
		site.new_function = hvp_gva(0xffffffffc0002000ULL + i * 0x100);
		site.site.site = hvp_gva_add(site.slot, 5);
		site.site.length_bytes = 7;
		memset(site.site.old_bytes, 0x90, 7);
		g_assert_true(hvp_plan_jump(&site.site, site.new_function, NULL));
		g_array_append_val(record->sites, site);
	}
	return record;
}

static void test_round_trip(void)
{
	g_autoptr(HvpRecord) record = make_record(3);
	g_autoptr(GBytes) bytes = hvp_record_encode(record);
	g_autoptr(HvpRecord) decoded = NULL;
	const HvpRecordSite *site;

	decoded = hvp_record_decode(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes),
				    "livepatch_test", NULL);
	g_assert_nonnull(decoded);
	g_assert_cmpstr(decoded->sha256, ==, SHA);
	g_assert_cmpint(decoded->applied_usec, ==, 1234567890);
	g_assert_cmphex(decoded->klp_patch.value, ==, 0xffffffffc0001000ULL);
	g_assert_cmpuint(decoded->sites->len, ==, 3);
	site = &g_array_index(decoded->sites, HvpRecordSite, 2);
	g_assert_cmpstr(site->name, ==, "function_2");
	g_assert_cmpuint(site->position, ==, 2);
	g_assert_cmphex(site->site.site.value, ==, 0xffffffff81000205ULL);
	g_assert_cmpmem(site->site.old_bytes, 7, "\x90\x90\x90\x90\x90\x90\x90", 7);
}

/* The guest's module loader takes the buffer for its argument string: it must be empty. */
static void test_starts_with_NUL(void)
{
	g_autoptr(HvpRecord) record = make_record(1);
	g_autoptr(GBytes) bytes = hvp_record_encode(record);

	g_assert_cmpint(*(const char *)g_bytes_get_data(bytes, NULL), ==, 0);
}

static void test_size_is_as_foretold(void)
{
	g_autoptr(HvpRecord) record = make_record(5);
	g_autoptr(GBytes) bytes = hvp_record_encode(record);

	g_assert_cmpuint(g_bytes_get_size(bytes), ==, hvp_record_size(5, 5 * strlen("function_0")));
}

static void test_cut_off_BAD_DATA(void)
{
	g_autoptr(HvpRecord) record = make_record(2);
	g_autoptr(GBytes) bytes = hvp_record_encode(record);

	for (gsize length = 0; length < g_bytes_get_size(bytes); length++) {
		g_autoptr(GError) error = NULL;
		g_autofree guint8 *copy = g_memdup2(g_bytes_get_data(bytes, NULL), length);

		g_assert_null(hvp_record_decode(copy, length, "x", &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
}

static void test_flipped_byte_BAD_DATA(void)
{
	g_autoptr(HvpRecord) record = make_record(2);
	g_autoptr(GBytes) bytes = hvp_record_encode(record);

	for (gsize at = 0; at < g_bytes_get_size(bytes); at++) {
		g_autoptr(GError) error = NULL;
		g_autofree guint8 *copy = g_memdup2(g_bytes_get_data(bytes, NULL),
						    g_bytes_get_size(bytes));

		copy[at] ^= 0x41;
		g_assert_null(hvp_record_decode(copy, g_bytes_get_size(bytes), "x", &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
}

/* The pause that puts the patch in force changes the state alone: the rest stays valid. */
static void test_state_change_DECODES(void)
{
	g_autoptr(HvpRecord) record = make_record(2);
	g_autoptr(GBytes) bytes = hvp_record_encode(record);
	g_autofree guint8 *copy = g_memdup2(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));

	for (guint in_force = 1;; in_force = 0) {
		g_autoptr(HvpRecord) decoded = NULL;
		HvpSite change;

		hvp_record_plan_state(hvp_gva(0), in_force, &change);
		g_assert_cmpmem(copy + change.site.value, change.length_bytes, change.old_bytes,
				change.length_bytes);
		memcpy(copy + change.site.value, change.new_bytes, change.length_bytes);
		decoded = hvp_record_decode(copy, g_bytes_get_size(bytes), "x", NULL);
		g_assert_nonnull(decoded);
		g_assert_cmpint(decoded->in_force, ==, in_force);
		if (!in_force)
			break;
	}
}

static void test_object_SURVIVES(void)
{
	g_autoptr(HvpRecord) record = make_record(2), decoded = NULL;
	g_autoptr(GBytes) bytes = NULL;
	HvpRecordSite *site = &g_array_index(record->sites, HvpRecordSite, 1);

	site->object = g_strdup("loop");
	site->module = hvp_gva(0xffffffffc0300000ULL);
	bytes = hvp_record_encode(record);
	decoded = hvp_record_decode(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), "x",
				    NULL);
	g_assert_nonnull(decoded);
	g_assert_null(g_array_index(decoded->sites, HvpRecordSite, 0).object);
	site = &g_array_index(decoded->sites, HvpRecordSite, 1);
	g_assert_cmpstr(site->object, ==, "loop");
	g_assert_cmphex(site->module.value, ==, 0xffffffffc0300000ULL);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/record/round-trip", test_round_trip);
	g_test_add_func("/record/starts-with-NUL", test_starts_with_NUL);
	g_test_add_func("/record/size-is-as-foretold", test_size_is_as_foretold);
	g_test_add_func("/record/cut-off-BAD_DATA", test_cut_off_BAD_DATA);
	g_test_add_func("/record/flipped-byte-BAD_DATA", test_flipped_byte_BAD_DATA);
	g_test_add_func("/record/state-change-DECODES", test_state_change_DECODES);
	g_test_add_func("/record/object-SURVIVES", test_object_SURVIVES);
	return g_test_run();
}
