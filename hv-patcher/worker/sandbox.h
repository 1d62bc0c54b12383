/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gives up, for good, all that the working half has no use for: the user and its groups,
 * capabilities, new privileges, memory and time without end, descriptors, most system calls. What
 * is left to it: its memory, the descriptors that it has or is sent, and its own end.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

typedef struct {
	uid_t uid;
	gid_t gid;
	bool is_changed; /* else we stay who we are: we are not root */
} HvpSandboxUser;

/*
 * Whom the working half becomes: the user hvpatch-worker, or nobody; of its own accord where we are
 * not root. NOT_FOUND: there is neither.
 */
bool hvp_sandbox_find_user(HvpSandboxUser *ret_user, GError **error) G_GNUC_WARN_UNUSED_RESULT;

typedef struct {
	HvpSandboxUser user;
	pid_t parent;	    /* with whose end ours comes */
	gint64 cpu_seconds; /* how long it may compute */
	const int *fds;	    /* what stays open beside the standard streams; ascending, -1 skipped */
	guint fd_count;
} HvpSandbox;

/* Enters it. On failure the caller has to end: part of it may be in force. */
bool hvp_sandbox_enter(const HvpSandbox *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;
