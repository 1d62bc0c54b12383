/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose signatures are good, and whether a patch has one: before anything else looks at it. Never
 * changed once it is made; threads that are at it hold a reference, while others have a newer one.
 */
#pragma once

#include "daemon/config.h"
#include "patch/manifest.h"

typedef struct HvpKeyring HvpKeyring;

typedef enum {
	HVP_KEYRING_UNSIGNED,
	HVP_KEYRING_MINISIGN,
	HVP_KEYRING_PKCS7,
} HvpKeyringKind;

/* "none", "minisign", "pkcs7". Static. */
const char *hvp_keyring_kind_name(HvpKeyringKind kind);

typedef struct {
	HvpKeyringKind kind;
	const char *key; /* its name, borrowed from the keyring; NULL: unsigned */
	gint64 serial;	 /* that the signature vouches for; HVP_MANIFEST_NO_SERIAL */
} HvpKeyringVerdict;

/* Of the keys of @config, which is not kept. INVALID_ARGUMENT, naming the key and its line. */
HvpKeyring *hvp_keyring_new(const HvpConfig *config, GError **error);
/* In any thread. */
HvpKeyring *hvp_keyring_ref(HvpKeyring *self);
void hvp_keyring_unref(HvpKeyring *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpKeyring, hvp_keyring_unref)

/*
 * Whether @patch may be used: signed by a key of the keyring, or unsigned where that is allowed. A
 * bad signature is refused always. @signature: the text of a detached one; empty: none. PERMISSION,
 * BAD_DATA. May be called in any thread.
 */
bool hvp_keyring_verify(const HvpKeyring *self, GBytes *patch, GBytes *signature,
			HvpKeyringVerdict *ret_verdict, GError **error) G_GNUC_WARN_UNUSED_RESULT;
