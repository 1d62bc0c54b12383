/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/access.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "vm/helper.h"

#define MAX_LABEL_BYTES 200
/* Fields of /proc/PID/stat counted from the one behind the command name. */
#define STAT_STATE_FIELD 0
#define STAT_START_TIME_FIELD 19
#define YAMA_RELATIVES 1
#define YAMA_NOBODY 3

typedef struct {
	const char *root;
	pid_t pid;
	const char *what;
} Question;

/* The first line of a small file, escaped; NULL where there is none. */
static char *read_line(const Question *self, const char *path)
{
	g_autofree char *whole = g_strconcat(self->root, path, NULL);
	g_autofree char *text = NULL;

	if (!g_file_get_contents(whole, &text, NULL, NULL))
		return NULL;
	text[strcspn(text, "\n")] = '\0';
	return hvp_text_escape(text, HVP_TEXT_TERMINATED, MAX_LABEL_BYTES);
}

static char *read_process_line(const Question *self, pid_t pid, const char *name)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)pid, name);

	return read_line(self, path);
}

static long read_number(const Question *self, const char *path, long otherwise)
{
	g_autofree char *line = read_line(self, path);

	return line != NULL ? strtol(line, NULL, 10) : otherwise;
}

/* A number of the line @key of /proc/PID/status. */
static bool read_status(const Question *self, const char *process, const char *key, int base,
			guint64 *ret_value)
{
	g_autofree char *path = g_strdup_printf("%s/proc/%s/status", self->root, process);
	g_autofree char *text = NULL;
	g_autofree char *start = g_strdup_printf("\n%s:\t", key);
	const char *line;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return false;
	line = strstr(text, start);
	if (line == NULL)
		return false;
	*ret_value = g_ascii_strtoull(line + strlen(start), NULL, (guint)base);
	return true;
}

static bool explain_tracer(const Question *self, GError **error)
{
	g_autofree char *process = g_strdup_printf("%d", (int)self->pid);
	g_autofree char *name = NULL;
	guint64 tracer;

	if (!read_status(self, process, "TracerPid", 10, &tracer) || tracer == 0 ||
	    tracer > G_MAXINT)
		return false;
	name = read_process_line(self, (pid_t)tracer, "comm");
	hvp_error_set(error, HVP_ERROR_CONFLICT, "process %d is traced already, by %s (pid %d)",
		      (int)self->pid, name != NULL ? name : "a process", (int)tracer);
	return true;
}

static bool have_ptrace_capability(const Question *self)
{
	guint64 effective;

	/* CAP_SYS_PTRACE is bit 19. */
	return read_status(self, "self", "CapEff", 16, &effective) && (effective >> 19 & 1) != 0;
}

static bool explain_yama(const Question *self, GError **error)
{
	long scope = read_number(self, "/proc/sys/kernel/yama/ptrace_scope", 0);

	if (scope >= YAMA_NOBODY) {
		hvp_error_set(
			error, HVP_ERROR_PERMISSION,
			"%s process %d is forbidden by kernel.yama.ptrace_scope = %ld: nobody "
			"may, whatever the privileges, until the host is booted without it",
			self->what, (int)self->pid, scope);
		return true;
	}
	if (scope < YAMA_RELATIVES || have_ptrace_capability(self))
		return false;
	hvp_error_set(
		error, HVP_ERROR_PERMISSION,
		"%s process %d is forbidden by kernel.yama.ptrace_scope = %ld: CAP_SYS_PTRACE "
		"in its user namespace is needed",
		self->what, (int)self->pid, scope);
	return true;
}

static bool explain_selinux(const Question *self, GError **error)
{
	g_autofree char *ours = NULL;
	g_autofree char *theirs = NULL;

	if (read_number(self, "/sys/fs/selinux/enforce", 0) != 1)
		return false;
	if (read_number(self, "/sys/fs/selinux/booleans/deny_ptrace", 0) == 1) {
		hvp_error_set(error, HVP_ERROR_PERMISSION,
			      "%s process %d is forbidden by the SELinux boolean deny_ptrace",
			      self->what, (int)self->pid);
		return true;
	}
	ours = read_line(self, "/proc/self/attr/current");
	theirs = read_process_line(self, self->pid, "attr/current");
	hvp_error_set(error, HVP_ERROR_PERMISSION,
		      "%s process %d is forbidden by SELinux, probably: a policy must allow %s the "
		      "permission ptrace of %s, its categories included",
		      self->what, (int)self->pid, ours != NULL ? ours : "our domain",
		      theirs != NULL ? theirs : "its domain");
	return true;
}

/* "PROFILE (enforce)" without the mode. */
static void cut_mode(char *label)
{
	char *mode = label != NULL ? strstr(label, " (") : NULL;

	if (mode != NULL)
		*mode = '\0';
}

static bool explain_apparmor(const Question *self, GError **error)
{
	g_autofree char *ours = read_line(self, "/proc/self/attr/apparmor/current");
	g_autofree char *theirs = read_process_line(self, self->pid, "attr/apparmor/current");

	cut_mode(ours);
	cut_mode(theirs);
	if (ours == NULL || theirs == NULL ||
	    (strcmp(ours, "unconfined") == 0 && strcmp(theirs, "unconfined") == 0))
		return false;
	hvp_error_set(
		error, HVP_ERROR_PERMISSION,
		"%s process %d is forbidden by AppArmor, probably: the profile %s (for libvirt "
		"the abstraction libvirt-qemu) must have 'ptrace (readby, tracedby) peer=%s,'",
		self->what, (int)self->pid, theirs, ours);
	return true;
}

bool hvp_access_explain_below(const char *root, pid_t pid, int errno_value, const char *what,
			      GError **error)
{
	Question question = { root, pid, what };

	if (errno_value == ESRCH || errno_value == ENOENT)
		return hvp_error_set(error, HVP_ERROR_VM_GONE, "process %d has ended", (int)pid);
	if (errno_value != EPERM && errno_value != EACCES)
		return hvp_error_set_errno(error, errno_value, HVP_ERROR_INTERNAL, "%s process %d",
					   what, (int)pid);
	if (explain_tracer(&question, error) || explain_yama(&question, error) ||
	    explain_selinux(&question, error) || explain_apparmor(&question, error))
		return false;
	if (have_ptrace_capability(&question))
		return hvp_error_set(error, HVP_ERROR_PERMISSION,
				     "%s process %d is forbidden: it may be in a user namespace "
				     "that ours is not above, or a security module forbids it",
				     what, (int)pid);
	return hvp_error_set(error, HVP_ERROR_PERMISSION,
			     "%s process %d is forbidden: CAP_SYS_PTRACE in its user namespace is "
			     "needed",
			     what, (int)pid);
}

bool hvp_access_explain(pid_t pid, int errno_value, const char *what, GError **error)
{
	return hvp_access_explain_below("", pid, errno_value, what, error);
}

bool hvp_access_read_start_time(pid_t pid, guint64 *ret_start_time)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
	g_autofree char *text = NULL;
	g_auto(GStrv) fields = NULL;
	const char *behind_name;

	if (hvp_helper_is_used())
		return hvp_helper_read(HVP_HELPER_START_TIME, (guint64)pid, ret_start_time, NULL);
	if (!g_file_get_contents(path, &text, NULL, NULL))
		return false;
	/* The name may hold spaces and parentheses; nothing behind it does. */
	behind_name = strrchr(text, ')');
	if (behind_name == NULL || behind_name[1] != ' ')
		return false;
	fields = g_strsplit(behind_name + 2, " ", STAT_START_TIME_FIELD + 2);
	if (g_strv_length(fields) <= STAT_START_TIME_FIELD ||
	    strchr("ZXx", fields[STAT_STATE_FIELD][0]) != NULL)
		return false;
	*ret_start_time = g_ascii_strtoull(fields[STAT_START_TIME_FIELD], NULL, 10);
	return true;
}
