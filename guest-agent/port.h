/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way to the host: a virtio-serial port, or for tests a Unix socket, a terminal or another
 * character device.
 *
 *   closed -> open, nobody there <-> open, the host is there -> closed
 */
#pragma once

#include <stdbool.h>

#define AGENT_PORT_NAME "org.hvpatch.agent.0"

typedef struct {
	const char *path; /* NULL: the virtio-serial port of AGENT_PORT_NAME */
	int fd;		  /* -1: closed; never blocks */
	bool is_socket;
} AgentPort;

/* False with errno set; does nothing if it is open. */
bool agent_port_open(AgentPort *self);

void agent_port_close(AgentPort *self);

/*
 * Whether the host is there. If not, drops what it sent before it went, and closes the port if
 * that has gone as well. A port that is open and waits costs the host nothing: each open would be
 * an event of its monitor.
 */
bool agent_port_has_host(AgentPort *self);
