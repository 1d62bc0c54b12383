/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "guest/kernel.h"
#include "synthetic-guest.h"

static void assert_refused(SyntheticGuest *guest, HvpErrorCode code, const char *word)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpKernel) kernel = hvp_kernel_attach(&guest->memory->base, &guest->registers, 1,
							NULL, &error);

	g_assert_null(kernel);
	g_assert_error(error, HVP_ERROR, (int)code);
	if (strstr(error->message, word) == NULL)
		g_error("\"%s\" does not say \"%s\"", error->message, word);
}

static void test_attach(void)
{
	for (guint i = 0; i < 16; i++) {
		SyntheticOptions options = { .generation = i & 1,
					     .five_levels = i & 2,
					     .small_pages = i & 4,
					     .isolated = i & 8 };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
		HvpGvaRange text = hvp_kernel_get_text(kernel);

		g_assert_cmpstr(hvp_kernel_get_release(kernel), ==, "6.1.0-synthetic");
		g_assert_cmpstr(hvp_kernel_get_banner(kernel), ==,
				"Linux version 6.1.0-synthetic (tests@example) (gcc) #1 SMP");
		g_assert_cmpstr(hvp_kernel_get_build_id(kernel), ==,
				"010c17222d38434e59646f7a85909ba6b1bcc7d2");
		g_assert_cmpuint(hvp_kernel_get_stack_bytes(kernel), ==, SYNTHETIC_STACK_BYTES);
		g_assert_cmpuint(hvp_kernel_get_cpu_count(kernel), ==, SYNTHETIC_CPUS);
		g_assert_false(hvp_kernel_was_cached(kernel));
		g_assert_cmphex(text.start.value, ==, SYNTHETIC_BASE);
		g_assert_cmphex(hvp_gva_range_size(text), ==, SYNTHETIC_TEXT_BYTES);
		g_assert_true(hvp_kernel_is_mapped_by(kernel, guest->registers.cr3));
		g_assert_cmphex(hvp_kernel_get_location(kernel)->cr3, ==, guest->root_gpa);
		g_assert_cmpint(
			memcmp(hvp_kernel_get_layout(kernel), &guest->layout, sizeof guest->layout),
			==, 0);
	}
}

static void test_symbols(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
	g_autoptr(GError) error = NULL;
	const char *name;
	HvpGvaRange range;
	HvpGva address;

	g_assert_true(hvp_kernel_symbol(kernel, "schedule", &address, &error));
	g_assert_cmphex(address.value, ==, synthetic_guest_symbol(guest, "schedule").value);
	g_assert_false(hvp_kernel_symbol(kernel, "absent", &address, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
	g_clear_error(&error);
	g_assert_false(hvp_kernel_symbol(kernel, "duplicate", &address, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_AMBIGUOUS);
	g_assert_true(hvp_kernel_has_symbol(kernel, "duplicate"));
	g_assert_true(hvp_kernel_has_symbol_at(kernel, "duplicate", 2));
	g_assert_false(hvp_kernel_has_symbol_at(kernel, "duplicate", 3));
	g_assert_false(hvp_kernel_has_symbol_at(kernel, "duplicate", 0));
	g_assert_true(hvp_kernel_has_symbol_at(kernel, "schedule", 0));
	g_assert_false(hvp_kernel_has_symbol(kernel, "absent"));
	address = synthetic_guest_return_into(guest, "do_wait");
	g_assert_true(hvp_kernel_find_address(kernel, address, &name, &range));
	g_assert_cmpstr(name, ==, "do_wait");
	g_assert_cmphex(hvp_gva_range_size(range), ==, SYNTHETIC_FUNCTION_BYTES);
	/* The last symbol ends with the image. */
	address = hvp_gva(SYNTHETIC_BASE + SYNTHETIC_IMAGE_BYTES - 1);
	g_assert_true(hvp_kernel_find_address(kernel, address, &name, &range));
	g_assert_cmphex(range.end.value, ==, address.value + 1);
	g_assert_false(hvp_kernel_find_address(kernel, hvp_gva(address.value + 1), &name, &range));
	g_assert_false(hvp_kernel_find_address(kernel, hvp_gva(0), &name, &range));
}

static void test_positions(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
	HvpGva first = synthetic_guest_symbol(guest, "duplicate");
	g_autoptr(GError) error = NULL;
	HvpGvaRange range;

	g_assert_true(hvp_kernel_function(kernel, "duplicate", 1, &range, &error));
	g_assert_cmphex(range.start.value, ==, first.value);
	g_assert_cmphex(hvp_gva_range_size(range), ==, SYNTHETIC_FUNCTION_BYTES);
	g_assert_true(hvp_kernel_function(kernel, "duplicate", 2, &range, &error));
	g_assert_cmphex(range.start.value, ==, first.value + 2 * SYNTHETIC_FUNCTION_BYTES);
	g_assert_false(hvp_kernel_function(kernel, "duplicate", 0, &range, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_AMBIGUOUS);
	g_clear_error(&error);
	g_assert_false(hvp_kernel_function(kernel, "duplicate", 3, &range, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
	g_clear_error(&error);
	g_assert_false(hvp_kernel_function(kernel, "absent", 0, &range, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
	g_clear_error(&error);
	/* A per-CPU offset is no function. */
	g_assert_false(hvp_kernel_function(kernel, "runqueues", 0, &range, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
	g_assert_true(hvp_kernel_function(kernel, "schedule", 0, &range, NULL));
	g_assert_true(hvp_kernel_function(kernel, "schedule", 1, &range, NULL));
}

static void test_per_cpu(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		SyntheticOptions options = { .generation = generation };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);

		for (guint cpu = 0; cpu < SYNTHETIC_CPUS; cpu++) {
			HvpGva queue = synthetic_guest_per_cpu(guest, "runqueues", cpu);
			HvpGva address, current;
			guint found = 77;
			guint64 task;

			g_assert_true(hvp_kernel_per_cpu(kernel, "runqueues", cpu, &address, NULL));
			g_assert_cmphex(address.value, ==, queue.value);
			g_assert_true(hvp_kernel_current_address(kernel, cpu, &current, NULL));
			task = synthetic_guest_get(guest, current);
			g_assert_cmphex(
				task, ==,
				synthetic_guest_get(guest, synthetic_guest_member(guest, queue,
										  HVP_AT_RQ_IDLE)));
			g_assert_true(
				hvp_kernel_preempt_count_address(kernel, cpu, &address, NULL));
			g_assert_cmphex(address.value, !=, current.value);
			g_assert_true(hvp_kernel_irq_stack_address(kernel, cpu, &address, NULL));
			g_assert_true(hvp_kernel_find_cpu(
				kernel, hvp_kernel_get_cpu_offset(kernel, cpu), &found));
			g_assert_cmpuint(found, ==, cpu);
		}
		g_assert_false(hvp_kernel_find_cpu(kernel, 0, &(guint){ 0 }));
		g_assert_false(hvp_kernel_find_cpu(kernel, 0x1234, &(guint){ 0 }));
	}
}

/* As cpu_entry_area has them: each CPU's page once more, elsewhere. */
static HvpGva map_tss(SyntheticGuest *guest, guint cpu)
{
	HvpGva own = synthetic_guest_per_cpu(guest, "cpu_tss_rw", cpu);
	guint64 page = (own.value - SYNTHETIC_DIRECT_MAP) & ~(guint64)HVP_PAGE_MASK;
	HvpGva again = hvp_gva(0xfffffe0000010000 + cpu * 0x4000);

	synthetic_guest_map(guest, guest->root_gpa, again, page, 1);
	return hvp_gva_add(again, own.value & HVP_PAGE_MASK);
}

static void test_cpu_by_tss(void)
{
	SyntheticOptions options = { .generation = GENERATION_6_1 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
	guint found;

	for (guint cpu = 0; cpu < SYNTHETIC_CPUS; cpu++) {
		guint64 base = map_tss(guest, cpu).value;

		hvp_address_space_forget(hvp_kernel_get_space(kernel));
		g_assert_true(hvp_kernel_find_cpu_by_tss(kernel, base, &found));
		g_assert_cmpuint(found, ==, cpu);
		g_assert_false(hvp_kernel_find_cpu_by_tss(kernel, base + 8, &found));
	}
	g_assert_false(hvp_kernel_find_cpu_by_tss(kernel, 0, &found));
	g_assert_false(hvp_kernel_find_cpu_by_tss(kernel, 0xfffffe0000100000, &found));
}

static void test_impossible_cpu(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = NULL;

	synthetic_guest_put(guest, synthetic_guest_symbol(guest, "__cpu_possible_mask"), 2);
	kernel = synthetic_guest_attach(guest);
	g_assert_cmphex(hvp_kernel_get_cpu_offset(kernel, 0), ==, 0);
	g_assert_cmphex(hvp_kernel_get_cpu_offset(kernel, 1), !=, 0);
}

static void test_cpu_count(void)
{
	static const guint32 counts[] = { 0, HVP_KERNEL_MAX_CPUS + 1, 1U << 31, G_MAXUINT32 };

	for (guint i = 0; i < G_N_ELEMENTS(counts); i++) {
		SyntheticOptions options = { 0 };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);

		synthetic_guest_put(guest, synthetic_guest_symbol(guest, "nr_cpu_ids"), counts[i]);
		assert_refused(guest, HVP_ERROR_BAD_DATA, "CPUs");
	}
}

static void test_missing(void)
{
	static const char *const symbols[] = {
		"_stext",	 "_etext",	     "linux_banner",
		"init_top_pgt",	 "init_task",	     "init_stack",
		"nr_cpu_ids",	 "__per_cpu_offset", "__cpu_possible_mask",
		"__start_notes", "__end_init_task"
	};
	static const char *const items[] = { "task_struct.tasks", "pt_regs", "orc_entry.type",
					     "inactive_task_frame" };

	for (guint i = 0; i < G_N_ELEMENTS(symbols); i++) {
		SyntheticOptions options = { .without = symbols[i] };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);

		assert_refused(guest, HVP_ERROR_NOT_FOUND, symbols[i]);
	}
	for (guint i = 0; i < G_N_ELEMENTS(items); i++) {
		SyntheticOptions options = { .missing = items[i] };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);

		assert_refused(guest, HVP_ERROR_UNSUPPORTED, "no ");
	}
	{
		SyntheticOptions options = { .without = "__start_BTF" };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);

		assert_refused(guest, HVP_ERROR_UNSUPPORTED, "BTF");
	}
}

static void test_twice(void)
{
	static const char *const symbols[] = { "init_task", "_stext", "__stop_BTF",
					       "linux_banner" };

	for (guint i = 0; i < G_N_ELEMENTS(symbols); i++) {
		SyntheticOptions options = { .twice = symbols[i] };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);

		assert_refused(guest, HVP_ERROR_AMBIGUOUS, symbols[i]);
	}
}

/* What kallsyms says leads out of the image. */
static void test_symbols_outside(void)
{
	static const struct {
		const char *name;
		HvpErrorCode code;
	} moved[] = {
		{ "__stop_BTF", HVP_ERROR_BAD_DATA },	{ "__start_notes", HVP_ERROR_BAD_DATA },
		{ "linux_banner", HVP_ERROR_BAD_DATA }, { "_etext", HVP_ERROR_BAD_DATA },
		{ "_stext", HVP_ERROR_BAD_DATA },	{ "init_task", HVP_ERROR_FAULT },
		{ "init_top_pgt", HVP_ERROR_FAULT },
	};

	for (guint i = 0; i < G_N_ELEMENTS(moved); i++) {
		SyntheticOptions options = { 0 };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		guint64 value = synthetic_guest_symbol(guest, moved[i].name).value - SYNTHETIC_BASE;
		guint8 *offsets = guest->memory->bytes + 0x600000 + guest->kallsyms.offsets;
		bool found = false;

		for (guint k = 0; k < kallsyms_maker_count(guest->symbols); k++)
			if (hvp_load_u32(offsets + k * 4) == (guint32)(-1 - (gint32)value)) {
				hvp_store_u32(offsets + k * 4, (guint32)(-1 - 0x30000000));
				found = true;
			}
		g_assert_true(found);
		assert_refused(guest, moved[i].code, "");
	}
}

static void test_identity(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	guint8 *notes = synthetic_guest_bytes(guest, guest->notes, 60);
	static const guint32 lengths[] = { G_MAXUINT32, 1U << 31, 60, 0xfffffffc };

	for (guint at = 0; at < 8; at += 4)
		for (guint i = 0; i < G_N_ELEMENTS(lengths); i++) {
			guint32 saved = hvp_load_u32(notes + at);

			hvp_store_u32(notes + at, lengths[i]);
			assert_refused(guest, HVP_ERROR_UNSUPPORTED, "build-id");
			hvp_store_u32(notes + at, saved);
		}
	hvp_store_u32(notes + 28, 16);
	assert_refused(guest, HVP_ERROR_UNSUPPORTED, "build-id");
}

/* No NUL between the banner and the image's end. */
static void test_endless_banner(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = NULL;

	memset(synthetic_guest_bytes(guest, guest->banner, 1024), 0x1b, 1024);
	kernel = synthetic_guest_attach(guest);
	g_assert_cmpstr(hvp_kernel_get_release(kernel), ==, "unknown");
	g_assert_true(g_str_has_prefix(hvp_kernel_get_banner(kernel), "\\x1b\\x1b"));
	g_assert_cmpuint(strlen(hvp_kernel_get_banner(kernel)), <=, HVP_BANNER_MAX_BYTES);
}

static void test_cross_checks(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	HvpGva task = synthetic_guest_symbol(guest, "init_task");
	HvpGva stack = synthetic_guest_symbol(guest, "init_stack");
	HvpGva comm = synthetic_guest_member(guest, task, HVP_AT_TASK_COMM);

	synthetic_guest_put(guest, stack, 0);
	assert_refused(guest, HVP_ERROR_UNSUPPORTED, "init_stack");
	synthetic_guest_put(guest, stack, 0x57AC6E9D);
	synthetic_guest_bytes(guest, comm, 1)[0] = 'S';
	assert_refused(guest, HVP_ERROR_BAD_DATA, "init_task");
	synthetic_guest_bytes(guest, comm, 1)[0] = 's';
	synthetic_guest_set(guest, task, HVP_AT_TASK_PID, 1);
	assert_refused(guest, HVP_ERROR_BAD_DATA, "init_task");
}

static void test_variables(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
	guint64 wide;
	guint32 narrow;

	g_assert_true(hvp_kernel_read_u32(kernel, "nr_cpu_ids", &narrow, NULL));
	g_assert_cmpuint(narrow, ==, SYNTHETIC_CPUS);
	g_assert_true(hvp_kernel_read_u64(kernel, "nr_cpu_ids", &wide, NULL));
	g_assert_cmpuint(wide, ==, SYNTHETIC_CPUS);
	g_assert_false(hvp_kernel_read_u64(kernel, "absent", &wide, NULL));
	/* The kernel is another by now. */
	synthetic_guest_put(guest, guest->banner, 0);
	g_assert_false(hvp_kernel_is_mapped_by(kernel, guest->registers.cr3));
	hvp_kernel_free(NULL);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/kernel/both-generations-all-tables-ATTACH", test_attach);
	g_test_add_func("/kernel/symbols-FOUND-or-AMBIGUOUS", test_symbols);
	g_test_add_func("/kernel/positions-IN-ADDRESS-ORDER", test_positions);
	g_test_add_func("/kernel/per-cpu-FOUND", test_per_cpu);
	g_test_add_func("/kernel/cpu-by-its-tss", test_cpu_by_tss);
	g_test_add_func("/kernel/impossible-cpu-LEFT-OUT", test_impossible_cpu);
	g_test_add_func("/kernel/cpu-count-lies-BAD_DATA", test_cpu_count);
	g_test_add_func("/kernel/each-missing-REFUSED-named", test_missing);
	g_test_add_func("/kernel/symbol-twice-AMBIGUOUS", test_twice);
	g_test_add_func("/kernel/symbol-outside-image-REFUSED", test_symbols_outside);
	g_test_add_func("/kernel/notes-lie-UNSUPPORTED", test_identity);
	g_test_add_func("/kernel/banner-without-end-ESCAPED", test_endless_banner);
	g_test_add_func("/kernel/cross-checks-REFUSED", test_cross_checks);
	g_test_add_func("/kernel/variables-READ", test_variables);
	return g_test_run();
}
