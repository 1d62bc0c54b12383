/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/changes.h"

#include <string.h>

#define FUNCTION 0xffffffff81234560ULL
#define SLOT_RECORD 0xffff888001000000ULL

static HvpSite make_site(guint64 address, guint8 old_byte, guint8 new_byte)
{
	HvpSite site = { .site = hvp_gva(address), .length_bytes = 5 };

	memset(site.old_bytes, old_byte, site.length_bytes);
	memset(site.new_bytes, new_byte, site.length_bytes);
	return site;
}

/* A patch takes a function over from the one that it replaces: one write, from jump to jump. */
static void test_taken_over_ONE_CHANGE(void)
{
	g_autoptr(HvpChanges) changes = hvp_changes_new();
	HvpSite back = make_site(FUNCTION, 0xaa, 0x11), taken = make_site(FUNCTION, 0x11, 0xbb);
	const HvpTextChange *change;

	hvp_changes_add_text(changes, &back, hvp_gva(0));
	hvp_changes_add_text(changes, &taken, hvp_gva(SLOT_RECORD));
	g_assert_cmpuint(changes->text->len, ==, 1);
	change = &g_array_index(changes->text, HvpTextChange, 0);
	g_assert_cmpmem(change->site.old_bytes, 5, back.old_bytes, 5);
	g_assert_cmpmem(change->site.new_bytes, 5, taken.new_bytes, 5);
	g_assert_cmphex(change->slot_record.value, ==, SLOT_RECORD);
}

static void test_other_places_STAY_APART(void)
{
	g_autoptr(HvpChanges) changes = hvp_changes_new();
	HvpSite one = make_site(FUNCTION, 0xaa, 0x11), two = make_site(FUNCTION + 16, 0xaa, 0x22);

	hvp_changes_add_text(changes, &one, hvp_gva(0));
	hvp_changes_add_text(changes, &two, hvp_gva(0));
	/* Another length at the same place is a plan that the keeper will refuse. */
	one.length_bytes = 7;
	hvp_changes_add_text(changes, &one, hvp_gva(0));
	g_assert_cmpuint(changes->text->len, ==, 3);
}

/* What is planned next sees the text as it will be, as far as a site lies in the copy whole. */
static void test_overlay_WHOLE_SITES_ONLY(void)
{
	static const guint64 offsets[] = { 0, 3, 11, 15 };
	guint8 code[16];

	for (guint i = 0; i < G_N_ELEMENTS(offsets); i++) {
		g_autoptr(HvpChanges) changes = hvp_changes_new();
		HvpSite site = make_site(FUNCTION + offsets[i], 0xaa, 0x11);
		bool fits = offsets[i] + site.length_bytes <= sizeof code;

		hvp_changes_add_text(changes, &site, hvp_gva(0));
		memset(code, 0xcc, sizeof code);
		hvp_changes_overlay(changes, hvp_gva(FUNCTION), code, sizeof code);
		for (guint at = 0; at < sizeof code; at++) {
			bool inside = at >= offsets[i] && at < offsets[i] + site.length_bytes;

			g_assert_cmphex(code[at], ==, fits && inside ? 0x11 : 0xcc);
		}
	}
}

static void test_overlay_before_the_copy_NOTHING(void)
{
	g_autoptr(HvpChanges) changes = hvp_changes_new();
	HvpSite site = make_site(FUNCTION - 2, 0xaa, 0x11);
	guint8 code[16] = { 0 };
	static const guint8 zeros[16];

	hvp_changes_add_text(changes, &site, hvp_gva(0));
	hvp_changes_overlay(changes, hvp_gva(FUNCTION), code, sizeof code);
	g_assert_cmpmem(code, sizeof code, zeros, sizeof zeros);
}

static void test_released_BY_SLOT(void)
{
	g_autoptr(HvpChanges) changes = hvp_changes_new();
	HvpGva slot = hvp_gva(FUNCTION + 4);

	g_assert_false(hvp_changes_is_released(changes, slot));
	g_array_append_val(changes->released, slot);
	g_assert_true(hvp_changes_is_released(changes, slot));
	g_assert_false(hvp_changes_is_released(changes, hvp_gva(FUNCTION)));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/changes/taken-over-ONE-CHANGE", test_taken_over_ONE_CHANGE);
	g_test_add_func("/changes/other-places-STAY-APART", test_other_places_STAY_APART);
	g_test_add_func("/changes/overlay-WHOLE-SITES-ONLY", test_overlay_WHOLE_SITES_ONLY);
	g_test_add_func("/changes/overlay-before-the-copy-NOTHING",
			test_overlay_before_the_copy_NOTHING);
	g_test_add_func("/changes/released-BY-SLOT", test_released_BY_SLOT);
	return g_test_run();
}
