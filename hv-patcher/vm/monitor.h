/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a VM's monitor is, and how to get a connection to it, as often as one is needed:
 * a connection that was given to the keeper does not come back.
 *
 *   a socket    QEMU's own QMP socket
 *   a domain    of libvirt, which has QEMU's monitor to itself: a small program
 *               (hvpatch-libvirt-monitor, see vm/libvirt-monitor.h) speaks QMP at the other
 *               end of a socket pair and passes the commands on. It lives as long as anybody
 *               holds our end, so also for a keeper whose hvpatch was killed
 */
#pragma once

#include "vm/qmp.h"

typedef struct HvpMonitor HvpMonitor;

/* Copies @path. Never NULL. */
HvpMonitor *hvp_monitor_new_for_socket(const char *path);

/*
 * Of the running domain @uuid (as text) that has number @id on the libvirt connection @uri; @name
 * is for messages. Copies all. Never NULL.
 */
HvpMonitor *hvp_monitor_new_for_domain(const char *uri, const char *uuid, int id, const char *name);

/* NULL is fine. Connections stay. */
void hvp_monitor_free(HvpMonitor *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpMonitor, hvp_monitor_free)

/* The socket's path or the domain's name; borrowed. */
const char *hvp_monitor_get_name(const HvpMonitor *self);

/*
 * A new connection, negotiated. Errors of hvp_qmp_connect; of a domain: NOT_FOUND, the program
 * is not installed; VM_GONE, it ended, or the domain does not run any more; what libvirt says,
 * as CONFLICT.
 */
HvpQmp *hvp_monitor_connect(const HvpMonitor *self, HvpDeadline deadline, GError **error);

/* The program that would be started for a domain; the caller's. NOT_FOUND. */
char *hvp_monitor_find_bridge(GError **error);
