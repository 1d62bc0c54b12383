/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A socket that takes connections: of a path, of an address, or one that systemd opened. */
#pragma once

#include <gio/gio.h>

#include "apid/settings.h"

typedef struct HvpListener HvpListener;

/* @socket is the callee's to keep or let go; it does not block. */
typedef void (*HvpListenerTake)(HvpListener *listener, GSocket *socket, void *data);

/*
 * A unix socket at the path, with the mode and group, of @settings. One that nobody listens at is
 * put away. BUSY: somebody does; PERMISSION, NOT_FOUND.
 */
HvpListener *hvp_listener_new_unix(const HvpSettings *settings, GError **error);
/* TCP at the address of @settings. BUSY, PERMISSION. */
HvpListener *hvp_listener_new_tcp(const HvpSettings *settings, GError **error);
/* The listening stream socket @fd, which is taken. UNSUPPORTED: it is none. */
HvpListener *hvp_listener_new_inherited(int fd, GError **error);

/* Whether its clients come over a network. */
bool hvp_listener_is_tcp(const HvpListener *self);
/* The port of one that is TCP; 0 if not known. */
guint16 hvp_listener_get_port(const HvpListener *self);

/*
 * Calls @take for each connection from now on. When there is none to be had, for want of
 * descriptors, it waits for a while and counts that in @failures.
 */
void hvp_listener_start(HvpListener *self, HvpListenerTake take, void *data, guint64 *failures);

/* Puts the socket's file away, too, if it made it. */
void hvp_listener_free(HvpListener *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpListener, hvp_listener_free)
