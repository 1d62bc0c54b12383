/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "doctor/process-facts.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vm/access.h"

#define MAX_ARGUMENTS_BYTES (4U << 20)
#define MAX_NAME_BYTES 64

static char *process_path(pid_t pid, const char *name)
{
	return g_strdup_printf("/proc/%d/%s", (int)pid, name);
}

static void read_user(HvpFactsVm *facts)
{
	g_autofree char *path = process_path(facts->pid, "");
	const struct passwd *user;
	struct stat status;

	if (stat(path, &status) != 0)
		return;
	facts->has_process = HVP_FACTS_YES;
	facts->process_user_id = status.st_uid;
	user = getpwuid(status.st_uid);
	facts->process_user_name = g_strdup(user ? user->pw_name : "an unnamed user");
}

static char *name_of(pid_t pid)
{
	g_autofree char *path = process_path(pid, "comm");
	g_autofree char *text = NULL;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return g_strdup_printf("a process (pid %d)", (int)pid);
	return g_strdup_printf("%.*s (pid %d)", MAX_NAME_BYTES, g_strstrip(text), (int)pid);
}

static void read_tracer(HvpFactsVm *facts)
{
	g_autofree char *path = process_path(facts->pid, "status");
	g_autofree char *text = NULL;
	const char *line = NULL;
	guint64 tracer = 0;

	if (g_file_get_contents(path, &text, NULL, NULL))
		line = strstr(text, "\nTracerPid:\t");
	if (line != NULL)
		tracer = g_ascii_strtoull(line + strlen("\nTracerPid:\t"), NULL, 10);
	if (tracer > 0 && tracer <= G_MAXINT)
		facts->tracer = name_of((pid_t)tracer);
}

/* --- the command line --- */

/* "-name" and "--name" are the same to QEMU. */
static bool is_option(const char *argument, const char *name)
{
	if (argument[0] != '-')
		return false;
	argument += argument[1] == '-' ? 2 : 1;
	return strcmp(argument, name) == 0;
}

static void take(char **where, const char *text)
{
	g_free(*where);
	*where = g_strdup(text);
}

static void take_object(const char *object, HvpFactsVm *facts)
{
	static const char *const kinds[][2] = { { "sev-guest", "sev" },
						{ "sev-snp-guest", "sev-snp" },
						{ "tdx-guest", "tdx" } };

	/* "TYPE,..." or JSON with "qom-type":"TYPE". */
	for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
		g_autofree char *quoted = g_strdup_printf("\"%s\"", kinds[i][0]);

		if (strstr(object, quoted) != NULL ||
		    strncmp(object, kinds[i][0], strlen(kinds[i][0])) == 0)
			take(&facts->encryption, kinds[i][1]);
	}
}

void hvp_process_facts_read_arguments(const char *arguments, gsize length_bytes, HvpFactsVm *facts)
{
	const char *end = arguments + length_bytes;
	const char *before = "";

	for (const char *at = arguments; at < end; at += strlen(at) + 1) {
		if (is_option(before, "gdb") && strcmp(at, "none") != 0)
			take(&facts->debugger, at);
		else if (is_option(before, "object"))
			take_object(at, facts);
		else if (is_option(at, "s"))
			take(&facts->debugger, at);
		before = at;
	}
}

static void read_command_line(HvpFactsVm *facts)
{
	g_autofree char *path = process_path(facts->pid, "cmdline");
	g_autofree char *text = NULL;
	gsize length_bytes;

	/* GLib ends it by a NUL of its own. */
	if (g_file_get_contents(path, &text, &length_bytes, NULL) &&
	    length_bytes <= MAX_ARGUMENTS_BYTES)
		hvp_process_facts_read_arguments(text, length_bytes, facts);
}

/* --- descriptors and memory --- */

static void list_descriptors(HvpFactsVm *facts)
{
	g_autofree char *folder = process_path(facts->pid, "fd");
	g_autoptr(GDir) directory = g_dir_open(folder, 0, NULL);
	const char *name;

	if (directory == NULL)
		return;
	facts->has_userfaultfd = HVP_FACTS_NO;
	while ((name = g_dir_read_name(directory)) != NULL) {
		g_autofree char *path = g_build_filename(folder, name, NULL);
		char target[PATH_MAX] = { 0 };

		if (readlink(path, target, sizeof target - 1) > 0 &&
		    strcmp(target, "anon_inode:[userfaultfd]") == 0)
			facts->has_userfaultfd = HVP_FACTS_YES;
	}
}

/* Where its first mapping begins, which is of its program; false with errno. */
static bool find_mapping(pid_t pid, guint64 *ret_start)
{
	g_autofree char *path = process_path(pid, "maps");
	g_autofree char *line = NULL;
	FILE *file = fopen(path, "re");
	size_t size = 0;
	bool ok;

	if (file == NULL)
		return false;
	errno = 0;
	ok = getline(&line, &size, file) > 0;
	if (ok)
		*ret_start = g_ascii_strtoull(line, NULL, 16);
	else if (errno == 0)
		errno = ESRCH;
	fclose(file);
	return ok;
}

/* As whoever reads the guest's memory does, but outside of it (see vm/process-memory.c). */
static void try_access(HvpFactsVm *facts)
{
	guint8 byte;
	guint64 start = 0;
	struct iovec local = { &byte, 1 };
	struct iovec remote = { NULL, 1 };

	if (!find_mapping(facts->pid, &start)) {
		hvp_access_explain(facts->pid, errno, "reading the mappings of",
				   &facts->access_error);
		return;
	}
	remote.iov_base = (void *)(guintptr)start;
	if (process_vm_readv(facts->pid, &local, 1, &remote, 1, 0) < 0 && errno != EFAULT)
		hvp_access_explain(facts->pid, errno, "reading the memory of",
				   &facts->access_error);
}

void hvp_process_facts_gather(HvpFactsVm *facts)
{
	read_user(facts);
	if (facts->has_process != HVP_FACTS_YES)
		return;
	read_tracer(facts);
	read_command_line(facts);
	list_descriptors(facts);
	try_access(facts);
}
