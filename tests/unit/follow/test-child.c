/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "follow/child.h"

#include <poll.h>

#define LONG_USEC (20 * G_USEC_PER_SEC)
#define SHELL "/bin/sh"

static HvpChild *run(const char *script, gint64 timeout_usec)
{
	const char *const arguments[] = { "-c", script, NULL };
	g_autoptr(GError) error = NULL;
	HvpChild *child = hvp_child_start(SHELL, arguments, timeout_usec, &error);

	g_assert_no_error(error);
	while (!hvp_child_has_ended(child)) {
		struct pollfd fd = { .fd = hvp_child_get_fd(child), .events = POLLIN };

		(void)poll(&fd, 1, hvp_deadline_left_msec(hvp_child_get_deadline(child)));
	}
	g_assert_true(hvp_child_has_ended(child));
	return child;
}

static void test_output(void)
{
	g_autoptr(HvpChild)
		child = run("echo '{\"a\":'; sleep 0.1; echo '\"b\"}'; exit 4", LONG_USEC);
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) node = hvp_child_parse_output(child, &error);

	g_assert_no_error(error);
	g_assert_cmpint(hvp_child_get_exit_status(child), ==, 4);
	g_assert_cmpstr(json_object_get_string_member(json_node_get_object(node), "a"), ==, "b");
}

static void test_crash(void)
{
	g_autoptr(HvpChild) child = run("kill -SEGV $$", LONG_USEC);
	g_autoptr(GError) error = NULL;

	g_assert_cmpint(hvp_child_get_exit_status(child), ==, -1);
	g_assert_null(hvp_child_parse_output(child, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
}

static void test_hang(void)
{
	gint64 began = g_get_monotonic_time();
	g_autoptr(HvpChild) child = run("exec sleep 60", G_USEC_PER_SEC / 10);

	g_assert_cmpint(hvp_child_get_exit_status(child), ==, -1);
	g_assert_cmpint(g_get_monotonic_time() - began, <, LONG_USEC);
}

static void test_flood(void)
{
	g_autoptr(HvpChild) child = run("head -c 6000000 /dev/zero", LONG_USEC);

	g_assert_cmpint(hvp_child_get_exit_status(child), ==, 0);
	g_assert_null(hvp_child_parse_output(child, NULL));
}

static void test_no_program(void)
{
	const char *const arguments[] = { NULL };
	g_autoptr(GError) error = NULL;

	g_assert_null(hvp_child_start("/nonexistent", arguments, LONG_USEC, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INTERNAL);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/child/output", test_output);
	g_test_add_func("/child/crash", test_crash);
	g_test_add_func("/child/hang-KILLED", test_hang);
	g_test_add_func("/child/flood-DROPPED", test_flood);
	g_test_add_func("/child/no-program-INTERNAL", test_no_program);
	return g_test_run();
}
