/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest agent: see docs/guest-agent.md. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "port.h"
#include "session.h"

#define NO_PORT_MSEC 1000
#define NO_HOST_MSEC 250

static AgentSession session;

static void sleep_msec(int64_t msec)
{
	struct timespec duration = {
		.tv_sec = msec / 1000,
		.tv_nsec = msec % 1000 * AGENT_NSEC_PER_MSEC,
	};

	nanosleep(&duration, NULL);
}

/* Tells why the port does not open, once for each new reason; 0: it did. */
static void complain(const AgentPort *port, int error)
{
	static int told;

	if (error != told && error != 0)
		fprintf(stderr, "hvpatch-agent: %s: %s\n",
			port->path != NULL ? port->path : "port " AGENT_PORT_NAME, strerror(error));
	told = error;
}

/* Until the host or the port has gone. */
static void serve(int fd)
{
	struct pollfd pollfd = { .fd = fd };

	agent_session_begin(&session);
	do {
		int64_t now_nsec = agent_clock_nsec(CLOCK_MONOTONIC);

		pollfd.events = agent_session_events(&session, now_nsec);
		pollfd.revents = 0;
		if (poll(&pollfd, 1, agent_session_timeout_msec(&session, now_nsec)) < 0 &&
		    errno != EINTR)
			return;
	} while (!(pollfd.revents & (POLLHUP | POLLERR | POLLNVAL)) &&
		 agent_session_turn(&session, fd, pollfd.revents));
}

static void serve_for_ever(AgentPort *port)
{
	for (;;) {
		if (!agent_port_open(port)) {
			complain(port, errno);
			sleep_msec(NO_PORT_MSEC);
			continue;
		}
		if (agent_port_has_host(port)) {
			complain(port, 0);
			serve(port->fd);
			if (port->is_socket)
				agent_port_close(port);
		}
		sleep_msec(NO_HOST_MSEC);
	}
}

static int usage(FILE *stream, int status)
{
	fprintf(stream, "Usage: hvpatch-agent [--path PATH] [--proc FOLDER]\n"
			"Tells the host about this guest's kernel threads.\n\n"
			"  --path PATH    a device or socket, not the port " AGENT_PORT_NAME "\n"
			"  --proc FOLDER  not /proc\n"
			"  --version, --help\n");
	return status;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "path", required_argument, NULL, 'p' },
		{ "proc", required_argument, NULL, 'P' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	AgentPort port = { .fd = -1 };
	const char *proc_root = "/proc";
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (option) {
		case 'p':
			port.path = optarg;
			break;
		case 'P':
			proc_root = optarg;
			break;
		case 'v':
			puts("hvpatch-agent " HVP_AGENT_VERSION);
			return 0;
		case 'h':
			return usage(stdout, 0);
		default:
			return usage(stderr, 2);
		}
	}
	if (optind != argc)
		return usage(stderr, 2);
	signal(SIGPIPE, SIG_IGN);
	if (!agent_protocol_start(&session.protocol, proc_root)) {
		fprintf(stderr, "hvpatch-agent: %s: %s\n", proc_root, strerror(errno));
		return 1;
	}
	serve_for_ever(&port);
	return 0;
}
