/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection to the host: what is received, what is to be sent, and how much of a CPU it may
 * cost. One line at most waits to be sent; while it does, nothing is read and nothing is made.
 *
 *   read -> cut into lines -> answer -> send -> read ...
 *                  watch is due -> event -> send
 */
#pragma once

#include "line.h"
#include "protocol.h"

#define AGENT_SESSION_RECEIVE_BYTES 16384

typedef struct {
	AgentProtocol protocol;
	AgentLine line;
	char received[AGENT_SESSION_RECEIVE_BYTES];
	size_t received_bytes, taken_bytes;
	char outgoing[AGENT_LINE_MAX_BYTES];
	AgentWriter writer; /* of outgoing */
	size_t sent_bytes;
	int64_t debt_nsec; /* of CPU time: rests when it is worth while */
	int64_t rest_nsec; /* until when it rests */
} AgentSession;

/* A connection begins: nothing is left of an earlier one. The protocol has been started. */
void agent_session_begin(AgentSession *self);

/* What to poll for, and how long at most (-1: for ever). */
short agent_session_events(const AgentSession *self, int64_t now_nsec);
int agent_session_timeout_msec(const AgentSession *self, int64_t now_nsec);

/*
 * Does what there is to do after @revents; never blocks (@fd does not). False: the host has gone,
 * or the port.
 */
bool agent_session_turn(AgentSession *self, int fd, short revents);
