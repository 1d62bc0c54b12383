/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/minisign.h"

#include <sodium.h>
#include <string.h>

#define ALGORITHM_BYTES 2
#define ALGORITHM_PLAIN "Ed"
#define ALGORITHM_PREHASHED "ED"
#define UNTRUSTED "untrusted comment:"
#define TRUSTED "trusted comment: "
#define SERIAL "serial:"
#define LINES 4

G_STATIC_ASSERT(HVP_MINISIGN_KEY_BYTES == crypto_sign_PUBLICKEYBYTES);
G_STATIC_ASSERT(HVP_MINISIGN_SIGNATURE_BYTES == crypto_sign_BYTES);

void hvp_minisign_free(HvpMinisign *self)
{
	if (self == NULL)
		return;
	g_free(self->comment);
	g_free(self);
}

/* Whether @text is base64 of exactly @length_bytes. */
static bool decode(const char *text, guint8 *bytes, gsize length_bytes)
{
	const char *end;
	gsize got;

	return sodium_base642bin(bytes, length_bytes, text, strlen(text), NULL, &got, &end,
				 sodium_base64_VARIANT_ORIGINAL) == 0 &&
	       got == length_bytes && *end == '\0';
}

bool hvp_minisign_read_key(const char *text, HvpMinisignKey *ret_key, GError **error)
{
	guint8 bytes[ALGORITHM_BYTES + HVP_MINISIGN_ID_BYTES + HVP_MINISIGN_KEY_BYTES];

	if (!decode(text, bytes, sizeof bytes) ||
	    memcmp(bytes, ALGORITHM_PLAIN, ALGORITHM_BYTES) != 0)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "not a public key of minisign");
	memcpy(ret_key->id, bytes + ALGORITHM_BYTES, sizeof ret_key->id);
	memcpy(ret_key->key, bytes + ALGORITHM_BYTES + sizeof ret_key->id, sizeof ret_key->key);
	return true;
}

static bool read_signature(HvpMinisign *self, const char *line)
{
	guint8 bytes[ALGORITHM_BYTES + HVP_MINISIGN_ID_BYTES + HVP_MINISIGN_SIGNATURE_BYTES];

	if (!decode(line, bytes, sizeof bytes))
		return false;
	self->is_prehashed = memcmp(bytes, ALGORITHM_PREHASHED, ALGORITHM_BYTES) == 0;
	memcpy(self->id, bytes + ALGORITHM_BYTES, sizeof self->id);
	memcpy(self->signature, bytes + ALGORITHM_BYTES + sizeof self->id, sizeof self->signature);
	return self->is_prehashed || memcmp(bytes, ALGORITHM_PLAIN, ALGORITHM_BYTES) == 0;
}

/* Four lines, the last one with or without an end. */
static bool read_lines(HvpMinisign *self, const char *text)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", LINES + 2);
	guint count = g_strv_length(lines);

	if (count == LINES + 1 && lines[LINES][0] == '\0')
		count--;
	if (count != LINES)
		return false;
	for (guint i = 0; i < LINES; i++)
		if (g_str_has_suffix(lines[i], "\r"))
			lines[i][strlen(lines[i]) - 1] = '\0';
	if (!g_str_has_prefix(lines[0], UNTRUSTED) || !g_str_has_prefix(lines[2], TRUSTED))
		return false;
	self->comment = g_strdup(lines[2] + strlen(TRUSTED));
	return read_signature(self, lines[1]) &&
	       decode(lines[3], self->comment_signature, sizeof self->comment_signature);
}

HvpMinisign *hvp_minisign_parse(const char *text, gsize length_bytes, GError **error)
{
	g_autoptr(HvpMinisign) self = g_new0(HvpMinisign, 1);
	g_autofree char *copy = NULL;

	if (length_bytes <= HVP_MINISIGN_MAX_BYTES && memchr(text, '\0', length_bytes) == NULL)
		copy = g_strndup(text, length_bytes);
	if (copy == NULL || !read_lines(self, copy)) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "not a signature of minisign");
		return NULL;
	}
	return g_steal_pointer(&self);
}

bool hvp_minisign_is_of(const HvpMinisign *self, const HvpMinisignKey *key)
{
	return memcmp(self->id, key->id, sizeof self->id) == 0;
}

static bool verify_file(const HvpMinisign *self, const HvpMinisignKey *key, GBytes *bytes)
{
	guint8 hash[crypto_generichash_BYTES_MAX];
	gsize length_bytes;
	const guint8 *data = g_bytes_get_data(bytes, &length_bytes);

	if (!self->is_prehashed)
		return crypto_sign_verify_detached(self->signature, data, length_bytes, key->key) ==
		       0;
	return crypto_generichash(hash, sizeof hash, data, length_bytes, NULL, 0) == 0 &&
	       crypto_sign_verify_detached(self->signature, hash, sizeof hash, key->key) == 0;
}

static bool verify_comment(const HvpMinisign *self, const HvpMinisignKey *key)
{
	g_autoptr(GByteArray) both = g_byte_array_new();

	g_byte_array_append(both, self->signature, sizeof self->signature);
	g_byte_array_append(both, (const guint8 *)self->comment, (guint)strlen(self->comment));
	return crypto_sign_verify_detached(self->comment_signature, both->data, both->len,
					   key->key) == 0;
}

bool hvp_minisign_verify(const HvpMinisign *self, const HvpMinisignKey *key, GBytes *bytes,
			 GError **error)
{
	if (!verify_file(self, key, bytes))
		return hvp_error_set(error, HVP_ERROR_PERMISSION,
				     "the signature is not for this file");
	return verify_comment(self, key) ||
	       hvp_error_set(error, HVP_ERROR_PERMISSION,
			     "the signature's trusted comment is not what was signed");
}

bool hvp_minisign_read_serial(const HvpMinisign *self, gint64 *ret_serial, GError **error)
{
	g_auto(GStrv) fields = g_strsplit_set(self->comment, " \t", -1);

	for (gsize i = 0; fields[i] != NULL; i++) {
		guint64 serial;

		if (!g_str_has_prefix(fields[i], SERIAL))
			continue;
		if (!g_ascii_string_to_unsigned(fields[i] + strlen(SERIAL), 10, 0, G_MAXINT64,
						&serial, NULL))
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "the trusted comment's serial is no number");
		*ret_serial = (gint64)serial;
		return true;
	}
	return true;
}
