/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "guest/orc.h"
#include "synthetic-guest.h"

typedef struct {
	SyntheticGuest *guest;
	HvpKernel *kernel;
} Fixture;

static void set_up(Fixture *self, Generation generation)
{
	SyntheticOptions options = { .generation = generation };

	self->guest = synthetic_guest_new(&options);
	self->kernel = synthetic_guest_attach(self->guest);
}

static void tear_down(Fixture *self)
{
	hvp_kernel_free(self->kernel);
	synthetic_guest_free(self->guest);
}

static HvpOrcEntry find(const HvpOrc *orc, HvpGva pc)
{
	HvpOrcEntry entry = { 0 };

	g_assert_true(hvp_orc_find(orc, pc, &entry));
	return entry;
}

static void test_encodings(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		const char *fork = generation ? "ret_from_fork_asm" : "ret_from_fork";
		g_autoptr(GError) error = NULL;
		g_autoptr(HvpOrc) orc = NULL;
		HvpOrcEntry entry;
		Fixture f;

		set_up(&f, generation);
		orc = hvp_orc_load_image(f.kernel, &error);
		g_assert_no_error(error);
		entry = find(orc, synthetic_guest_symbol(f.guest, "__schedule"));
		g_assert_cmpint(entry.type, ==, HVP_ORC_CALL);
		g_assert_cmpint(entry.sp_reg, ==, HVP_ORC_REG_SP);
		g_assert_cmpint(entry.sp_offset, ==, 48);
		g_assert_cmpint(entry.bp_reg, ==, HVP_ORC_REG_PREV_SP);
		g_assert_cmpint(entry.bp_offset, ==, -16);
		g_assert_false(entry.signal);
		entry = find(orc, synthetic_guest_return_into(f.guest, "asm_sysvec"));
		g_assert_cmpint(entry.type, ==, HVP_ORC_REGS);
		g_assert_true(entry.signal);
		entry = find(orc, synthetic_guest_return_into(f.guest, "asm_exc_partial"));
		g_assert_cmpint(entry.type, ==, HVP_ORC_IRET);
		g_assert_true(entry.signal);
		entry = find(orc, synthetic_guest_return_into(f.guest, "no_orc"));
		g_assert_cmpint(entry.type, ==, HVP_ORC_UNDEFINED);
		entry = find(orc, synthetic_guest_symbol(f.guest, fork));
		g_assert_cmpint(entry.type, ==, HVP_ORC_END);
		entry = find(orc, synthetic_guest_symbol(f.guest, "bad_sp_reg"));
		g_assert_cmpint(entry.sp_reg, ==, 15);
		tear_down(&f);
	}
}

static void test_edges(void)
{
	g_autoptr(HvpOrc) orc = NULL;
	g_autoptr(HvpOrc) empty = NULL;
	HvpOrcEntry entry;
	HvpGva first;
	Fixture f;

	set_up(&f, GENERATION_6_1);
	orc = hvp_orc_load_image(f.kernel, NULL);
	first = synthetic_guest_symbol(f.guest, "startup_64");
	g_assert_false(hvp_orc_find(orc, hvp_gva(first.value - 1), &entry));
	g_assert_false(hvp_orc_find(orc, hvp_gva(0), &entry));
	g_assert_true(hvp_orc_find(orc, first, &entry));
	/* The last entry goes on; who looks it up knows the text's end. */
	g_assert_true(hvp_orc_find(orc, hvp_gva(G_MAXUINT64), &entry));
	empty = hvp_orc_load(f.kernel, f.guest->orc_ips, f.guest->orc_entries, 0, NULL);
	g_assert_nonnull(empty);
	g_assert_false(hvp_orc_find(empty, first, &entry));
	hvp_orc_free(NULL);
	tear_down(&f);
}

static void assert_refused(Fixture *self, HvpGva ips, HvpGva entries, guint64 count,
			   HvpErrorCode code)
{
	g_autoptr(GError) error = NULL;

	g_assert_null(hvp_orc_load(self->kernel, ips, entries, count, &error));
	g_assert_error(error, HVP_ERROR, (int)code);
}

static void test_bad_tables(void)
{
	Fixture f;
	guint8 *ips;

	set_up(&f, GENERATION_6_12);
	assert_refused(&f, f.guest->orc_ips, f.guest->orc_entries, HVP_ORC_MAX_ENTRIES + 1,
		       HVP_ERROR_BAD_DATA);
	assert_refused(&f, f.guest->orc_ips, f.guest->orc_entries, G_MAXUINT64, HVP_ERROR_BAD_DATA);
	assert_refused(&f, f.guest->orc_ips, hvp_gva(0x1000), 4, HVP_ERROR_FAULT);
	assert_refused(&f, hvp_gva(G_MAXUINT64 - 7), f.guest->orc_entries, 4, HVP_ERROR_FAULT);
	/* Runs out of the image. */
	assert_refused(&f, f.guest->orc_ips, f.guest->orc_entries, HVP_ORC_MAX_ENTRIES,
		       HVP_ERROR_FAULT);
	ips = synthetic_guest_bytes(f.guest, f.guest->orc_ips, 64);
	hvp_store_u32(ips + 20, hvp_load_u32(ips + 20) - 0x10000);
	assert_refused(&f, f.guest->orc_ips, f.guest->orc_entries, f.guest->orc_count,
		       HVP_ERROR_BAD_DATA);
	tear_down(&f);
}

static void test_no_tables(void)
{
	static const char *const names[] = { "__start_orc_unwind_ip", "__stop_orc_unwind_ip",
					     "__start_orc_unwind" };

	for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
		SyntheticOptions options = { .without = names[i] };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
		g_autoptr(GError) error = NULL;

		g_assert_null(hvp_orc_load_image(kernel, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
	}
}

/* All values that the bits of an entry can have. */
static void test_garbage(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		Fixture f;
		HvpGva pc;
		guint8 *entry;

		set_up(&f, generation);
		pc = synthetic_guest_symbol(f.guest, "__schedule");
		entry = synthetic_guest_bytes(f.guest, hvp_gva_add(f.guest->orc_entries, 6), 6);
		for (guint bits = 0; bits < 256; bits++) {
			g_autoptr(HvpOrc) orc = NULL;
			HvpOrcEntry found;

			entry[4] = (guint8)bits;
			entry[5] = (guint8)bits;
			orc = hvp_orc_load_image(f.kernel, NULL);
			found = find(orc, pc);
			g_assert_cmpuint(found.sp_reg, ==, bits & 15);
			g_assert_cmpuint(found.bp_reg, ==, bits >> 4);
			g_assert_cmpint(found.type, <=, HVP_ORC_IRET);
			if (generation == GENERATION_6_12)
				g_assert_cmpint(found.type, ==,
						(bits & 7) <= 4 ? (HvpOrcType)(bits & 7)
								: HVP_ORC_UNDEFINED);
			else if ((bits & 7) > 2 && (bits & 15) != 0)
				g_assert_cmpint(found.type, ==, HVP_ORC_UNDEFINED);
		}
		tear_down(&f);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/orc/both-encodings-DECODE", test_encodings);
	g_test_add_func("/orc/edges-of-table-FOUND", test_edges);
	g_test_add_func("/orc/unsorted-cut-off-too-many-REFUSED", test_bad_tables);
	g_test_add_func("/orc/no-tables-UNSUPPORTED", test_no_tables);
	g_test_add_func("/orc/garbage-entries-UNDEFINED", test_garbage);
	return g_test_run();
}
