/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts the small programs that work beside hvpatch: each in a session of its own, so
 * that it outlives the tool's terminal, and not as the tool's child, so that nobody has
 * to reap it.
 *
 * Which file: what an environment variable names (for tests; not where privileges were
 * raised), else the one beside the running program, else the installed one.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* Descriptors of a program's own begin here, in the order in which they were given. */
#define HVP_PROGRAM_FIRST_FD 3
#define HVP_PROGRAM_MAX_FDS 4

/* A program of ours; static. */
typedef struct {
	const char *name;
	const char *variable; /* of the environment: another file to run as it */
	void (*started)(pid_t pid); /* told of each that was started, here; may be NULL */
} HvpProgram;

/* Which file @program is; the caller's. NOT_FOUND. */
char *hvp_program_find(const HvpProgram *program, GError **error);

/*
 * Starts @program with @arguments (NULL-terminated, its own name not among them; may be NULL) and
 * copies of @fds[@fd_count]; its standard streams are /dev/null. NOT_FOUND: there is no such
 * program. That it does not start all the same is seen by what its descriptors do.
 */
bool hvp_program_start(const HvpProgram *program, const char *const *arguments, const int *fds,
		       guint fd_count, GError **error) G_GNUC_WARN_UNUSED_RESULT;
