/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why the host's kernel does not let us trace, read or write another process: which rule
 * of Yama, SELinux, AppArmor or of the capabilities it was, and what would allow it.
 * Guessed from what /proc and /sys tell after a refusal; it grants nothing.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* Start time of process @pid in clock ticks after boot; false when it ended (a zombie, too). */
bool hvp_access_read_start_time(pid_t pid, guint64 *ret_start_time);

/*
 * Explains @errno_value of @what (such as "tracing") done to @pid: VM_GONE; CONFLICT naming
 * the tracer that it has already; PERMISSION naming the rule. Always false.
 */
bool hvp_access_explain(pid_t pid, int errno_value, const char *what, GError **error);

/* The same with /proc and /sys below @root ("" for the real ones), for tests. */
bool hvp_access_explain_below(const char *root, pid_t pid, int errno_value, const char *what,
			      GError **error);
