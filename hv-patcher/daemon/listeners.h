/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who gets the signal Event: connections that may see all, each by itself, and nobody else on the
 * bus. They are forgotten when they leave it, and when they may see all no longer.
 */
#pragma once

#include <gio/gio.h>

#include "daemon/authority.h"
#include "daemon/events.h"

typedef struct HvpListeners HvpListeners;

/* @events and @authority are borrowed, and outlive it; it is their listener from then on. */
HvpListeners *hvp_listeners_new(GDBusConnection *connection, HvpEvents *events,
				HvpAuthority *authority);
/* Roles may have changed, and whose the API is: who may listen no longer does not. */
void hvp_listeners_reload(HvpListeners *self);
void hvp_listeners_free(HvpListeners *self);

/* Adds the connection of @caller, of which a copy is kept, unless there are too many. */
void hvp_listeners_add(HvpListeners *self, const HvpCaller *caller);
