/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Going home without the tool: uncommitted writes are undone, a call that has not
 * begun is taken back, one that has is waited for (however long it takes), hooks
 * are answered with failure; then breakpoints are removed, the VM resumed, QEMU's stub
 * taken down. A stub that fails on the way is replaced, once.
 *
 * After ADOPT the way is the same, but the session stays attached at its end.
 */
#pragma once

#include "keeper/session.h"

/* Begins, or, when the vCPUs have stopped on the way, goes on. Never fails, but may give up. */
void hvp_home_go(HvpSession *self);

/* The same when the stub failed, for @why (taken). */
void hvp_home_go_anew(HvpSession *self, GError *why);

/* The session is over because of @why (taken): rolls back, and answers a request that waits. */
void hvp_home_end(HvpSession *self, GError *why);
void hvp_home_end_with(HvpSession *self, HvpErrorCode code, const char *message);

/* The guest was reset: no thread will come home, and the session is over. */
void hvp_home_end_reset(HvpSession *self);

/* Removes what is ours, resumes what we stopped, and detaches; everybody is home. */
bool hvp_home_leave(HvpSession *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether frames are out, or writes not committed. */
bool hvp_home_is_needed(const HvpSession *self);

/* What the tool is told of a failure after which we went home (a copy): UNDONE, mostly. */
GError *hvp_home_as_undone(const GError *error);
