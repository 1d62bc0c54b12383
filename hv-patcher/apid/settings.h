/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Group [api] of the daemon's configuration; the other groups are the core's. */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/error.h"

typedef struct {
	char *user;	    /* NULL: not given */
	char *socket;	    /* path; NULL: none */
	guint socket_mode;  /* of the socket's file */
	char *socket_group; /* NULL: that of the process */
	char *tcp_host;	    /* numeric; NULL: no TCP */
	guint16 tcp_port;
	char *certificate, *key, *client_ca; /* files; all three with TCP */
	char *crl;			     /* file; NULL: none */
	guint64 max_patch_bytes;
	guint max_connections, max_connections_each; /* in all; of one principal */
	guint max_uploads;
	guint head_seconds, idle_seconds, body_seconds;
	guint stall_seconds; /* in which a client has to take or send something */
	guint core_seconds;  /* for an answer of the core */
	guint beat_seconds;  /* between signs of life to readers of events */
} HvpSettings;

/*
 * Reads the configuration at @path; a file that is not there is an empty one. BAD_DATA: it is not
 * valid, an unknown key of the group too, or TCP without certificates; PERMISSION, FAULT.
 */
HvpSettings *hvp_settings_load(const char *path, GError **error);

void hvp_settings_free(HvpSettings *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpSettings, hvp_settings_free)
