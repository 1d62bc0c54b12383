/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who gets the signal Event: connections that may see all, each by itself, and nobody else on the
 * bus. They are forgotten when they leave it.
 */
#pragma once

#include <gio/gio.h>

#include "daemon/events.h"

typedef struct HvpListeners HvpListeners;

/* @events are borrowed; it is their listener from then on. */
HvpListeners *hvp_listeners_new(GDBusConnection *connection, HvpEvents *events);
void hvp_listeners_free(HvpListeners *self);

/* Adds the connection @name, unless there are too many. */
void hvp_listeners_add(HvpListeners *self, const char *name);
