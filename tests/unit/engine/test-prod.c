/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who can be sent out, and whether that is of use at all. */
#include "engine/prod.h"

#define RUNNING 0x0U
#define INTERRUPTIBLE 0x1U
#define UNINTERRUPTIBLE 0x2U
#define STOPPED 0x4U
#define TRACED 0x8U
#define WAKE_KILL 0x100U
#define NO_LOAD 0x400U
#define FREEZABLE 0x2000U
#define FROZEN 0x8000U

static bool is_of_use(const HvpTask *tasks, guint count)
{
	g_autoptr(GArray) array = g_array_new(FALSE, FALSE, sizeof(HvpTask));

	g_array_append_vals(array, tasks, count);
	return hvp_prod_is_of_use(array);
}

static void test_sleepers(void)
{
	const guint32 yes[] = { INTERRUPTIBLE, INTERRUPTIBLE | FREEZABLE };
	const guint32 no[] = { RUNNING,
			       UNINTERRUPTIBLE,
			       UNINTERRUPTIBLE | WAKE_KILL,
			       UNINTERRUPTIBLE | NO_LOAD,
			       STOPPED | WAKE_KILL,
			       TRACED,
			       FROZEN };

	for (guint i = 0; i < G_N_ELEMENTS(yes); i++)
		g_assert_true(hvp_task_is_interruptible(&(HvpTask){ .state = yes[i] }));
	for (guint i = 0; i < G_N_ELEMENTS(no); i++)
		g_assert_false(hvp_task_is_interruptible(&(HvpTask){ .state = no[i] }));
}

static void test_not_asleep(void)
{
	const HvpTask tasks[] = { { .state = INTERRUPTIBLE, .on_cpu = true },
				  { .state = INTERRUPTIBLE, .flags = HVP_TASK_PF_EXITING },
				  { .state = INTERRUPTIBLE, .exit_state = 0x20 } };

	for (guint i = 0; i < G_N_ELEMENTS(tasks); i++) {
		g_assert_false(hvp_task_is_interruptible(&tasks[i]));
		g_assert_false(is_of_use(&tasks[i], 1));
	}
}

static void test_all_or_nobody(void)
{
	const HvpTask sleeper = { .state = INTERRUPTIBLE };
	const HvpTask runner = { .state = RUNNING, .on_cpu = true };
	const HvpTask stuck = { .state = UNINTERRUPTIBLE };

	g_assert_false(is_of_use(NULL, 0));
	g_assert_true(is_of_use(&sleeper, 1));
	g_assert_false(is_of_use(&runner, 1));
	g_assert_true(is_of_use((const HvpTask[]){ sleeper, runner, sleeper }, 3));
	g_assert_false(is_of_use((const HvpTask[]){ sleeper, stuck, sleeper }, 3));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/prod/sleepers", test_sleepers);
	g_test_add_func("/prod/not-asleep", test_not_asleep);
	g_test_add_func("/prod/all-or-nobody", test_all_or_nobody);
	return g_test_run();
}
