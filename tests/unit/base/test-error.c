/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <gio/gio.h>

#include "base/error.h"

static void test_set(void)
{
	g_autoptr(GError) error = NULL;

	g_assert_false(hvp_error_set(&error, HVP_ERROR_BUSY, "pid %d in %s", 7, "do_fcntl"));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
	g_assert_cmpstr(error->message, ==, "pid 7 in do_fcntl");
	g_assert_false(hvp_error_set(NULL, HVP_ERROR_BUSY, "nobody looks"));
}

static void test_percent(void)
{
	g_autoptr(GError) error = NULL;

	hvp_error_set(&error, HVP_ERROR_BAD_DATA, "%s", "100%s %n");
	g_assert_cmpstr(error->message, ==, "100%s %n");
}

static void assert_errno(int errno_value, HvpErrorCode fallback, HvpErrorCode expected)
{
	g_autoptr(GError) error = NULL;

	g_assert_false(hvp_error_set_errno(&error, errno_value, fallback, "open %s", "x"));
	g_assert_error(error, HVP_ERROR, (int)expected);
	g_assert_true(g_str_has_prefix(error->message, "open x: "));
}

static void test_errno(void)
{
	assert_errno(EPERM, HVP_ERROR_INTERNAL, HVP_ERROR_PERMISSION);
	assert_errno(EACCES, HVP_ERROR_INTERNAL, HVP_ERROR_PERMISSION);
	assert_errno(ENOENT, HVP_ERROR_INTERNAL, HVP_ERROR_NOT_FOUND);
	assert_errno(ESRCH, HVP_ERROR_INTERNAL, HVP_ERROR_VM_GONE);
	assert_errno(EFAULT, HVP_ERROR_INTERNAL, HVP_ERROR_FAULT);
	assert_errno(EIO, HVP_ERROR_INTERNAL, HVP_ERROR_FAULT);
	assert_errno(ENOSPC, HVP_ERROR_BUSY, HVP_ERROR_BUSY);
}

static void test_exit_status(void)
{
	/* docs: 1 failed, 2 usage, 3 not applicable, 4 busy, 5 refused, 6 rolled back, 7 operator.
	 */
	static const struct {
		HvpErrorCode code;
		const char *name;
		int status;
	} expected[] = {
		{ HVP_ERROR_INVALID_ARGUMENT, "INVALID_ARGUMENT", 2 },
		{ HVP_ERROR_UNSUPPORTED, "UNSUPPORTED", 3 },
		{ HVP_ERROR_PERMISSION, "PERMISSION", 5 },
		{ HVP_ERROR_BAD_DATA, "BAD_DATA", 1 },
		{ HVP_ERROR_FAULT, "FAULT", 1 },
		{ HVP_ERROR_NOT_FOUND, "NOT_FOUND", 1 },
		{ HVP_ERROR_AMBIGUOUS, "AMBIGUOUS", 3 },
		{ HVP_ERROR_BUSY, "BUSY", 4 },
		{ HVP_ERROR_TIMED_OUT, "TIMED_OUT", 4 },
		{ HVP_ERROR_UNRELIABLE, "UNRELIABLE", 4 },
		{ HVP_ERROR_CONFLICT, "CONFLICT", 5 },
		{ HVP_ERROR_TAMPERED, "TAMPERED", 7 },
		{ HVP_ERROR_CANCELLED, "CANCELLED", 1 },
		{ HVP_ERROR_VM_GONE, "VM_GONE", 1 },
		{ HVP_ERROR_UNDONE, "UNDONE", 6 },
		{ HVP_ERROR_INCONSISTENT, "INCONSISTENT", 7 },
		{ HVP_ERROR_INTERNAL, "INTERNAL", 1 },
	};

	for (guint i = 0; i < G_N_ELEMENTS(expected); i++) {
		g_autoptr(GError) error = NULL;

		hvp_error_set(&error, expected[i].code, "x");
		g_assert_cmpstr(hvp_error_name(error), ==, expected[i].name);
		g_assert_cmpstr(hvp_error_code_name(expected[i].code), ==, expected[i].name);
		g_assert_cmpint(hvp_error_exit_status(error), ==, expected[i].status);
	}
}

static void test_foreign(void)
{
	g_autoptr(GError) foreign = g_error_new(G_IO_ERROR, G_IO_ERROR_BUSY, "x");
	g_autoptr(GError) unknown = g_error_new(HVP_ERROR, 999, "x");
	g_autoptr(GError) negative = g_error_new(HVP_ERROR, -1, "x");

	g_assert_cmpstr(hvp_error_name(foreign), ==, "INTERNAL");
	g_assert_cmpint(hvp_error_exit_status(foreign), ==, 1);
	g_assert_cmpstr(hvp_error_name(unknown), ==, "INTERNAL");
	g_assert_cmpint(hvp_error_exit_status(unknown), ==, 1);
	g_assert_cmpstr(hvp_error_name(negative), ==, "INTERNAL");
	g_assert_cmpint(hvp_error_exit_status(negative), ==, 1);
	g_assert_cmpstr(hvp_error_name(NULL), ==, "INTERNAL");
	g_assert_cmpint(hvp_error_exit_status(NULL), ==, 1);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/error/set-FALSE", test_set);
	g_test_add_func("/error/percent-KEPT", test_percent);
	g_test_add_func("/error/errno-CONVERTED", test_errno);
	g_test_add_func("/error/exit-status", test_exit_status);
	g_test_add_func("/error/foreign-INTERNAL", test_foreign);
	return g_test_run();
}
