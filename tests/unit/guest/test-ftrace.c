/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "guest/ftrace.h"
#include "synthetic-guest.h"

typedef struct {
	SyntheticGuest *guest;
	HvpKernel *kernel;
	HvpGva page[2];
} Fixture;

static void set_up(Fixture *self, Generation generation)
{
	SyntheticOptions options = { .generation = generation };
	HvpGva start;

	self->guest = synthetic_guest_new(&options);
	self->kernel = synthetic_guest_attach(self->guest);
	start = synthetic_guest_symbol(self->guest, "ftrace_pages_start");
	self->page[0] = hvp_gva(synthetic_guest_get(self->guest, start));
	self->page[1] = hvp_gva(
		synthetic_guest_get(self->guest, synthetic_guest_member(self->guest, self->page[0],
									HVP_AT_FTRACE_PAGE_NEXT)));
}

static void tear_down(Fixture *self)
{
	hvp_kernel_free(self->kernel);
	synthetic_guest_free(self->guest);
}

static void test_find(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(HvpFtrace) ftrace = NULL;
		HvpFtraceRecord record;
		HvpGva plain, behind_endbr;
		guint64 flags;
		Fixture f;

		set_up(&f, generation);
		ftrace = hvp_ftrace_read(f.kernel, &error);
		g_assert_no_error(error);
		plain = synthetic_guest_symbol(f.guest, "do_wait");
		behind_endbr = synthetic_guest_symbol(f.guest, "between");
		g_assert_true(hvp_ftrace_find(ftrace, plain, &record, NULL));
		g_assert_cmphex(record.ip.value, ==, plain.value);
		g_assert_cmpuint(record.flags, ==, 1);
		g_assert_true(hvp_ftrace_find(ftrace, behind_endbr, &record, NULL));
		g_assert_cmphex(record.ip.value, ==, behind_endbr.value + 4);
		/* Its flags change. */
		synthetic_guest_set(f.guest, record.record, HVP_AT_FTRACE_FLAGS, 0x77);
		g_assert_true(hvp_ftrace_read_flags(f.kernel, record.record, &flags, NULL));
		g_assert_cmphex(flags, ==, 0x77);
		g_assert_false(hvp_ftrace_read_flags(f.kernel, hvp_gva(0x1000), &flags, NULL));
		/* One byte off, and a function that has none. */
		for (guint i = 1; i < 9; i++)
			g_assert_cmpint(hvp_ftrace_find(ftrace, hvp_gva(behind_endbr.value + i),
							&record, NULL),
					==, i == 4);
		g_assert_false(hvp_ftrace_find(ftrace, synthetic_guest_symbol(f.guest, "deep"),
					       &record, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
		tear_down(&f);
	}
	hvp_ftrace_free(NULL);
}

static void test_flags(void)
{
	const struct {
		HvpLayoutItem item;
		HvpErrorCode code;
	} bad[] = { { HVP_AT_FTRACE_FL_IPMODIFY, HVP_ERROR_CONFLICT },
		    { HVP_AT_FTRACE_FL_DISABLED, HVP_ERROR_UNSUPPORTED } };
	Fixture f;

	set_up(&f, GENERATION_6_1);
	g_assert_true(hvp_ftrace_check_flags(f.kernel, 0x1234, "f", NULL));
	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_false(hvp_ftrace_check_flags(
			f.kernel, hvp_layout_get(&f.guest->layout, bad[i].item) | 3, "the_name",
			&error));
		g_assert_error(error, HVP_ERROR, (int)bad[i].code);
		g_assert_nonnull(strstr(error->message, "the_name"));
	}
	tear_down(&f);
}

static void test_unsupported(void)
{
	const SyntheticOptions all[] = { { .without = "ftrace_pages_start" },
					 { .missing = "dyn_ftrace" },
					 { .missing = "ftrace_page.index" },
					 { .missing = "FTRACE_FL_IPMODIFY" } };

	for (guint i = 0; i < G_N_ELEMENTS(all); i++) {
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&all[i]);
		g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
		g_autoptr(GError) error = NULL;

		g_assert_null(hvp_ftrace_read(kernel, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
	}
}

static void assert_refused(Fixture *self, HvpErrorCode code)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpFtrace) ftrace = hvp_ftrace_read(self->kernel, &error);

	g_assert_null(ftrace);
	g_assert_error(error, HVP_ERROR, (int)code);
}

static void test_pages(void)
{
	Fixture f;

	set_up(&f, GENERATION_6_1);
	/* More records than there are; more than any kernel has; none to be read. */
	synthetic_guest_set(f.guest, f.page[1], HVP_AT_FTRACE_PAGE_INDEX, 4U << 20);
	assert_refused(&f, HVP_ERROR_BAD_DATA);
	synthetic_guest_set(f.guest, f.page[1], HVP_AT_FTRACE_PAGE_INDEX, 1U << 20);
	assert_refused(&f, HVP_ERROR_FAULT);
	synthetic_guest_set(f.guest, f.page[1], HVP_AT_FTRACE_PAGE_INDEX, G_MAXUINT32);
	assert_refused(&f, HVP_ERROR_BAD_DATA);
	synthetic_guest_set(f.guest, f.page[1], HVP_AT_FTRACE_PAGE_INDEX, 1);
	synthetic_guest_set(f.guest, f.page[1], HVP_AT_FTRACE_PAGE_RECORDS, G_MAXUINT64 - 7);
	assert_refused(&f, HVP_ERROR_FAULT);
	synthetic_guest_set(f.guest, f.page[1], HVP_AT_FTRACE_PAGE_INDEX, 0);
	synthetic_guest_set(f.guest, f.page[1], HVP_AT_FTRACE_PAGE_NEXT, 0x1000);
	assert_refused(&f, HVP_ERROR_FAULT);
	/* A loop. */
	synthetic_guest_set(f.guest, f.page[1], HVP_AT_FTRACE_PAGE_NEXT, f.page[0].value);
	assert_refused(&f, HVP_ERROR_BAD_DATA);
	tear_down(&f);
}

/* A record as large as the guest likes would be allocated a million times. */
static void test_record_size(void)
{
	static const guint32 sizes[] = { 0, 20, 257, 1U << 20 };

	for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
		SyntheticOptions options = { 0 };
		Fixture f = { .guest = synthetic_guest_new(&options) };
		guint8 *btf = synthetic_guest_bytes(f.guest, f.guest->btf, 0x10000);
		gsize types_bytes = hvp_load_u32(btf + 12);
		const guint8 *strings = btf + 24 + types_bytes;
		const guint8 *name = memmem(strings, 0x8000, "dyn_ftrace", 11);

		for (gsize at = 24; at < 24 + types_bytes; at += 4)
			if (hvp_load_u32(btf + at) == (guint32)(name - strings))
				hvp_store_u32(btf + at + 8, sizes[i]);
		f.kernel = synthetic_guest_attach(f.guest);
		assert_refused(&f, HVP_ERROR_BAD_DATA);
		tear_down(&f);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/ftrace/slot-at-entry-or-behind-endbr-FOUND", test_find);
	g_test_add_func("/ftrace/ipmodify-CONFLICT-disabled-UNSUPPORTED", test_flags);
	g_test_add_func("/ftrace/missing-UNSUPPORTED", test_unsupported);
	g_test_add_func("/ftrace/bad-pages-REFUSED", test_pages);
	g_test_add_func("/ftrace/record-size-lies-BAD_DATA", test_record_size);
	return g_test_run();
}
