/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client's connection. It reads a request's head itself, within limits of time and size, and
 * hands the HTTP library one request at a time: a head made anew and the body, both framed by us.
 *
 *   idle -> head -> body -> answer -> idle ... -> closed
 *
 * Each state has its deadline; none depends on what the peer does. Pipelined requests wait in the
 * socket.
 */
#pragma once

#include <libsoup/soup.h>

#include "apid/head.h"
#include "apid/settings.h"

typedef struct HvpConnection HvpConnection;

/*
 * Whether the request whose head is there may go on to its body, and *@ret_max_body_bytes of that.
 * The error is what it is answered with.
 */
typedef bool (*HvpAdmit)(const HvpConnection *connection, guint64 *ret_max_body_bytes,
			 GError **error);
typedef void (*HvpConnectionClosed)(HvpConnection *connection, void *data);

typedef struct {
	SoupServer *server;
	const HvpSettings *settings;
	HvpAdmit admit;
	/* Of a request that was admitted: hvp_connection_go_on() follows, now or later. */
	void (*admitted)(HvpConnection *connection, void *data);
	HvpConnectionClosed closed; /* called once; the connection goes behind it */
	void *data;
} HvpConnectionHost;

/*
 * Serves @io, which is @socket or TLS on it, for @principal until either side closes it. @host must
 * outlive it. The caller's reference ends with the call of closed().
 */
HvpConnection *hvp_connection_start(GSocket *socket, GIOStream *io, const char *principal,
				    const HvpConnectionHost *host);

/* Whose request it is; NULL for a message that came by none. Owned by the message. */
HvpConnection *hvp_connection_of_message(SoupServerMessage *message);

/* Of the request at hand: NULL if it could not even be read. */
const HvpHead *hvp_connection_head(const HvpConnection *self);
const char *hvp_connection_principal(const HvpConnection *self);
/* Whether it is of the unix socket, and not of TLS. */
bool hvp_connection_is_local(const HvpConnection *self);
/* What the request at hand is to be answered with, before all else; NULL: nothing is wrong yet. */
const GError *hvp_connection_problem(const HvpConnection *self);
/* Whether it is closed behind the answer at hand. */
bool hvp_connection_closes(const HvpConnection *self);
/*
 * Goes on to the body of the request that was admitted, of which nothing was read yet, or to the
 * answer with @problem (may be NULL). Until then the connection waits, with no deadline of its own.
 */
void hvp_connection_go_on(HvpConnection *self, const GError *problem);
/* The answer at hand was written to its end, so that another request may follow. */
void hvp_connection_set_answered(HvpConnection *self);
/* Cuts it off at once. What is being written fails. */
void hvp_connection_abort(HvpConnection *self);

/*
 * Calls @hung_up when the peer has closed its end for good, as far as that shows without reading.
 * Owned by the caller, who destroys it.
 */
GSource *hvp_connection_watch_hangup(HvpConnection *self, GSocketSourceFunc hung_up, void *data);
