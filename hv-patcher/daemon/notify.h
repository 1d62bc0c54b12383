/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tells systemd how the service is, by datagrams to $NOTIFY_SOCKET (sd_notify(3)). */
#pragma once

#include <glib.h>

/* @state: "READY=1" and the like. Nothing where nobody listens. */
void hvp_notify_send(const char *state);

/* That it reads its configuration again, until READY=1 is sent. */
void hvp_notify_send_reloading(void);

/* Sends a sign of life from the main loop, as often as systemd wants one ($WATCHDOG_USEC). */
void hvp_notify_start_watchdog(void);
