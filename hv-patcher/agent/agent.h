/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of the agent inside the guest (docs/guest-agent.md): a JSON object a line over the
 * socket of a virtio-serial port. One request at a time; no main loop, no thread; every
 * wait has a deadline; its memory does not grow, whatever comes.
 *
 *   out of step --sync: 0xFF, an id--> in step --request--> (event | other's answer)* answer
 *        ^                                  |
 *        +---- timeout, malformed line -----+
 *
 * The peer runs in the guest, so nothing that it says is believed here; what it claims is
 * compared with the guest's memory in engine/compare.c. Nothing is sent but commands, numbers
 * and names of threads.
 *
 * Errors of every exchange: TIMED_OUT and BAD_DATA (as good as no answer; the next exchange
 * begins in step again), VM_GONE (closed: for good), NOT_FOUND (no such command), CONFLICT with
 * the agent's own words, escaped.
 */
#pragma once

#include <json-glib/json-glib.h>

#include "base/deadline.h"
#include "base/error.h"

#define HVP_AGENT_MAX_LINE_BYTES 65535U
#define HVP_AGENT_MAX_DEPTH 16U
#define HVP_AGENT_MAX_VALUES 16384U
/* What comes while nobody asks for events is kept so far; the oldest goes. */
#define HVP_AGENT_MAX_EVENTS 16U
#define HVP_AGENT_PROTOCOL 1

typedef struct HvpAgent HvpAgent;

/*
 * Connects to the socket at @path, gets in step and asks what is there. NOT_FOUND: no such path;
 * INVALID_ARGUMENT: not a socket; VM_GONE: nobody listens; TIMED_OUT: no agent answers, or
 * another client holds the port; UNSUPPORTED: an agent of another protocol.
 */
HvpAgent *hvp_agent_connect(const char *path, HvpDeadline deadline, GError **error);

/* Wraps @fd, a stream socket on which nothing was said yet; takes it. */
HvpAgent *hvp_agent_new_from_fd(int fd, HvpDeadline deadline, GError **error);

/* Closes the connection; NULL is fine. */
void hvp_agent_free(HvpAgent *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpAgent, hvp_agent_free)

/* Its version, escaped; borrowed. */
const char *hvp_agent_get_version(const HvpAgent *self);

/* Whether it offers @command. */
bool hvp_agent_offers(const HvpAgent *self, const char *command);

/* Runs @command (@arguments borrowed, may be NULL) and returns its "return" value. */
JsonNode *hvp_agent_execute(HvpAgent *self, const char *command, JsonObject *arguments,
			    HvpDeadline deadline, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Waits for the next event of that name and returns its "data", an object. Others are skipped. */
JsonNode *hvp_agent_wait_event(HvpAgent *self, const char *name, HvpDeadline deadline,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;
