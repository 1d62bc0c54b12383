/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A peer that has said all that it will ever say before the client asks, and hears nothing. */
#pragma once

#include <glib.h>
#include <sys/socket.h>
#include <unistd.h>

/* What a socket holds without a reader. */
#define PEER_MAX_BYTES (64U << 10)

/* The client's end; @ret_peer is to be closed last. At most PEER_MAX_BYTES. */
static inline int peer_say(const void *bytes, gsize size_bytes, int *ret_peer)
{
	int ends[2];

	g_assert(size_bytes <= PEER_MAX_BYTES);
	g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	g_assert(send(ends[1], bytes, size_bytes, MSG_NOSIGNAL) == (gssize)size_bytes);
	g_assert(shutdown(ends[1], SHUT_WR) == 0);
	*ret_peer = ends[1];
	return ends[0];
}
