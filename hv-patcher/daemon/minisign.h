/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Signatures of minisign(1): Ed25519 over the file ("Ed") or its BLAKE2b-512 ("ED"), and once more
 * over that signature with the trusted comment behind it.
 *
 *   untrusted comment: ANYTHING
 *   base64(algorithm[2], key id[8], signature[64])
 *   trusted comment: TEXT
 *   base64(signature[64] of signature + TEXT)
 *
 * Only the form is minisign's; the cryptography is libsodium's.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/error.h"

#define HVP_MINISIGN_MAX_BYTES 8192U
#define HVP_MINISIGN_ID_BYTES 8
#define HVP_MINISIGN_KEY_BYTES 32
#define HVP_MINISIGN_SIGNATURE_BYTES 64

typedef struct {
	guint8 id[HVP_MINISIGN_ID_BYTES];
	guint8 key[HVP_MINISIGN_KEY_BYTES];
} HvpMinisignKey;

typedef struct {
	bool is_prehashed;
	guint8 id[HVP_MINISIGN_ID_BYTES];
	guint8 signature[HVP_MINISIGN_SIGNATURE_BYTES];
	guint8 comment_signature[HVP_MINISIGN_SIGNATURE_BYTES];
	char *comment; /* the trusted one; to be trusted once it is verified */
} HvpMinisign;

/* @text: the base64 line of a public key's file. INVALID_ARGUMENT: it is none. */
bool hvp_minisign_read_key(const char *text, HvpMinisignKey *ret_key,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Reads a signature's file. BAD_DATA: it is none. */
HvpMinisign *hvp_minisign_parse(const char *text, gsize length_bytes, GError **error);
void hvp_minisign_free(HvpMinisign *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpMinisign, hvp_minisign_free)

/* Whether @key made it: by its id. */
bool hvp_minisign_is_of(const HvpMinisign *self, const HvpMinisignKey *key);

/* PERMISSION: it is no signature of @key's for @bytes, or its trusted comment is not. */
bool hvp_minisign_verify(const HvpMinisign *self, const HvpMinisignKey *key, GBytes *bytes,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * The number in the trusted comment's field "serial:N", where fields are separated by blanks;
 * @ret_serial is left alone where there is none. BAD_DATA: it is no number.
 */
bool hvp_minisign_read_serial(const HvpMinisign *self, gint64 *ret_serial,
			      GError **error) G_GNUC_WARN_UNUSED_RESULT;
