/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads small files of /proc, and the list of processes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define AGENT_PROC_MAX_PIDS 65536

typedef struct {
	int root_fd; /* /proc; a folder made up in tests */
	int32_t pids[AGENT_PROC_MAX_PIDS];
	size_t pid_count;
	bool more_pids; /* than fit: behind the last one */
} AgentProc;

/* False with errno set. */
bool agent_proc_open(AgentProc *self, const char *root);

/*
 * Reads a file, at most @capacity_bytes - 1, and ends it with NUL. Returns its length, or -1 with
 * errno set: ENOENT or ESRCH for a task that is gone, EFBIG if it is longer.
 */
ssize_t agent_proc_read(const AgentProc *self, const char *path, char *ret_text,
			size_t capacity_bytes);

/* As agent_proc_read() of PID/name. */
ssize_t agent_proc_read_of(const AgentProc *self, int32_t pid, const char *name, char *ret_text,
			   size_t capacity_bytes);

/* Lists the processes from pid @start on, in order, in @pids. False with errno set. */
bool agent_proc_list(AgentProc *self, int32_t start);
