/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What systemd passes on and wants to hear; see sd_listen_fds(3) and sd_notify(3). */
#pragma once

#include <glib.h>

#define HVP_NOTIFY_FIRST_FD 3

/* How many listening sockets were passed, from HVP_NOTIFY_FIRST_FD on. Call it once. */
int hvp_notify_inherited_count(void);

/* Tells the service's manager, if there is one, such as "READY=1". */
void hvp_notify_send(const char *state);

/* How often to send "WATCHDOG=1", in milliseconds; 0: not at all. */
guint hvp_notify_watchdog_msec(void);
