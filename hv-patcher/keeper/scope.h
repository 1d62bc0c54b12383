/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps what ends hvpatch from ending its keeper, which may be all that a stopped guest has left:
 * systemd, which ends a service's processes with it (restart, watchdog, end of a user's session),
 * and the kernel, which kills one for its memory and systemd the rest of the unit with it.
 *
 * Under systemd each keeper of root's is in a scope of its own, hvpatch-keeper-PID.scope. Without,
 * or when systemd does not answer, it is left where it is. Keepers of others stay where they are.
 *
 * A scope has no main process, so KillMode=mixed would mean: SIGKILL at once (systemd,
 * src/core/scope.c). It is control-group: SIGTERM, on which a keeper brings its guest home.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

#include "base/error.h"

/* The last to be killed but for those that may not be: as for sshd, udevd, journald. */
#define HVP_SCOPE_OOM_SCORE (-900)

/* For a keeper that was just started; no failure matters. Blocks up to three seconds. */
void hvp_scope_take(pid_t keeper);

/*
 * Has systemd, reached by @bus, put @keeper into its scope. NOT_FOUND: it is not there, or not yet,
 * as it comes to the bus a moment after that has started. UNSUPPORTED: it did not do it.
 */
bool hvp_scope_start(GDBusConnection *bus, pid_t keeper, GError **error) G_GNUC_WARN_UNUSED_RESULT;
