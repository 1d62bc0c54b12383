/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The body of hvpatch-libvirt-monitor: a bridge between one QMP client, at the other end of a
 * socket pair, and the monitor of a libvirt domain, which libvirt alone speaks to.
 *
 *   client's command -> virDomainQemuMonitorCommandWithFiles -> answer, with the client's id
 *   QEMU's STOP, RESUME, RESET, SHUTDOWN -> event
 *
 * It lives as long as anybody holds the client's end. When the libvirt daemon goes (it is
 * restarted, say) it connects again, so that a keeper can still put a guest right. Commands that
 * only ask are then repeated; for others nobody knows whether QEMU got them, and the client is
 * told so. When the domain is gone, or was started anew since, the connection ends as QEMU's own
 * would: no command goes to another QEMU than the first.
 *
 * What it does not notice: a reset while there was no connection to the daemon.
 */
#pragma once

#include <stdbool.h>

/*
 * Serves the client on @fd until it or the domain @uuid with number @id of @uri is gone; returns
 * the exit status of the program.
 */
int hvp_libvirt_monitor_run(int fd, const char *uri, const char *uuid, int id);
