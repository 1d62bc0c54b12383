/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/settings.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>

#define GROUP "api"
#define DEFAULT_SOCKET "/run/hvpatch/api.socket"
#define MAX_FILE_BYTES (1024 * 1024)

typedef struct {
	const char *key;
	gsize offset;
	guint minimum, maximum, normal;
} Number;

static const Number numbers[] = {
	{ "max-connections", G_STRUCT_OFFSET(HvpSettings, max_connections), 1, 100000, 1024 },
	{ "max-connections-per-principal", G_STRUCT_OFFSET(HvpSettings, max_connections_each), 1,
	  100000, 256 },
	{ "max-uploads", G_STRUCT_OFFSET(HvpSettings, max_uploads), 1, 64, 4 },
	{ "head-timeout", G_STRUCT_OFFSET(HvpSettings, head_seconds), 1, 3600, 10 },
	{ "idle-timeout", G_STRUCT_OFFSET(HvpSettings, idle_seconds), 1, 3600, 60 },
	{ "body-timeout", G_STRUCT_OFFSET(HvpSettings, body_seconds), 1, 3600, 120 },
	{ "stall-timeout", G_STRUCT_OFFSET(HvpSettings, stall_seconds), 1, 3600, 10 },
	{ "core-timeout", G_STRUCT_OFFSET(HvpSettings, core_seconds), 1, 3600, 25 },
	{ "heartbeat", G_STRUCT_OFFSET(HvpSettings, beat_seconds), 1, 3600, 15 },
};

static const struct {
	const char *key;
	gsize offset;
} texts[] = {
	{ "user", G_STRUCT_OFFSET(HvpSettings, user) },
	{ "socket", G_STRUCT_OFFSET(HvpSettings, socket) },
	{ "socket-group", G_STRUCT_OFFSET(HvpSettings, socket_group) },
	{ "cert", G_STRUCT_OFFSET(HvpSettings, certificate) },
	{ "key", G_STRUCT_OFFSET(HvpSettings, key) },
	{ "client-ca", G_STRUCT_OFFSET(HvpSettings, client_ca) },
	{ "crl", G_STRUCT_OFFSET(HvpSettings, crl) },
};

static const char *const other_keys[] = { "tcp", "socket-mode", "max-patch-size", NULL };

static GKeyFile *load_file(const char *path, GError **error)
{
	g_autoptr(GKeyFile) file = g_key_file_new();
	g_autofree char *text = NULL;
	gsize length = 0;
	g_autoptr(GError) failed = NULL;

	if (!g_file_get_contents(path, &text, &length, &failed)) {
		if (g_error_matches(failed, G_FILE_ERROR, G_FILE_ERROR_NOENT))
			return g_steal_pointer(&file);
		hvp_error_set(error, HVP_ERROR_PERMISSION, "%s", failed->message);
		return NULL;
	}
	if (length > MAX_FILE_BYTES) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s: too large", path);
		return NULL;
	}
	if (length > 0 &&
	    !g_key_file_load_from_data(file, text, length, G_KEY_FILE_NONE, &failed)) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s: %s", path, failed->message);
		return NULL;
	}
	return g_steal_pointer(&file);
}

static bool is_known(const char *key)
{
	for (guint i = 0; i < G_N_ELEMENTS(numbers); i++)
		if (strcmp(numbers[i].key, key) == 0)
			return true;
	for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
		if (strcmp(texts[i].key, key) == 0)
			return true;
	return g_strv_contains(other_keys, key);
}

static bool check_keys(GKeyFile *file, GError **error)
{
	g_auto(GStrv) keys = g_key_file_get_keys(file, GROUP, NULL, NULL);

	for (guint i = 0; keys != NULL && keys[i] != NULL; i++) {
		g_autoptr(GError) reason = NULL;

		g_free(g_key_file_get_string(file, GROUP, keys[i], &reason));
		if (!is_known(keys[i]))
			return hvp_error_set(error, HVP_ERROR_BAD_DATA, "[api] %s: unknown",
					     keys[i]);
		/* GLib makes nothing of it, or something else. */
		if (reason != NULL)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "[api] %s: no UTF-8, or a backslash that escapes "
					     "nothing",
					     keys[i]);
	}
	return true;
}

/* The value without blanks around; NULL: not there, or empty. */
static char *get_text(GKeyFile *file, const char *key)
{
	char *value = g_key_file_get_string(file, GROUP, key, NULL);

	if (value != NULL && g_strstrip(value)[0] == '\0')
		g_clear_pointer(&value, g_free);
	return value;
}

static bool get_number(GKeyFile *file, const char *key, guint base, guint64 minimum,
		       guint64 maximum, guint64 *value, GError **error)
{
	g_autofree char *text = get_text(file, key);

	if (text == NULL || g_ascii_string_to_unsigned(text, base, minimum, maximum, value, NULL))
		return true;
	return hvp_error_set(error, HVP_ERROR_BAD_DATA,
			     "[api] %s: a number from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
			     " is wanted",
			     key, minimum, maximum);
}

static bool read_numbers(HvpSettings *self, GKeyFile *file, GError **error)
{
	guint64 mode = 0660;

	for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
		guint64 value = numbers[i].normal;

		if (!get_number(file, numbers[i].key, 10, numbers[i].minimum, numbers[i].maximum,
				&value, error))
			return false;
		G_STRUCT_MEMBER(guint, self, numbers[i].offset) = (guint)value;
	}
	self->max_patch_bytes = 64 * 1024 * 1024;
	if (!get_number(file, "socket-mode", 8, 0, 0777, &mode, error) ||
	    !get_number(file, "max-patch-size", 10, 1, G_MAXINT32, &self->max_patch_bytes, error))
		return false;
	self->socket_mode = (guint)mode;
	return true;
}

static void read_texts(HvpSettings *self, GKeyFile *file)
{
	for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
		G_STRUCT_MEMBER(char *, self, texts[i].offset) = get_text(file, texts[i].key);
	/* "socket=" alone is no socket; no "socket" at all the usual one. */
	if (!g_key_file_has_key(file, GROUP, "socket", NULL))
		self->socket = g_strdup(DEFAULT_SOCKET);
}

static bool read_tcp(HvpSettings *self, GKeyFile *file, GError **error)
{
	g_autofree char *text = get_text(file, "tcp");
	char *colon = text ? strrchr(text, ':') : NULL;
	guint64 port;

	if (text == NULL)
		return true;
	if (colon == NULL || !g_ascii_string_to_unsigned(colon + 1, 10, 0, 65535, &port, NULL))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "[api] tcp: ADDRESS:PORT");
	*colon = '\0';
	if (text[0] == '[' && colon[-1] == ']') {
		colon[-1] = '\0';
		memmove(text, text + 1, strlen(text));
	}
	if (!g_hostname_is_ip_address(text))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "[api] tcp: a numeric address is wanted");
	if (self->certificate == NULL || self->key == NULL || self->client_ca == NULL)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "[api] tcp: only with cert, key and client-ca");
	self->tcp_host = g_steal_pointer(&text);
	self->tcp_port = (guint16)port;
	return true;
}

HvpSettings *hvp_settings_load(const char *path, GError **error)
{
	g_autoptr(HvpSettings) self = g_new0(HvpSettings, 1);
	g_autoptr(GKeyFile) file = load_file(path, error);

	if (file == NULL || !check_keys(file, error))
		return NULL;
	read_texts(self, file);
	if (!read_numbers(self, file, error) || !read_tcp(self, file, error))
		return NULL;
	return g_steal_pointer(&self);
}

void hvp_settings_free(HvpSettings *self)
{
	if (self == NULL)
		return;
	for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
		g_free(G_STRUCT_MEMBER(char *, self, texts[i].offset));
	g_free(self->tcp_host);
	g_free(self);
}
