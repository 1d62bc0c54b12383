/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "guest/text-sites.h"
#include "synthetic-guest.h"

typedef struct {
	SyntheticGuest *guest;
	HvpKernel *kernel;
	HvpTextSites *sites;
} Fixture;

static void set_up(Fixture *self, const SyntheticOptions *options)
{
	g_autoptr(GError) error = NULL;

	self->guest = synthetic_guest_new(options);
	self->kernel = synthetic_guest_attach(self->guest);
	self->sites = hvp_text_sites_read(self->kernel, &error);
	g_assert_no_error(error);
}

static void tear_down(Fixture *self)
{
	hvp_text_sites_free(self->sites);
	hvp_kernel_free(self->kernel);
	synthetic_guest_free(self->guest);
}

static HvpGvaRange around(Fixture *self, const char *name, guint start, guint end)
{
	HvpGva function = synthetic_guest_symbol(self->guest, name);

	return (HvpGvaRange){ hvp_gva_add(function, start), hvp_gva_add(function, end) };
}

static const struct {
	const char *function;
	guint offset;
	const char *kind;
	const char *table;
} known[] = { { "do_wait", 0x10, "a jump label lies at", "__start___jump_table" },
	      { "kthread", 0x18, "a static call lies at", "__start_static_call_sites" },
	      { "bp_frame", 0x30, "an exception-table entry lies at", "__start___ex_table" },
	      { "schedule", 0x40, "an SMP lock prefix lies at", "uniproc_patched" } };

static void test_each(void)
{
	SyntheticOptions options = { 0 };
	Fixture f;

	set_up(&f, &options);
	for (guint i = 0; i < G_N_ELEMENTS(known); i++) {
		guint at = known[i].offset;
		g_autoptr(GError) error = NULL;

		g_assert_false(hvp_text_sites_check(
			f.sites, around(&f, known[i].function, at, at + 1), &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
		g_assert_nonnull(strstr(error->message, known[i].kind));
		g_assert_false(hvp_text_sites_check(
			f.sites, around(&f, known[i].function, at - 4, at + 1), NULL));
		g_assert_true(hvp_text_sites_check(
			f.sites, around(&f, known[i].function, at - 5, at), NULL));
		g_assert_true(hvp_text_sites_check(
			f.sites, around(&f, known[i].function, at + 1, at + 6), NULL));
	}
	g_assert_true(hvp_text_sites_check(f.sites, around(&f, "deep", 0, 256), NULL));
	hvp_text_sites_free(NULL);
	tear_down(&f);
}

static void test_absent_tables(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(known); i++) {
		SyntheticOptions options = { .without = known[i].table };
		Fixture f;

		set_up(&f, &options);
		g_assert_true(
			hvp_text_sites_check(f.sites, around(&f, known[i].function, 0, 256), NULL));
		tear_down(&f);
	}
}

/* With several CPUs the lock prefixes stay as they are. */
static void test_smp(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
	g_autoptr(HvpTextSites) sites = NULL;
	HvpGva function = synthetic_guest_symbol(guest, "schedule");

	synthetic_guest_put(guest, synthetic_guest_symbol(guest, "uniproc_patched"), 0);
	sites = hvp_text_sites_read(kernel, NULL);
	g_assert_true(hvp_text_sites_check(
		sites, (HvpGvaRange){ function, hvp_gva_add(function, 256) }, NULL));
}

static void test_unknown_form(void)
{
	static const char *const missing[] = { "jump_entry", "static_call_site.addr",
					       "exception_table_entry.insn" };
	static const char *const without[] = { "__stop___jump_table", "__stop___ex_table",
					       "__smp_locks_end" };

	for (guint i = 0; i < G_N_ELEMENTS(missing) + G_N_ELEMENTS(without); i++) {
		SyntheticOptions options = { 0 };
		g_autoptr(SyntheticGuest) guest = NULL;
		g_autoptr(HvpKernel) kernel = NULL;
		g_autoptr(GError) error = NULL;

		if (i < G_N_ELEMENTS(missing))
			options.missing = missing[i];
		else
			options.without = without[i - G_N_ELEMENTS(missing)];
		guest = synthetic_guest_new(&options);
		kernel = synthetic_guest_attach(guest);
		g_assert_null(hvp_text_sites_read(kernel, &error));
		if (i < G_N_ELEMENTS(missing))
			g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
		else
			g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
	}
}

static HvpGva probe_of(Fixture *self)
{
	HvpGva table = synthetic_guest_symbol(self->guest, "kprobe_table");

	return hvp_gva(synthetic_guest_get(self->guest, hvp_gva_add(table, 17 * 8)));
}

static void assert_kprobes(Fixture *self, HvpErrorCode code)
{
	g_autoptr(GError) error = NULL;

	g_assert_false(
		hvp_text_sites_check_kprobes(self->kernel, around(self, "deep", 0, 256), &error));
	g_assert_error(error, HVP_ERROR, (int)code);
}

static void test_kprobes(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(GError) error = NULL;
	HvpGva other;
	Fixture f;

	set_up(&f, &options);
	g_assert_true(hvp_text_sites_check_kprobes(f.kernel, around(&f, "deep", 0, 256), NULL));
	g_assert_true(hvp_text_sites_check_kprobes(f.kernel, around(&f, "dx_frame", 1, 256), NULL));
	g_assert_false(
		hvp_text_sites_check_kprobes(f.kernel, around(&f, "dx_frame", 0, 1), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	/* A second one in the bucket. */
	other = synthetic_guest_alloc(f.guest, 64);
	synthetic_guest_put(f.guest, probe_of(&f), other.value);
	synthetic_guest_set(f.guest, other, HVP_AT_KPROBE_ADDRESS,
			    around(&f, "deep", 9, 9).start.value);
	assert_kprobes(&f, HVP_ERROR_CONFLICT);
	/* A bucket that leads nowhere, and one without an end. */
	synthetic_guest_put(f.guest, probe_of(&f), 0x4141414141414141);
	assert_kprobes(&f, HVP_ERROR_FAULT);
	synthetic_guest_put(f.guest, probe_of(&f), probe_of(&f).value);
	assert_kprobes(&f, HVP_ERROR_BAD_DATA);
	tear_down(&f);
}

static void test_no_kprobes(void)
{
	SyntheticOptions options = { .without = "kprobe_table" };
	SyntheticOptions unknown = { .missing = "kprobe.addr" };
	Fixture f;

	set_up(&f, &options);
	g_assert_true(hvp_text_sites_check_kprobes(f.kernel, around(&f, "dx_frame", 0, 9), NULL));
	tear_down(&f);
	set_up(&f, &unknown);
	assert_kprobes(&f, HVP_ERROR_UNSUPPORTED);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/text-sites/each-kind-in-range-UNSUPPORTED", test_each);
	g_test_add_func("/text-sites/absent-table-FINE", test_absent_tables);
	g_test_add_func("/text-sites/lock-prefixes-of-several-cpus-FINE", test_smp);
	g_test_add_func("/text-sites/table-of-unknown-form-REFUSED", test_unknown_form);
	g_test_add_func("/text-sites/kprobe-in-range-CONFLICT", test_kprobes);
	g_test_add_func("/text-sites/no-kprobes-FINE-unknown-UNSUPPORTED", test_no_kprobes);
	return g_test_run();
}
