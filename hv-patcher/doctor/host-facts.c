/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "doctor/host-facts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "engine/journal.h"
#include "engine/target.h"
#include "keeper/spawn.h"
#include "rehearse/rehearsal.h"
#include "vm/kvm-run.h"
#include "vm/monitor.h"

#define CAP_SYS_PTRACE_BIT 19
/* include/linux/proc_ns.h, PROC_USER_INIT_INO: it is the same number on every host. */
#define FIRST_USER_NAMESPACE "user:[4026531837]"
#define MAX_RULES_BYTES (1U << 20)
#define VERSION_SECONDS 5

/* A small file below @root, without white space around it; NULL where there is none. */
static char *read_text(const char *root, const char *path)
{
	g_autofree char *whole = g_strconcat(root, path, NULL);
	char *text = NULL;

	if (!g_file_get_contents(whole, &text, NULL, NULL))
		return NULL;
	return g_strstrip(text);
}

/* Files that begin with 1, Y or something else; UNKNOWN where there is none. */
static HvpFactsAnswer read_answer(const char *root, const char *path)
{
	g_autofree char *text = read_text(root, path);

	if (text == NULL)
		return HVP_FACTS_UNKNOWN;
	return text[0] == '1' || text[0] == 'Y' ? HVP_FACTS_YES : HVP_FACTS_NO;
}

static void read_kvm(const char *root, HvpFactsHost *facts)
{
	facts->kvm_nested = read_answer(root, "/sys/module/kvm_intel/parameters/nested");
	if (facts->kvm_nested == HVP_FACTS_UNKNOWN)
		facts->kvm_nested = read_answer(root, "/sys/module/kvm_amd/parameters/nested");
}

static void read_own_rights(const char *root, HvpFactsHost *facts)
{
	g_autofree char *scope = read_text(root, "/proc/sys/kernel/yama/ptrace_scope");
	g_autofree char *status = read_text(root, "/proc/self/status");
	g_autofree char *link = g_strconcat(root, "/proc/self/ns/user", NULL);
	g_autofree char *namespace = g_file_read_link(link, NULL);
	const char *effective = status ? strstr(status, "\nCapEff:\t") : NULL;
	guint64 held = effective ? g_ascii_strtoull(effective + strlen("\nCapEff:\t"), NULL, 16)
				 : 0;

	facts->yama_scope = scope ? (gint)CLAMP(strtol(scope, NULL, 10), 0, G_MAXINT) : -1;
	facts->has_ptrace_capability = (held >> CAP_SYS_PTRACE_BIT & 1) != 0;
	if (namespace != NULL)
		facts->in_first_user_namespace = strcmp(namespace, FIRST_USER_NAMESPACE) == 0
							 ? HVP_FACTS_YES
							 : HVP_FACTS_NO;
}

/* libvirt's abstraction and what its site has added; NULL where the first cannot be read. */
static char *read_rules(const char *root)
{
	g_autofree char *theirs = read_text(root, "/etc/apparmor.d/abstractions/libvirt-qemu");
	g_autofree char *local = read_text(root, "/etc/apparmor.d/local/abstractions/libvirt-qemu");

	if (theirs == NULL || strlen(theirs) > MAX_RULES_BYTES ||
	    (local != NULL && strlen(local) > MAX_RULES_BYTES))
		return NULL;
	return g_strjoin("\n", theirs, local ? local : "", NULL);
}

void hvp_host_facts_read_below(const char *root, HvpFactsHost *facts)
{
	read_kvm(root, facts);
	read_own_rights(root, facts);
	facts->selinux_enforces = read_answer(root, "/sys/fs/selinux/enforce");
	facts->selinux_denies_ptrace = read_answer(root, "/sys/fs/selinux/booleans/deny_ptrace");
	facts->apparmor_enabled = read_answer(root, "/sys/module/apparmor/parameters/enabled");
	/* The second is of kernels before 5.8, where it may be another module's. */
	facts->apparmor_label = read_text(root, "/proc/self/attr/apparmor/current");
	if (facts->apparmor_label == NULL && facts->apparmor_enabled == HVP_FACTS_YES)
		facts->apparmor_label = read_text(root, "/proc/self/attr/current");
	facts->apparmor_rules = read_rules(root);
}

gulong hvp_host_facts_parse_version(const char *text)
{
	guint major, minor, micro = 0;
	const char *at = strstr(text, "version ");

	if (at == NULL || sscanf(at, "version %3u.%3u.%3u", &major, &minor, &micro) < 2)
		return 0;
	return (gulong)major * 1000000 + (gulong)minor * 1000 + micro;
}

/* In the child: who hangs is ended. */
static void limit_time(gpointer data)
{
	(void)data;
	alarm(VERSION_SECONDS);
}

static void ask_qemu(HvpFactsHost *facts)
{
	static const char *const names[] = { "qemu-system-x86_64", "/usr/libexec/qemu-kvm",
					     "qemu-kvm" };
	g_autofree char *said = NULL;

	for (gsize i = 0; i < G_N_ELEMENTS(names) && facts->qemu_path == NULL; i++)
		facts->qemu_path = g_find_program_in_path(names[i]);
	if (facts->qemu_path != NULL) {
		char *arguments[] = { facts->qemu_path, "--version", NULL };

		if (g_spawn_sync(NULL, arguments, NULL, G_SPAWN_STDERR_TO_DEV_NULL, limit_time,
				 NULL, &said, NULL, NULL, NULL))
			facts->qemu_version = hvp_host_facts_parse_version(said);
	}
}

HvpFactsPlace hvp_host_facts_check_folder(char *folder)
{
	HvpFactsPlace place = { .path = folder };
	g_autofree char *there = g_strdup(folder);
	struct stat status;

	/* What is not there yet is made in the nearest folder above that is. */
	while (stat(there, &status) != 0 && errno == ENOENT && strcmp(there, "/") != 0) {
		char *above = g_path_get_dirname(there);

		g_free(there);
		there = above;
	}
	if (stat(there, &status) == 0 && !S_ISDIR(status.st_mode))
		hvp_error_set(&place.error, HVP_ERROR_PERMISSION, "%s is not a folder", there);
	else if (access(there, W_OK | X_OK) != 0)
		hvp_error_set_errno(&place.error, errno, HVP_ERROR_PERMISSION,
				    "%s cannot be written", there);
	return place;
}

/* Takes @path and @error, of which one is NULL. */
static HvpFactsPlace check_program(char *path, GError *error)
{
	HvpFactsPlace place = { path, error };

	if (path != NULL && access(path, X_OK) != 0)
		hvp_error_set_errno(&place.error, errno, HVP_ERROR_PERMISSION,
				    "%s cannot be executed", path);
	return place;
}

static void look_for_programs(HvpFactsHost *facts)
{
	GError *keeper_error = NULL, *bridge_error = NULL;
	char *keeper = hvp_spawn_find_keeper(&keeper_error);
	char *bridge = hvp_monitor_find_bridge(&bridge_error);

	facts->keeper = check_program(keeper, keeper_error);
	facts->bridge = check_program(bridge, bridge_error);
	facts->plugin.path = hvp_rehearsal_find_plugin(NULL, &facts->plugin.error);
}

void hvp_host_facts_gather(HvpFactsHost *facts)
{
	struct utsname name;

	if (uname(&name) == 0)
		facts->architecture = g_strdup(name.machine);
	facts->user_name = g_strdup(g_get_user_name());
	facts->user_id = geteuid();
	(void)!hvp_kvm_run_check(&facts->kvm_error);
	hvp_host_facts_read_below("", facts);
	ask_qemu(facts);
	look_for_programs(facts);
	facts->journal = hvp_host_facts_check_folder(hvp_journal_folder());
	facts->cache = hvp_host_facts_check_folder(hvp_target_cache_folder());
}
