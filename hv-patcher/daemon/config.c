/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/config.h"

#include <string.h>

#include "base/text.h"

#define CORE "core"
#define API "api"
#define KEY_PREFIX "key "
#define ROLE_PREFIX "role "
#define STATE_FOLDER "/var/lib/hvpatch"
#define MAX_WORKERS 64
#define MAX_STOPPED 64
#define MAX_PAUSE_MSEC 1000.0
#define MAX_DRAIN_SECONDS 3600
#define MAX_KEYS 256U
#define MAX_ROLES 1024U
#define MAX_NAME_BYTES 64U

static const char *const core_keys[] = { "state",	    "uri",	 "workers",
					 "max-stopped",	    "max-pause", "unsigned",
					 "allow-downgrade", "drain",	 NULL };
/* All but the user are the HTTP server's to read. */
static const char *const api_keys[] = { "user",
					"socket",
					"socket-mode",
					"socket-group",
					"tcp",
					"cert",
					"key",
					"client-ca",
					"crl",
					"max-patch-size",
					"max-connections",
					"max-connections-per-principal",
					"max-uploads",
					"head-timeout",
					"idle-timeout",
					"body-timeout",
					"stall-timeout",
					"core-timeout",
					"heartbeat",
					NULL };
static const char *const key_keys[] = { "minisign", "certificate", "not-after", NULL };
static const char *const role_keys[] = { "principals", "verbs", "domains", NULL };

static void key_free(gpointer data)
{
	HvpConfigKey *key = data;

	g_free(key->name);
	g_free(key->minisign);
	g_free(key->certificate);
	g_free(key);
}

static void role_free(gpointer data)
{
	hvp_roles_free_role(data);
}

HvpConfig *hvp_config_new(void)
{
	HvpConfig *self = g_new0(HvpConfig, 1);

	self->state_folder = g_strdup(STATE_FOLDER);
	self->workers = 4;
	self->max_stopped = 2;
	self->max_pause_msec = 100;
	self->drain_seconds = 60;
	self->keys = g_ptr_array_new_with_free_func(key_free);
	self->roles = g_ptr_array_new_with_free_func(role_free);
	return self;
}

void hvp_config_free(HvpConfig *self)
{
	if (self == NULL)
		return;
	g_free(self->state_folder);
	g_free(self->uri);
	g_free(self->api_user);
	g_ptr_array_unref(self->keys);
	g_ptr_array_unref(self->roles);
	g_free(self);
}

static bool set_invalid(const char *group, const char *key, const char *why, GError **error)
{
	g_autofree char *quoted = hvp_text_escape(key, HVP_TEXT_TERMINATED, MAX_NAME_BYTES);

	return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "[%s] %s: %s", group, quoted, why);
}

static bool check_keys(GKeyFile *file, const char *group, const char *const *known, GError **error)
{
	g_auto(GStrv) keys = g_key_file_get_keys(file, group, NULL, NULL);

	for (gsize i = 0; keys != NULL && keys[i] != NULL; i++)
		if (!g_strv_contains(known, keys[i]))
			return set_invalid(group, keys[i], "there is no such key", error);
	return true;
}

/* Replaces *@text, where the key is there. */
static void read_text(GKeyFile *file, const char *group, const char *key, char **text)
{
	g_autofree char *value = g_key_file_get_string(file, group, key, NULL);

	if (value == NULL)
		return;
	g_free(*text);
	*text = g_steal_pointer(&value);
}

static bool read_count(GKeyFile *file, const char *key, guint minimum, guint maximum, guint *count,
		       GError **error)
{
	g_autofree char *value = g_key_file_get_string(file, CORE, key, NULL);
	guint64 number;

	if (value == NULL)
		return true;
	if (!g_ascii_string_to_unsigned(value, 10, minimum, maximum, &number, NULL))
		return set_invalid(CORE, key, "no whole number in its range", error);
	*count = (guint)number;
	return true;
}

static bool read_pause(GKeyFile *file, double *msec, GError **error)
{
	g_autofree char *value = g_key_file_get_string(file, CORE, "max-pause", NULL);
	char *end = NULL;
	double number;

	if (value == NULL)
		return true;
	number = g_ascii_strtod(value, &end);
	if (end == value || *end != '\0' || !(number > 0 && number <= MAX_PAUSE_MSEC))
		return set_invalid(CORE, "max-pause", "no number of milliseconds up to 1000",
				   error);
	*msec = number;
	return true;
}

/* One of two words. */
static bool read_choice(GKeyFile *file, const char *key, const char *yes, const char *no,
			bool *choice, GError **error)
{
	g_autofree char *value = g_key_file_get_string(file, CORE, key, NULL);
	g_autofree char *why = g_strdup_printf("neither %s nor %s", yes, no);

	if (value == NULL)
		return true;
	*choice = strcmp(value, yes) == 0;
	return *choice || strcmp(value, no) == 0 || set_invalid(CORE, key, why, error);
}

static bool read_core(HvpConfig *self, GKeyFile *file, GError **error)
{
	read_text(file, CORE, "state", &self->state_folder);
	read_text(file, CORE, "uri", &self->uri);
	if (!g_path_is_absolute(self->state_folder))
		return set_invalid(CORE, "state", "no absolute path", error);
	return check_keys(file, CORE, core_keys, error) &&
	       read_count(file, "workers", 1, MAX_WORKERS, &self->workers, error) &&
	       read_count(file, "max-stopped", 1, MAX_STOPPED, &self->max_stopped, error) &&
	       read_count(file, "drain", 0, MAX_DRAIN_SECONDS, &self->drain_seconds, error) &&
	       read_pause(file, &self->max_pause_msec, error) &&
	       read_choice(file, "unsigned", "allow", "refuse", &self->unsigned_allowed, error) &&
	       read_choice(file, "allow-downgrade", "yes", "no", &self->downgrade_allowed, error);
}

static bool read_not_after(GKeyFile *file, const char *group, gint64 *ret_usec, GError **error)
{
	g_autofree char *value = g_key_file_get_string(file, group, "not-after", NULL);
	g_autoptr(GDateTime) time = NULL;

	*ret_usec = G_MAXINT64;
	if (value == NULL)
		return true;
	time = g_date_time_new_from_iso8601(value, NULL);
	if (time == NULL)
		return set_invalid(group, "not-after", "no time such as 2027-01-31T00:00:00Z",
				   error);
	*ret_usec = g_date_time_to_unix(time) * G_USEC_PER_SEC;
	return true;
}

static bool read_key(HvpConfig *self, GKeyFile *file, const char *group, GError **error)
{
	HvpConfigKey *key;

	if (self->keys->len >= MAX_KEYS)
		return set_invalid(group, "minisign", "too many keys", error);
	key = g_new0(HvpConfigKey, 1);
	g_ptr_array_add(self->keys, key);
	key->name = g_strdup(group + strlen(KEY_PREFIX));
	read_text(file, group, "minisign", &key->minisign);
	read_text(file, group, "certificate", &key->certificate);
	if (!check_keys(file, group, key_keys, error) ||
	    !read_not_after(file, group, &key->not_after_usec, error))
		return false;
	return (key->minisign == NULL) != (key->certificate == NULL) ||
	       set_invalid(group, "minisign", "either this or a certificate", error);
}

/* NULL-terminated, empty where the key is missing. */
static char **read_list(GKeyFile *file, const char *group, const char *key)
{
	char **list = g_key_file_get_string_list(file, group, key, NULL, NULL);

	for (gsize i = 0; list != NULL && list[i] != NULL; i++)
		g_strstrip(list[i]);
	return list ? list : g_new0(char *, 1);
}

static bool read_role(HvpConfig *self, GKeyFile *file, const char *group, GError **error)
{
	g_auto(GStrv) principals = read_list(file, group, "principals");
	g_auto(GStrv) verbs = read_list(file, group, "verbs");
	g_auto(GStrv) domains = read_list(file, group, "domains");
	HvpRole *role;

	if (!check_keys(file, group, role_keys, error))
		return false;
	if (self->roles->len >= MAX_ROLES)
		return set_invalid(group, "principals", "too many roles", error);
	role = hvp_roles_new_role(group + strlen(ROLE_PREFIX), (const char *const *)principals,
				  (const char *const *)verbs, (const char *const *)domains, error);
	if (role == NULL) {
		g_prefix_error(error, "[%s] ", group);
		return false;
	}
	g_ptr_array_add(self->roles, role);
	return true;
}

static bool read_group(HvpConfig *self, GKeyFile *file, const char *group, GError **error)
{
	gsize prefix = strcspn(group, " ") + 1;

	if (strcmp(group, CORE) == 0)
		return read_core(self, file, error);
	if (strcmp(group, API) == 0) {
		read_text(file, API, "user", &self->api_user);
		return check_keys(file, API, api_keys, error);
	}
	if (strlen(group) <= prefix || !hvp_text_is_name(group + prefix, MAX_NAME_BYTES))
		return set_invalid("file", group, "there is no such group", error);
	if (g_str_has_prefix(group, KEY_PREFIX))
		return read_key(self, file, group, error);
	if (g_str_has_prefix(group, ROLE_PREFIX))
		return read_role(self, file, group, error);
	return set_invalid("file", group, "there is no such group", error);
}

static bool set_file_error(const GError *reason, GError **error)
{
	HvpErrorCode code = HVP_ERROR_INVALID_ARGUMENT;

	if (g_error_matches(reason, G_FILE_ERROR, G_FILE_ERROR_NOENT))
		code = HVP_ERROR_NOT_FOUND;
	else if (g_error_matches(reason, G_FILE_ERROR, G_FILE_ERROR_ACCES))
		code = HVP_ERROR_PERMISSION;
	else if (reason->domain == G_FILE_ERROR)
		code = HVP_ERROR_FAULT;
	return hvp_error_set(error, code, "%s", reason->message);
}

HvpConfig *hvp_config_read(const char *path, GError **error)
{
	g_autoptr(HvpConfig) self = hvp_config_new();
	g_autoptr(GKeyFile) file = g_key_file_new();
	g_autoptr(GError) reason = NULL;
	g_auto(GStrv) groups = NULL;

	if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &reason)) {
		set_file_error(reason, error);
		g_prefix_error(error, "%s: ", path);
		return NULL;
	}
	groups = g_key_file_get_groups(file, NULL);
	for (gsize i = 0; groups[i] != NULL; i++) {
		if (!read_group(self, file, groups[i], error)) {
			g_prefix_error(error, "%s: ", path);
			return NULL;
		}
	}
	return g_steal_pointer(&self);
}
