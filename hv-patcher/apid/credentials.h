/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TLS: the server's certificate, and who a client is by his. GLib's database knows neither
 * revocation lists nor demands a purpose, so clients' chains are verified here, with GnuTLS.
 */
#pragma once

#include <gio/gio.h>

#include "apid/settings.h"

typedef struct HvpCredentials HvpCredentials;

/* Loads the files of @settings. BAD_DATA: one is missing or not what it should be. */
HvpCredentials *hvp_credentials_load(const HvpSettings *settings, GError **error);

void hvp_credentials_free(HvpCredentials *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpCredentials, hvp_credentials_free)

/* Makes @self what @other is; takes that. Handshakes that are under way end by the new ones. */
void hvp_credentials_replace(HvpCredentials *self, HvpCredentials *other);

/* TLS on @io, before its handshake, in which the client must show a certificate of ours. */
GTlsConnection *hvp_credentials_serve(HvpCredentials *self, GIOStream *io, GError **error);

/*
 * The principal "cert:COMMON-NAME" of a client behind its handshake. PERMISSION: its certificate is
 * not good (any more), or has no name that can be one.
 */
char *hvp_credentials_principal(HvpCredentials *self, GTlsConnection *tls, GError **error);
