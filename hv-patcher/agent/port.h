/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a VM has the agent's port: QEMU's own object tree tells, if it is a socket of the host. */
#pragma once

#include "vm/qmp.h"

#define HVP_PORT_NAME "org.hvpatch.agent.0"

/*
 * *@ret_path: the unix socket behind the virtio-serial port of that name, the caller's; NULL
 * without an error where the VM has no such port, or something else behind it. Asks only.
 */
bool hvp_port_find(HvpQmp *qmp, HvpDeadline deadline, char **ret_path,
		   GError **error) G_GNUC_WARN_UNUSED_RESULT;

typedef enum {
	HVP_PORT_ABSENT,
	HVP_PORT_CLOSED, /* nobody in the guest has it open */
	HVP_PORT_OPEN,
} HvpPortState;

/* Whether the VM has the port, whatever is behind it, and somebody in the guest is at it. Asks
 * only. */
bool hvp_port_read_state(HvpQmp *qmp, HvpDeadline deadline, HvpPortState *ret_state,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;
