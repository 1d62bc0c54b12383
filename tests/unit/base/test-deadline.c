/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/deadline.h"

#define ROUNDS 200000

/* Whoever sleeps for what is left would never wake up. */
static void test_left_never_negative(void)
{
	for (guint i = 0; i < ROUNDS; i++) {
		HvpDeadline deadline = hvp_deadline_in(1);
		gint64 left_usec;

		do {
			left_usec = hvp_deadline_left_usec(deadline);
			g_assert_cmpint(left_usec, >=, 0);
		} while (left_usec > 0);
		g_assert_cmpint(hvp_deadline_left_msec(deadline), ==, 0);
	}
}

static void test_left_rounded(void)
{
	g_assert_cmpint(hvp_deadline_left_usec(hvp_deadline_in(-5)), ==, 0);
	g_assert_cmpint(hvp_deadline_left_msec(hvp_deadline_in(G_USEC_PER_SEC)), <=, 1000);
	g_assert_cmpint(hvp_deadline_left_msec(hvp_deadline_in(G_USEC_PER_SEC)), >, 0);
	g_assert_cmpint(hvp_deadline_left_msec(hvp_deadline_in(G_MAXINT64 / 2)), ==, 3600 * 1000);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/deadline/left/never-negative", test_left_never_negative);
	g_test_add_func("/deadline/left/rounded", test_left_rounded);
	return g_test_run();
}
