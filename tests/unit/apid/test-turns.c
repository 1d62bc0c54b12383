/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/turns.h"

static HvpTurns *make(guint going, guint going_each, guint waiting, guint waiting_each)
{
	return hvp_turns_new(&(HvpTurnsLimits){ going, going_each, waiting, waiting_each });
}

/* Items are named after their principals: their first letter. */
static bool join(HvpTurns *turns, const char *item)
{
	char principal[] = { item[0], '\0' };

	return hvp_turns_join(turns, principal, (void *)item);
}

static void join_all(HvpTurns *turns, const char *const *items)
{
	for (; *items != NULL; items++)
		g_assert_true(join(turns, *items));
}

/* Whose turns they are now, in this order, and nobody else's. */
static void check_next(HvpTurns *turns, const char *const *items)
{
	for (; *items != NULL; items++)
		g_assert_cmpstr(hvp_turns_next(turns), ==, *items);
	g_assert_null(hvp_turns_next(turns));
}

static void test_order(void)
{
	g_autoptr(HvpTurns) turns = make(2, 2, 9, 9);

	join_all(turns, (const char *const[]){ "a1", "b1", "a2", "c1", NULL });
	check_next(turns, (const char *const[]){ "a1", "b1", NULL });
	hvp_turns_end(turns, "b");
	check_next(turns, (const char *const[]){ "a2", NULL });
	hvp_turns_end(turns, "a");
	check_next(turns, (const char *const[]){ "c1", NULL });
}

static void test_share(void)
{
	g_autoptr(HvpTurns) turns = make(4, 2, 9, 9);

	join_all(turns, (const char *const[]){ "a1", "a2", "a3", "a4", "b1", "c1", "c2", NULL });
	check_next(turns, (const char *const[]){ "a1", "a2", "b1", "c1", NULL });
	hvp_turns_end(turns, "b");
	check_next(turns, (const char *const[]){ "c2", NULL });
	hvp_turns_end(turns, "c");
	check_next(turns, (const char *const[]){ NULL });
	hvp_turns_end(turns, "a");
	check_next(turns, (const char *const[]){ "a3", NULL });
	g_assert_cmpstr(hvp_turns_drop(turns), ==, "a4");
}

static void test_bounds(void)
{
	g_autoptr(HvpTurns) turns = make(1, 1, 3, 2);

	join_all(turns, (const char *const[]){ "a1", "a2", NULL });
	g_assert_false(join(turns, "a3"));
	g_assert_true(join(turns, "b1"));
	g_assert_false(join(turns, "c1"));
	check_next(turns, (const char *const[]){ "a1", NULL });
	g_assert_true(join(turns, "a3"));
	while (hvp_turns_drop(turns) != NULL)
		;
}

static void test_left(void)
{
	g_autoptr(HvpTurns) turns = make(1, 1, 2, 2);
	const char *const items[] = { "a1", "b1", NULL };

	join_all(turns, items);
	check_next(turns, (const char *const[]){ "a1", NULL });
	g_assert_false(hvp_turns_leave(turns, items[0]));
	g_assert_true(hvp_turns_leave(turns, items[1]));
	g_assert_false(hvp_turns_leave(turns, items[1]));
	hvp_turns_end(turns, "a");
	g_assert_null(hvp_turns_next(turns));
	g_assert_null(hvp_turns_drop(turns));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/apid/turns/as-they-came-NEXT", test_order);
	g_test_add_func("/apid/turns/beyond-its-share-PASSED-OVER", test_share);
	g_test_add_func("/apid/turns/too-many-that-wait-REFUSED", test_bounds);
	g_test_add_func("/apid/turns/left-NEVER-NEXT", test_left);
	return g_test_run();
}
