/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/activity.h"
#include "synthetic-guest.h"

static void assert_quiet(HvpActivity *activity)
{
	g_assert_true(hvp_activity_is_quiet(activity));
	g_assert_false(hvp_activity_has_moved(activity));
}

static void assert_moved(HvpActivity *activity)
{
	g_assert_false(hvp_activity_is_quiet(activity));
	g_assert_true(hvp_activity_has_moved(activity));
}

/* Neither: nothing is known. */
static void assert_unknown(HvpActivity *activity)
{
	g_assert_false(hvp_activity_is_quiet(activity));
	g_assert_false(hvp_activity_has_moved(activity));
}

static void test_counters(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		SyntheticOptions options = { .generation = generation };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
		g_autoptr(HvpActivity) activity = hvp_activity_new(kernel, NULL);
		HvpGva counters[SYNTHETIC_CPUS + 2];

		for (guint cpu = 0; cpu < SYNTHETIC_CPUS; cpu++)
			counters[cpu] = synthetic_guest_member(
				guest, synthetic_guest_per_cpu(guest, "runqueues", cpu),
				HVP_AT_RQ_NR_SWITCHES);
		counters[SYNTHETIC_CPUS] = synthetic_guest_symbol(guest, "total_forks");
		counters[SYNTHETIC_CPUS + 1] = synthetic_guest_symbol(guest, "nr_threads");
		assert_unknown(activity);
		hvp_activity_mark(activity);
		assert_quiet(activity);
		for (guint i = 0; i < G_N_ELEMENTS(counters); i++) {
			guint64 before = synthetic_guest_get(guest, counters[i]);

			synthetic_guest_put(guest, counters[i], before + 1);
			assert_moved(activity);
			hvp_activity_mark(activity);
			assert_quiet(activity);
			hvp_activity_forget(activity);
			assert_unknown(activity);
			hvp_activity_mark(activity);
		}
	}
	hvp_activity_free(NULL);
}

static void test_missing(void)
{
	const SyntheticOptions lacking[] = { { .without = "total_forks" },
					     { .without = "nr_threads" },
					     { .missing = "rq.nr_switches" } };

	for (guint i = 0; i < G_N_ELEMENTS(lacking); i++) {
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&lacking[i]);
		g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
		g_autoptr(HvpActivity) activity = hvp_activity_new(kernel, NULL);

		hvp_activity_mark(activity);
		assert_unknown(activity);
	}
}

static void test_unreadable(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
	g_autoptr(HvpActivity) activity = hvp_activity_new(kernel, NULL);
	HvpGva queue = synthetic_guest_per_cpu(guest, "runqueues", 1);

	hvp_activity_mark(activity);
	guest->memory->hole_start = queue.value - SYNTHETIC_DIRECT_MAP;
	guest->memory->hole_end = guest->memory->hole_start + 0x800;
	g_assert_false(hvp_activity_is_quiet(activity));
	hvp_activity_mark(activity);
	guest->memory->hole_start = guest->memory->hole_end = G_MAXUINT64;
	assert_unknown(activity);
	guest->memory->gone = true;
	hvp_activity_mark(activity);
	assert_unknown(activity);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/activity/any-counter-MOVED", test_counters);
	g_test_add_func("/activity/counter-missing-never-QUIET", test_missing);
	g_test_add_func("/activity/unreadable-never-QUIET", test_unreadable);
	return g_test_run();
}
