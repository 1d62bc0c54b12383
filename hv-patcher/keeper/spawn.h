/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts the program hvpatch-keeper: in a session of its own, so that it outlives
 * the tool's terminal, and not as the tool's child, so that nobody has to reap it.
 *
 * Which program: $HVPATCH_KEEPER (for tests; not where privileges were raised), else
 * "hvpatch-keeper" beside the running program, else the installed one.
 */
#pragma once

#include "base/error.h"

/*
 * Starts a keeper with copies of @qmp_fd and @journal_fd; returns the tool's end of
 * its socket pair, or -1. NOT_FOUND: there is no such program. That it does not start
 * all the same shows as the socket's end.
 */
int hvp_spawn_keeper(int qmp_fd, int journal_fd, GError **error);
