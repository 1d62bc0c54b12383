/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Takes connections, finds out whose they are, and has their requests answered. */
#pragma once

#include "apid/settings.h"

typedef struct HvpServer HvpServer;

/*
 * Opens the sockets of @settings, or takes those of systemd instead, and reads the certificates;
 * all that needs rights. PERMISSION, BUSY, NOT_FOUND, BAD_DATA, UNSUPPORTED.
 */
HvpServer *hvp_server_new(const HvpSettings *settings, GError **error);

/* Serves from now on, with the core at the bus of @bus_address. */
void hvp_server_start(HvpServer *self, const char *bus_address);

/* Reads the certificates anew; what cannot be read leaves the old ones. Connections stay. */
void hvp_server_reload(HvpServer *self);

void hvp_server_free(HvpServer *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpServer, hvp_server_free)
