/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/keyring.h"

#include <sodium.h>

#include "daemon/minisign.h"
#include "daemon/pkcs7.h"

typedef struct {
	const HvpConfigKey *config;
	HvpMinisignKey key;
} Minisign;

struct HvpKeyring {
	GPtrArray *keys; /* HvpConfigKey; of the configuration, which may have gone */
	bool unsigned_allowed;
	GArray *minisign; /* Minisign */
	HvpPkcs7Certificates *certificates;
	GPtrArray *certificate_keys; /* const HvpConfigKey, in the same order */
};

const char *hvp_keyring_kind_name(HvpKeyringKind kind)
{
	static const char *const names[] = { [HVP_KEYRING_UNSIGNED] = "none",
					     [HVP_KEYRING_MINISIGN] = "minisign",
					     [HVP_KEYRING_PKCS7] = "pkcs7" };

	return names[kind];
}

static void clear(gpointer data)
{
	HvpKeyring *self = data;

	g_array_unref(self->minisign);
	g_ptr_array_unref(self->certificate_keys);
	hvp_pkcs7_certificates_free(self->certificates);
	g_ptr_array_unref(self->keys);
}

HvpKeyring *hvp_keyring_ref(HvpKeyring *self)
{
	return g_atomic_rc_box_acquire(self);
}

void hvp_keyring_unref(HvpKeyring *self)
{
	if (self != NULL)
		g_atomic_rc_box_release_full(self, clear);
}

static bool add_key(HvpKeyring *self, HvpConfigKey *config, GError **error)
{
	Minisign minisign = { .config = config };

	if (config->minisign != NULL) {
		if (!hvp_minisign_read_key(config->minisign, &minisign.key, error))
			return false;
		g_array_append_val(self->minisign, minisign);
		return true;
	}
	if (!hvp_pkcs7_certificates_add(self->certificates, config->certificate, error))
		return false;
	g_ptr_array_add(self->certificate_keys, config);
	return true;
}

HvpKeyring *hvp_keyring_new(const HvpConfig *config, GError **error)
{
	g_autoptr(HvpKeyring) self = g_atomic_rc_box_new0(HvpKeyring);

	self->keys = g_ptr_array_ref(config->keys);
	self->unsigned_allowed = config->unsigned_allowed;
	self->minisign = g_array_new(FALSE, FALSE, sizeof(Minisign));
	self->certificates = hvp_pkcs7_certificates_new();
	self->certificate_keys = g_ptr_array_new();
	if (sodium_init() < 0) {
		hvp_error_set(error, HVP_ERROR_INTERNAL, "libsodium does not start");
		return NULL;
	}
	for (guint i = 0; i < config->keys->len; i++) {
		HvpConfigKey *key = g_ptr_array_index(config->keys, i);
		g_autoptr(GError) reason = NULL;

		if (add_key(self, key, &reason))
			continue;
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: [key %s] %s", key->place,
			      key->name, reason->message);
		return NULL;
	}
	return g_steal_pointer(&self);
}

static bool check_end(const HvpConfigKey *key, GError **error)
{
	return g_get_real_time() < key->not_after_usec ||
	       hvp_error_set(error, HVP_ERROR_PERMISSION, "key %s has ended", key->name);
}

static bool verify_detached(const HvpKeyring *self, GBytes *patch, GBytes *text,
			    HvpKeyringVerdict *ret_verdict, GError **error)
{
	g_autoptr(HvpMinisign) signature = hvp_minisign_parse(g_bytes_get_data(text, NULL),
							      g_bytes_get_size(text), error);
	HvpKeyringVerdict verdict = { HVP_KEYRING_MINISIGN, NULL, HVP_MANIFEST_NO_SERIAL };

	if (signature == NULL)
		return false;
	for (guint i = 0; i < self->minisign->len; i++) {
		const Minisign *key = &g_array_index(self->minisign, Minisign, i);

		if (!hvp_minisign_is_of(signature, &key->key))
			continue;
		if (!hvp_minisign_verify(signature, &key->key, patch, error) ||
		    !check_end(key->config, error) ||
		    !hvp_minisign_read_serial(signature, &verdict.serial, error))
			return false;
		verdict.key = key->config->name;
		*ret_verdict = verdict;
		return true;
	}
	return hvp_error_set(error, HVP_ERROR_PERMISSION, "the signature is by no known key");
}

static bool allow_unsigned(const HvpKeyring *self, const char *what, HvpKeyringVerdict *ret_verdict,
			   GError **error)
{
	if (!self->unsigned_allowed)
		return hvp_error_set(error, HVP_ERROR_PERMISSION, "%s", what);
	*ret_verdict = (HvpKeyringVerdict){ HVP_KEYRING_UNSIGNED, NULL, HVP_MANIFEST_NO_SERIAL };
	return true;
}

/* A module can bear the signature that its guest asks for, and which is nobody's here. */
static bool verify_appended(const HvpKeyring *self, GBytes *patch, HvpKeyringVerdict *ret_verdict,
			    GError **error)
{
	HvpPkcs7Verdict verdict = HVP_PKCS7_NONE;
	const HvpConfigKey *key;
	guint index = 0;

	if (!hvp_pkcs7_verify(self->certificates, patch, &verdict, &index, error))
		return false;
	if (verdict == HVP_PKCS7_NONE)
		return allow_unsigned(self, "the patch is not signed", ret_verdict, error);
	if (verdict == HVP_PKCS7_UNKNOWN)
		return allow_unsigned(self, "the module's signature is by no known certificate",
				      ret_verdict, error);
	key = g_ptr_array_index(self->certificate_keys, index);
	if (!check_end(key, error))
		return false;
	*ret_verdict = (HvpKeyringVerdict){ HVP_KEYRING_PKCS7, key->name, HVP_MANIFEST_NO_SERIAL };
	return true;
}

bool hvp_keyring_verify(const HvpKeyring *self, GBytes *patch, GBytes *signature,
			HvpKeyringVerdict *ret_verdict, GError **error)
{
	if (g_bytes_get_size(signature) > 0)
		return verify_detached(self, patch, signature, ret_verdict, error);
	return verify_appended(self, patch, ret_verdict, error);
}
