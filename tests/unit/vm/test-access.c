/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Explanations of a refusal, from a made-up /proc and /sys. */
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#include "vm/access.h"

#define PID 4711

typedef struct {
	char *root;
} Fixture;

static void set_up(Fixture *self, gconstpointer data)
{
	(void)data;
	self->root = g_dir_make_tmp("hvpatch-access-XXXXXX", NULL);
	g_assert_nonnull(self->root);
}

static void remove_tree(const char *path)
{
	g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
	const char *name;

	while (folder != NULL && (name = g_dir_read_name(folder)) != NULL) {
		g_autofree char *below = g_build_filename(path, name, NULL);

		remove_tree(below);
	}
	g_assert_cmpint(g_remove(path), ==, 0);
}

static void tear_down(Fixture *self, gconstpointer data)
{
	(void)data;
	remove_tree(self->root);
	g_free(self->root);
}

static void put(Fixture *self, const char *path, const char *text)
{
	g_autofree char *whole = g_strconcat(self->root, path, NULL);
	g_autofree char *folder = g_path_get_dirname(whole);

	g_assert_cmpint(g_mkdir_with_parents(folder, 0700), ==, 0);
	g_assert_true(g_file_set_contents(whole, text, -1, NULL));
}

static void check(Fixture *self, int errno_value, HvpErrorCode code, const char *said)
{
	g_autoptr(GError) error = NULL;

	g_assert_false(hvp_access_explain_below(self->root, PID, errno_value, "tracing", &error));
	g_assert_error(error, HVP_ERROR, (int)code);
	if (strstr(error->message, said) == NULL)
		g_error("\"%s\" does not say \"%s\"", error->message, said);
}

static void test_tracer(Fixture *self, gconstpointer data)
{
	(void)data;
	put(self, "/proc/4711/status", "Name:\tqemu\nTracerPid:\t99\n");
	put(self, "/proc/99/comm", "gdb\n");
	put(self, "/proc/sys/kernel/yama/ptrace_scope", "3\n");
	check(self, EPERM, HVP_ERROR_CONFLICT, "by gdb (pid 99)");
}

static void test_yama(Fixture *self, gconstpointer data)
{
	(void)data;
	put(self, "/proc/4711/status", "Name:\tqemu\nTracerPid:\t0\n");
	put(self, "/proc/self/status", "Name:\thvpatch\nCapEff:\t0000000000000000\n");
	put(self, "/proc/sys/kernel/yama/ptrace_scope", "1\n");
	check(self, EPERM, HVP_ERROR_PERMISSION, "ptrace_scope = 1: CAP_SYS_PTRACE");
	put(self, "/proc/sys/kernel/yama/ptrace_scope", "2\n");
	check(self, EPERM, HVP_ERROR_PERMISSION, "ptrace_scope = 2: CAP_SYS_PTRACE");
	put(self, "/proc/sys/kernel/yama/ptrace_scope", "3\n");
	check(self, EPERM, HVP_ERROR_PERMISSION, "ptrace_scope = 3: nobody");
	/* With the capability, 2 allows it: it was something else. */
	put(self, "/proc/self/status", "Name:\thvpatch\nCapEff:\t0000000000080000\n");
	put(self, "/proc/sys/kernel/yama/ptrace_scope", "2\n");
	check(self, EPERM, HVP_ERROR_PERMISSION, "user namespace that ours is not above");
	put(self, "/proc/sys/kernel/yama/ptrace_scope", "3\n");
	check(self, EPERM, HVP_ERROR_PERMISSION, "ptrace_scope = 3: nobody");
}

static void test_selinux(Fixture *self, gconstpointer data)
{
	(void)data;
	put(self, "/sys/fs/selinux/enforce", "1");
	put(self, "/sys/fs/selinux/booleans/deny_ptrace", "1 1");
	check(self, EACCES, HVP_ERROR_PERMISSION, "SELinux boolean deny_ptrace");
	put(self, "/sys/fs/selinux/booleans/deny_ptrace", "0 0");
	put(self, "/proc/self/attr/current", "unconfined_t:s0");
	put(self, "/proc/4711/attr/current", "svirt_t:s0:c1,c2");
	check(self, EACCES, HVP_ERROR_PERMISSION,
	      "allow unconfined_t:s0 the permission ptrace of "
	      "svirt_t:s0:c1,c2");
	put(self, "/sys/fs/selinux/enforce", "0");
	check(self, EACCES, HVP_ERROR_PERMISSION, "CAP_SYS_PTRACE");
}

static void test_apparmor(Fixture *self, gconstpointer data)
{
	(void)data;
	put(self, "/proc/self/attr/apparmor/current", "unconfined\n");
	put(self, "/proc/4711/attr/apparmor/current", "libvirt-1234 (enforce)\n");
	check(self, EACCES, HVP_ERROR_PERMISSION,
	      "libvirt-1234 (for libvirt the abstraction libvirt-qemu) must have "
	      "'ptrace (readby, tracedby) peer=unconfined,'");
	put(self, "/proc/4711/attr/apparmor/current", "unconfined\n");
	check(self, EACCES, HVP_ERROR_PERMISSION, "CAP_SYS_PTRACE");
}

static void test_hostile(Fixture *self, gconstpointer data)
{
	(void)data;
	put(self, "/proc/4711/status", "Name:\tqemu\nTracerPid:\t99999999999999999999\n");
	put(self, "/sys/fs/selinux/enforce", "");
	put(self, "/proc/4711/attr/apparmor/current", "");
	put(self, "/proc/self/attr/apparmor/current", "a\033[2Jb\n");
	check(self, EPERM, HVP_ERROR_PERMISSION, "peer=a\\");
}

static void test_other(Fixture *self, gconstpointer data)
{
	(void)data;
	check(self, ESRCH, HVP_ERROR_VM_GONE, "4711 has ended");
	check(self, ENOMEM, HVP_ERROR_INTERNAL, "tracing process 4711");
	check(self, EPERM, HVP_ERROR_PERMISSION, "CAP_SYS_PTRACE");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)
	ADD("/access/tracer-CONFLICT", test_tracer);
	ADD("/access/yama-PERMISSION", test_yama);
	ADD("/access/selinux-PERMISSION", test_selinux);
	ADD("/access/apparmor-PERMISSION", test_apparmor);
	ADD("/access/odd-files-PERMISSION", test_hostile);
	ADD("/access/other-errors", test_other);
	return g_test_run();
}
