/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PATH_CAPACITY 64
#define NAME_MAX_DIGITS 9

bool agent_proc_open(AgentProc *self, const char *root)
{
	self->root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	self->pid_count = 0;
	self->more_pids = false;
	return self->root_fd >= 0;
}

/* Reads until the end of the file: /proc gives some files in pieces. */
static ssize_t read_whole(int fd, char *ret_text, size_t capacity_bytes)
{
	size_t used_bytes = 0;

	while (used_bytes < capacity_bytes) {
		ssize_t got = read(fd, ret_text + used_bytes, capacity_bytes - used_bytes);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0) {
			ret_text[used_bytes] = '\0';
			return (ssize_t)used_bytes;
		}
		used_bytes += (size_t)got;
	}
	errno = EFBIG;
	return -1;
}

ssize_t agent_proc_read(const AgentProc *self, const char *path, char *ret_text,
			size_t capacity_bytes)
{
	int fd = openat(self->root_fd, path, O_RDONLY | O_CLOEXEC);
	ssize_t length;
	int error;

	if (fd < 0)
		return -1;
	length = read_whole(fd, ret_text, capacity_bytes);
	error = errno;
	close(fd);
	errno = error;
	return length;
}

ssize_t agent_proc_read_of(const AgentProc *self, int32_t pid, const char *name, char *ret_text,
			   size_t capacity_bytes)
{
	char path[PATH_CAPACITY];

	snprintf(path, sizeof path, "%" PRId32 "/%s", pid, name);
	return agent_proc_read(self, path, ret_text, capacity_bytes);
}

/* The number that a name is; -1: none. */
static int32_t pid_of(const char *name)
{
	int32_t pid = 0;
	size_t i;

	for (i = 0; name[i] >= '0' && name[i] <= '9' && i < NAME_MAX_DIGITS; i++)
		pid = pid * 10 + (name[i] - '0');
	return i > 0 && name[i] == '\0' ? pid : -1;
}

static int compare_pids(const void *left, const void *right)
{
	const int32_t *a = left, *b = right;

	return *a < *b ? -1 : *a > *b;
}

static bool is_sorted(const AgentProc *self)
{
	for (size_t i = 1; i < self->pid_count; i++)
		if (self->pids[i - 1] > self->pids[i])
			return false;
	return true;
}

static bool list_from(AgentProc *self, DIR *folder, int32_t start)
{
	const struct dirent *entry;

	errno = 0;
	while ((entry = readdir(folder)) != NULL) {
		int32_t pid = pid_of(entry->d_name);

		if (pid < 0 || pid < start)
			continue;
		if (self->pid_count == AGENT_PROC_MAX_PIDS) {
			self->more_pids = true;
			return true;
		}
		self->pids[self->pid_count++] = pid;
	}
	return errno == 0;
}

bool agent_proc_list(AgentProc *self, int32_t start)
{
	int fd = openat(self->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
	bool good;
	int error;

	self->pid_count = 0;
	self->more_pids = false;
	if (folder == NULL) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	good = list_from(self, folder, start);
	error = errno;
	closedir(folder);
	errno = error;
	/* procfs lists pids in order. */
	if (good && !is_sorted(self))
		qsort(self->pids, self->pid_count, sizeof self->pids[0], compare_pids);
	return good;
}
