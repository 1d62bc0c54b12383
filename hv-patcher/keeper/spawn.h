/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts the program hvpatch-keeper ($HVPATCH_KEEPER for tests; see vm/program.h).
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"

/*
 * Starts a keeper with copies of @qmp_fd (-1: it gets no monitor) and @journal_fd; returns the
 * tool's end of its socket pair, or -1. NOT_FOUND: there is no such program. That it does not start
 * all the same shows as the socket's end.
 */
int hvp_spawn_keeper(int qmp_fd, int journal_fd, GError **error);

/*
 * The same for somebody else, who may not be trusted with another VM than that of process @pid,
 * started at @start_time. The keeper keeps a copy of @life_fd as long as it lives.
 */
int hvp_spawn_keeper_of(pid_t pid, guint64 start_time, int qmp_fd, int journal_fd, int life_fd,
			GError **error);

/* The file that would be started; the caller's. NOT_FOUND. */
char *hvp_spawn_find_keeper(GError **error);
