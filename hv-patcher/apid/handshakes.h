/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clients by TLS that have not shown yet who they are. They are few at a time, as each takes a
 * thread, and have a while only. A newcomer is never turned away: where there are too many of its
 * source the oldest of that is cut off, where there are too many at all the oldest of the source
 * that has most.
 */
#pragma once

#include <gio/gio.h>

typedef struct HvpHandshakes HvpHandshakes;

/* It has ended; @error: not well. All stay the callee's. */
typedef void (*HvpHandshakesDone)(GSocket *socket, GTlsConnection *tls, const GError *error,
				  void *data);

/* Each of them has @seconds. */
HvpHandshakes *hvp_handshakes_new(guint seconds, HvpHandshakesDone done, void *data);
/* Of those under way none is told of any more. NULL: nothing. */
void hvp_handshakes_free(HvpHandshakes *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpHandshakes, hvp_handshakes_free)

/* Begins one on @socket, of which @tls is. */
void hvp_handshakes_begin(HvpHandshakes *self, GSocket *socket, GTlsConnection *tls);

/*
 * What counts as one source: an IPv4 address, also as IPv6 has it (::ffff:1.2.3.4); of IPv6 the
 * network of 64 bits, as within that one has any address. Owned by the caller.
 */
char *hvp_handshakes_source(GInetAddress *address);
