/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers the host's requests: docs/guest-agent.md has the protocol. */
#pragma once

#include "json.h"
#include "module.h"
#include "watch.h"

#define AGENT_PROTOCOL_VERSION 1
#define AGENT_PROTOCOL_BOOT_ID_CAPACITY 64

typedef struct {
	AgentProc proc;
	AgentWatch watch;
	AgentJson json;
	AgentKthreadStack stack;
} AgentProtocol;

/* Opens /proc, or what stands for it. False with errno set. */
bool agent_protocol_start(AgentProtocol *self, const char *proc_root);

/*
 * Answers one line, which is without its newline; the answer has one. Nothing is written for a
 * line of blanks. @writer is empty, with room for an outgoing line.
 */
void agent_protocol_answer(AgentProtocol *self, const char *line, size_t size_bytes,
			   AgentWriter *writer);

/* The answer to what is no request at all. */
void agent_protocol_refuse(AgentWriter *writer, const char *reason);

/* Writes an event if the watch has something to tell; to be called when that is due. */
void agent_protocol_tick(AgentProtocol *self, int64_t now_nsec, AgentWriter *writer);
