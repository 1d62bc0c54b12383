/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Facts from a made-up /proc, /sys and /etc. */
#include "doctor/host-facts.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

typedef struct {
	char *root;
} Fixture;

static void set_up(Fixture *self, gconstpointer data)
{
	(void)data;
	self->root = g_dir_make_tmp("hvpatch-doctor-XXXXXX", NULL);
	g_assert_nonnull(self->root);
}

static void remove_tree(const char *path)
{
	g_autoptr(GDir) folder = g_file_test(path, G_FILE_TEST_IS_SYMLINK)
					 ? NULL
					 : g_dir_open(path, 0, NULL);
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

static char *make_place(Fixture *self, const char *path)
{
	char *whole = g_strconcat(self->root, path, NULL);
	g_autofree char *folder = g_path_get_dirname(whole);

	g_assert_cmpint(g_mkdir_with_parents(folder, 0700), ==, 0);
	return whole;
}

static void put(Fixture *self, const char *path, const char *text)
{
	g_autofree char *whole = make_place(self, path);

	g_assert_true(g_file_set_contents(whole, text, -1, NULL));
}

static void test_nothing(Fixture *self, gconstpointer data)
{
	g_auto(HvpFactsHost) facts = { 0 };

	(void)data;
	hvp_host_facts_read_below(self->root, &facts);
	g_assert_cmpint(facts.yama_scope, ==, -1);
	g_assert_false(facts.has_ptrace_capability);
	g_assert_cmpint(facts.in_first_user_namespace, ==, HVP_FACTS_UNKNOWN);
	g_assert_cmpint(facts.selinux_enforces, ==, HVP_FACTS_UNKNOWN);
	g_assert_cmpint(facts.apparmor_enabled, ==, HVP_FACTS_UNKNOWN);
	g_assert_null(facts.apparmor_label);
	g_assert_null(facts.apparmor_rules);
	g_assert_cmpint(facts.kvm_nested, ==, HVP_FACTS_UNKNOWN);
}

static void test_all(Fixture *self, gconstpointer data)
{
	g_auto(HvpFactsHost) facts = { 0 };
	g_autofree char *link = make_place(self, "/proc/self/ns/user");

	(void)data;
	put(self, "/proc/sys/kernel/yama/ptrace_scope", "2\n");
	put(self, "/proc/self/status", "Name:\thvpatch\nCapEff:\t0000000000080000\n");
	g_assert_cmpint(symlink("user:[4026531837]", link), ==, 0);
	put(self, "/sys/fs/selinux/enforce", "1");
	put(self, "/sys/fs/selinux/booleans/deny_ptrace", "1 1");
	put(self, "/sys/module/apparmor/parameters/enabled", "Y\n");
	put(self, "/proc/self/attr/apparmor/current", "hvpatch (enforce)\n");
	put(self, "/etc/apparmor.d/abstractions/libvirt-qemu", "  ptrace,\n");
	put(self, "/etc/apparmor.d/local/abstractions/libvirt-qemu", "signal,");
	put(self, "/sys/module/kvm_amd/parameters/nested", "1\n");
	hvp_host_facts_read_below(self->root, &facts);
	g_assert_cmpint(facts.yama_scope, ==, 2);
	g_assert_true(facts.has_ptrace_capability);
	g_assert_cmpint(facts.in_first_user_namespace, ==, HVP_FACTS_YES);
	g_assert_cmpint(facts.selinux_enforces, ==, HVP_FACTS_YES);
	g_assert_cmpint(facts.selinux_denies_ptrace, ==, HVP_FACTS_YES);
	g_assert_cmpint(facts.apparmor_enabled, ==, HVP_FACTS_YES);
	g_assert_cmpstr(facts.apparmor_label, ==, "hvpatch (enforce)");
	g_assert_cmpstr(facts.apparmor_rules, ==, "ptrace,\nsignal,");
	g_assert_cmpint(facts.kvm_nested, ==, HVP_FACTS_YES);
}

static void test_odd(Fixture *self, gconstpointer data)
{
	g_auto(HvpFactsHost) facts = { 0 };
	g_autofree char *link = make_place(self, "/proc/self/ns/user");

	(void)data;
	put(self, "/proc/sys/kernel/yama/ptrace_scope", "99999999999999999999\n");
	put(self, "/proc/self/status", "CapEff:\tffffffffffffffff\n");
	g_assert_cmpint(symlink("user:[4026532000]", link), ==, 0);
	put(self, "/sys/module/kvm_intel/parameters/nested", "N\n");
	put(self, "/sys/fs/selinux/enforce", "");
	hvp_host_facts_read_below(self->root, &facts);
	g_assert_cmpint(facts.yama_scope, ==, G_MAXINT);
	g_assert_false(facts.has_ptrace_capability);
	g_assert_cmpint(facts.in_first_user_namespace, ==, HVP_FACTS_NO);
	g_assert_cmpint(facts.kvm_nested, ==, HVP_FACTS_NO);
	g_assert_cmpint(facts.selinux_enforces, ==, HVP_FACTS_NO);
}

static void test_folders(Fixture *self, gconstpointer data)
{
	HvpFactsPlace there = hvp_host_facts_check_folder(g_strdup(self->root));
	HvpFactsPlace below = hvp_host_facts_check_folder(
		g_build_filename(self->root, "a", "b", NULL));
	HvpFactsPlace file;

	(void)data;
	put(self, "/file", "");
	file = hvp_host_facts_check_folder(g_build_filename(self->root, "file", NULL));
	g_assert_no_error(there.error);
	g_assert_no_error(below.error);
	g_assert_error(file.error, HVP_ERROR, HVP_ERROR_PERMISSION);
	g_free(there.path);
	g_free(below.path);
	g_free(file.path);
	g_error_free(file.error);
}

static void test_version(void)
{
	g_assert_cmpuint(
		hvp_host_facts_parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2)\n"), ==,
		7002022);
	g_assert_cmpuint(hvp_host_facts_parse_version("QEMU emulator version 10.1"), ==, 10001000);
	g_assert_cmpuint(hvp_host_facts_parse_version("QEMU emulator version x"), ==, 0);
	g_assert_cmpuint(hvp_host_facts_parse_version(""), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)
	ADD("/host-facts/nothing-there-UNKNOWN", test_nothing);
	ADD("/host-facts/everything-READ", test_all);
	ADD("/host-facts/odd-values-READ", test_odd);
	ADD("/host-facts/folders-CHECKED", test_folders);
	g_test_add_func("/host-facts/version-PARSED", test_version);
	return g_test_run();
}
