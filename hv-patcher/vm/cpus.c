/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/cpus.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Field 39 of /proc/PID/task/TID/stat, counted from behind the name. */
#define STAT_PROCESSOR_FIELD 36

void hvp_cpus_begin(HvpCpus *self)
{
	self->is_known = sched_getaffinity(0, sizeof self->allowed, &self->allowed) == 0;
	self->kept = self->allowed;
}

void hvp_cpus_add(pid_t pid, pid_t thread_id, cpu_set_t *set)
{
	char path[64], text[1024], *at;
	ssize_t length_bytes;
	int fd;

	g_snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)thread_id);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	length_bytes = read(fd, text, sizeof text - 1);
	close(fd);
	text[MAX(length_bytes, 0)] = 0;
	at = strrchr(text, ')');
	for (guint i = 0; at != NULL && i <= STAT_PROCESSOR_FIELD; i++)
		at = strchr(at + 1, ' ');
	if (at != NULL)
		CPU_SET((gsize)g_ascii_strtoull(at, NULL, 10), set);
}

static void keep_to(HvpCpus *self, const cpu_set_t *set)
{
	if (!CPU_EQUAL(&self->kept, set) && sched_setaffinity(0, sizeof *set, set) == 0)
		self->kept = *set;
}

bool hvp_cpus_avoid(HvpCpus *self, const cpu_set_t *busy, guint users)
{
	cpu_set_t rest;

	if (!self->is_known)
		return false;
	CPU_AND(&rest, &self->allowed, busy);
	CPU_XOR(&rest, &self->allowed, &rest);
	if ((guint)CPU_COUNT(&self->allowed) <= users || CPU_COUNT(&rest) == 0)
		rest = self->allowed;
	keep_to(self, &rest);
	CPU_AND(&rest, &self->kept, busy);
	return CPU_COUNT(&rest) == 0;
}

void hvp_cpus_join(HvpCpus *self, pid_t other)
{
	cpu_set_t set;

	if (!self->is_known || sched_getaffinity(other, sizeof set, &set) != 0)
		return;
	CPU_AND(&set, &set, &self->allowed);
	if (CPU_COUNT(&set) > 0)
		keep_to(self, &set);
}

void hvp_cpus_end(HvpCpus *self)
{
	if (self->is_known)
		keep_to(self, &self->allowed);
}
