/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The core as a whole: what there is of it, put together.
 *
 *   bus -> manager -> call -> { domains, patches, operations, events, metrics }
 *                                operations -> run -> worker (a process each)
 *                                domains -> { lister, watcher (threads: libvirt), looks -> worker }
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

#include "daemon/authority.h"
#include "daemon/config.h"

typedef struct HvpDaemon HvpDaemon;

/*
 * Reads the state of @config (taken) and comes onto the bus; @ended is told when it has drained.
 * CONFLICT: another one is at this state. Others of what it consists of.
 */
HvpDaemon *hvp_daemon_new(GDBusConnection *connection, HvpConfig *config, HvpAuthorityKind kind,
			  void (*ended)(gpointer data), gpointer data, GError **error);

/* Whether it knows libvirt's domains, so that operations begin. */
bool hvp_daemon_is_ready(const HvpDaemon *self);

/*
 * Goes on with what @config (taken) says: for calls to come, and operations that begin. Errors,
 * with nothing changed: what hvp_daemon_new would refuse of it.
 */
bool hvp_daemon_reload(HvpDaemon *self, HvpConfig *config,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Takes on nothing any more; tells when what is at work has ended, or took too long. */
void hvp_daemon_drain(HvpDaemon *self);

/* Ends what is at work. The next start finishes it. */
void hvp_daemon_free(HvpDaemon *self);
