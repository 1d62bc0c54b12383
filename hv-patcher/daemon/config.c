/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

#define CORE "core"
#define API "api"
#define KEY_PREFIX "key "
#define ROLE_PREFIX "role "
#define STATE_FOLDER "/var/lib/hvpatch"
#define MAX_WORKERS 64
#define MAX_STOPPED 64
#define MAX_PAUSE_MSEC 1000.0
#define MAX_TIMEOUT_SECONDS (24 * 60 * 60)
#define MAX_DRAIN_SECONDS 3600
#define MAX_KEYS 256U
#define MAX_ROLES 1024U
#define MAX_NAME_BYTES 64U
#define MAX_FILE_BYTES (1U << 20)
#define READ_BYTES 4096U
#define MAX_QUOTED_BYTES 64U

static const char *const core_keys[] = { "state",     "uri",	     "workers",	 "max-stopped",
					 "max-pause", "max-timeout", "unsigned", "allow-downgrade",
					 "drain",     NULL };
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
	g_free(key->place);
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
	self->max_timeout_seconds = 600;
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
	g_free(self->api_user_place);
	g_ptr_array_unref(self->keys);
	g_ptr_array_unref(self->roles);
	g_free(self);
}

/* --- where what is wrong stands --- */

/* The file as it is read: a GKeyFile does not tell lines. */
typedef struct {
	const char *path;
	const char *text;
	GKeyFile *file;
} Source;

static bool is_group_line(const char *line, const char *group)
{
	gsize length = strlen(group);

	return line[0] == '[' && strncmp(line + 1, group, length) == 0 &&
	       strcmp(line + 1 + length, "]") == 0;
}

static bool is_key_line(const char *line, const char *key)
{
	gsize length = strlen(key);

	return strncmp(line, key, length) == 0 &&
	       line[length + strspn(line + length, " \t")] == '=';
}

/* Of @key, the last of which holds; where it is missing or NULL, of @group. From 1; 0: of none. */
static guint find_line(const Source *self, const char *group, const char *key)
{
	g_auto(GStrv) lines = g_strsplit(self->text, "\n", -1);
	bool is_inside = false;
	guint found = 0;

	for (guint i = 0; lines[i] != NULL; i++) {
		const char *line = g_strstrip(lines[i]);

		if (line[0] == '[')
			is_inside = is_group_line(line, group);
		if (is_inside && (found == 0 || (key != NULL && is_key_line(line, key))))
			found = i + 1;
	}
	return found;
}

static char *place_of(const Source *self, const char *group, const char *key)
{
	return g_strdup_printf("%s:%u", self->path, find_line(self, group, key));
}

static bool is_readable(const char *text, gsize length_bytes)
{
	g_autoptr(GKeyFile) file = g_key_file_new();

	return length_bytes == 0 ||
	       g_key_file_load_from_data(file, text, length_bytes, G_KEY_FILE_NONE, NULL);
}

/* Of the first @line_count lines. */
static gsize length_of(const char *text, guint line_count)
{
	const char *end = text;

	for (guint i = 0; i < line_count && *end != '\0'; i++)
		end += strcspn(end, "\n") + (strchr(end, '\n') != NULL);
	return (gsize)(end - text);
}

/* The first one up to which the file cannot be read. From 1. */
static guint find_bad_line(const char *text)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	guint good = 0, bad = MAX(g_strv_length(lines), 1);

	while (bad - good > 1) {
		guint middle = good + (bad - good) / 2;

		if (is_readable(text, length_of(text, middle)))
			good = middle;
		else
			bad = middle;
	}
	return bad;
}

static bool set_invalid(const Source *source, const char *group, const char *key, const char *why,
			GError **error)
{
	g_autofree char *quoted = hvp_text_escape(key, HVP_TEXT_TERMINATED, MAX_NAME_BYTES);
	g_autofree char *place = place_of(source, group, key);

	return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: [%s] %s: %s", place, group,
			     quoted, why);
}

/* What @value is not. */
static bool set_bad_value(const Source *source, const char *key, const char *value,
			  const char *wanted, GError **error)
{
	g_autofree char *quoted = hvp_text_escape(value, HVP_TEXT_TERMINATED, MAX_QUOTED_BYTES);
	g_autofree char *why = g_strdup_printf("'%s' is %s", quoted, wanted);

	return set_invalid(source, CORE, key, why, error);
}

static bool set_no_group(const Source *source, const char *group, GError **error)
{
	g_autofree char *quoted = hvp_text_escape(group, HVP_TEXT_TERMINATED, MAX_NAME_BYTES);
	g_autofree char *place = place_of(source, group, NULL);

	return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: [%s]: there is no such group",
			     place, quoted);
}

/* --- reading --- */

static bool check_keys(const Source *source, const char *group, const char *const *known,
		       GError **error)
{
	g_auto(GStrv) keys = g_key_file_get_keys(source->file, group, NULL, NULL);

	for (gsize i = 0; keys != NULL && keys[i] != NULL; i++)
		if (!g_strv_contains(known, keys[i]))
			return set_invalid(source, group, keys[i], "there is no such key", error);
	return true;
}

/* A key may be missing, but not have a value that GLib makes nothing or something else of. */
static bool check_value(const Source *source, const char *group, const char *key,
			const GError *reason, GError **error)
{
	return reason == NULL ||
	       g_error_matches(reason, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_KEY_NOT_FOUND) ||
	       set_invalid(source, group, key, "no UTF-8, or a backslash that escapes nothing",
			   error);
}

/* NULL, where the key is missing; the caller's. */
static bool get_value(const Source *source, const char *group, const char *key, char **ret_value,
		      GError **error)
{
	g_autoptr(GError) reason = NULL;

	*ret_value = g_key_file_get_string(source->file, group, key, &reason);
	return check_value(source, group, key, reason, error);
}

/* Replaces *@text, where the key is there. */
static bool read_text(const Source *source, const char *group, const char *key, char **text,
		      GError **error)
{
	g_autofree char *value = NULL;

	if (!get_value(source, group, key, &value, error))
		return false;
	if (value == NULL)
		return true;
	g_free(*text);
	*text = g_steal_pointer(&value);
	return true;
}

static bool read_count(const Source *source, const char *key, guint minimum, guint maximum,
		       guint *count, GError **error)
{
	g_autofree char *value = NULL;
	guint64 number;

	if (!get_value(source, CORE, key, &value, error))
		return false;
	if (value == NULL)
		return true;
	if (!g_ascii_string_to_unsigned(value, 10, minimum, maximum, &number, NULL)) {
		g_autofree char *wanted = g_strdup_printf("no whole number between %u and %u",
							  minimum, maximum);

		return set_bad_value(source, key, value, wanted, error);
	}
	*count = (guint)number;
	return true;
}

static bool read_pause(const Source *source, double *msec, GError **error)
{
	g_autofree char *value = NULL;
	char *end = NULL;
	double number;

	if (!get_value(source, CORE, "max-pause", &value, error))
		return false;
	if (value == NULL)
		return true;
	number = g_ascii_strtod(value, &end);
	if (end == value || *end != '\0' || !(number > 0 && number <= MAX_PAUSE_MSEC))
		return set_bad_value(source, "max-pause", value,
				     "no number of milliseconds above 0, up to 1000", error);
	*msec = number;
	return true;
}

/* One of two words. */
static bool read_choice(const Source *source, const char *key, const char *yes, const char *no,
			bool *choice, GError **error)
{
	g_autofree char *wanted = g_strdup_printf("neither %s nor %s", yes, no);
	g_autofree char *value = NULL;

	if (!get_value(source, CORE, key, &value, error))
		return false;
	if (value == NULL)
		return true;
	*choice = strcmp(value, yes) == 0;
	return *choice || strcmp(value, no) == 0 ||
	       set_bad_value(source, key, value, wanted, error);
}

static bool read_core(HvpConfig *self, const Source *source, GError **error)
{
	if (!read_text(source, CORE, "state", &self->state_folder, error) ||
	    !read_text(source, CORE, "uri", &self->uri, error))
		return false;
	if (!g_path_is_absolute(self->state_folder))
		return set_bad_value(source, "state", self->state_folder, "no absolute path",
				     error);
	return check_keys(source, CORE, core_keys, error) &&
	       read_count(source, "workers", 1, MAX_WORKERS, &self->workers, error) &&
	       read_count(source, "max-stopped", 1, MAX_STOPPED, &self->max_stopped, error) &&
	       read_count(source, "max-timeout", 1, MAX_TIMEOUT_SECONDS, &self->max_timeout_seconds,
			  error) &&
	       read_count(source, "drain", 0, MAX_DRAIN_SECONDS, &self->drain_seconds, error) &&
	       read_pause(source, &self->max_pause_msec, error) &&
	       read_choice(source, "unsigned", "allow", "refuse", &self->unsigned_allowed, error) &&
	       read_choice(source, "allow-downgrade", "yes", "no", &self->downgrade_allowed, error);
}

static bool read_not_after(const Source *source, const char *group, gint64 *ret_usec,
			   GError **error)
{
	g_autofree char *value = NULL;
	g_autoptr(GDateTime) time = NULL;

	if (!get_value(source, group, "not-after", &value, error))
		return false;
	*ret_usec = G_MAXINT64;
	if (value == NULL)
		return true;
	time = g_date_time_new_from_iso8601(value, NULL);
	if (time == NULL)
		return set_invalid(source, group, "not-after",
				   "no time such as 2027-01-31T00:00:00Z", error);
	*ret_usec = g_date_time_to_unix(time) * G_USEC_PER_SEC;
	return true;
}

static bool read_key(HvpConfig *self, const Source *source, const char *group, GError **error)
{
	HvpConfigKey *key;

	if (self->keys->len >= MAX_KEYS)
		return set_invalid(source, group, "minisign", "too many keys", error);
	key = g_new0(HvpConfigKey, 1);
	g_ptr_array_add(self->keys, key);
	key->name = g_strdup(group + strlen(KEY_PREFIX));
	key->place = place_of(source, group, NULL);
	if (!check_keys(source, group, key_keys, error) ||
	    !read_text(source, group, "minisign", &key->minisign, error) ||
	    !read_text(source, group, "certificate", &key->certificate, error) ||
	    !read_not_after(source, group, &key->not_after_usec, error))
		return false;
	return (key->minisign == NULL) != (key->certificate == NULL) ||
	       set_invalid(source, group, "minisign", "either this or a certificate", error);
}

/* NULL-terminated, empty where the key is missing; the caller's. */
static bool read_list(const Source *source, const char *group, const char *key, char ***ret_list,
		      GError **error)
{
	g_autoptr(GError) reason = NULL;
	char **list = g_key_file_get_string_list(source->file, group, key, NULL, &reason);

	for (gsize i = 0; list != NULL && list[i] != NULL; i++)
		g_strstrip(list[i]);
	*ret_list = list ? list : g_new0(char *, 1);
	return check_value(source, group, key, reason, error);
}

static bool read_role(HvpConfig *self, const Source *source, const char *group, GError **error)
{
	g_auto(GStrv) principals = NULL, verbs = NULL, domains = NULL;
	HvpRole *role;

	if (!check_keys(source, group, role_keys, error) ||
	    !read_list(source, group, "principals", &principals, error) ||
	    !read_list(source, group, "verbs", &verbs, error) ||
	    !read_list(source, group, "domains", &domains, error))
		return false;
	if (self->roles->len >= MAX_ROLES)
		return set_invalid(source, group, "principals", "too many roles", error);
	role = hvp_roles_new_role(group + strlen(ROLE_PREFIX), (const char *const *)principals,
				  (const char *const *)verbs, (const char *const *)domains, error);
	if (role == NULL) {
		g_autofree char *place = place_of(source, group, NULL);

		g_prefix_error(error, "%s: [%s] ", place, group);
		return false;
	}
	g_ptr_array_add(self->roles, role);
	return true;
}

static bool read_group(HvpConfig *self, const Source *source, const char *group, GError **error)
{
	gsize prefix = strcspn(group, " ") + 1;

	if (strcmp(group, CORE) == 0)
		return read_core(self, source, error);
	if (strcmp(group, API) == 0) {
		self->api_user_place = place_of(source, API, "user");
		return read_text(source, API, "user", &self->api_user, error) &&
		       check_keys(source, API, api_keys, error);
	}
	if (strlen(group) <= prefix || !hvp_text_is_name(group + prefix, MAX_NAME_BYTES))
		return set_no_group(source, group, error);
	if (g_str_has_prefix(group, KEY_PREFIX))
		return read_key(self, source, group, error);
	if (g_str_has_prefix(group, ROLE_PREFIX))
		return read_role(self, source, group, error);
	return set_no_group(source, group, error);
}

/* At most one byte more than a configuration may have. False with errno set. */
static bool fill(int fd, GString *text)
{
	char some[READ_BYTES];
	ssize_t count;

	do {
		count = read(fd, some, MIN(sizeof some, MAX_FILE_BYTES + 1 - text->len));
		if (count > 0)
			g_string_append_len(text, some, count);
	} while (count > 0 || (count < 0 && errno == EINTR));
	return count == 0;
}

/* Not by GLib, the messages of which have the path once more. The caller's. */
static GString *read_file(const char *path, GError **error)
{
	g_autoptr(GString) text = g_string_sized_new(READ_BYTES);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	bool ok = fd >= 0 && fill(fd, text);

	if (!ok)
		hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", path);
	if (fd >= 0)
		close(fd);
	return ok ? g_steal_pointer(&text) : NULL;
}

static bool load(Source *source, gsize length_bytes, GError **error)
{
	g_autoptr(GError) reason = NULL;

	if (length_bytes > MAX_FILE_BYTES)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: more than %u bytes",
				     source->path, MAX_FILE_BYTES);
	return length_bytes == 0 ||
	       g_key_file_load_from_data(source->file, source->text, length_bytes, G_KEY_FILE_NONE,
					 &reason) ||
	       hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s:%u: %s", source->path,
			     find_bad_line(source->text), reason->message);
}

HvpConfig *hvp_config_read(const char *path, GError **error)
{
	g_autoptr(HvpConfig) self = hvp_config_new();
	g_autoptr(GKeyFile) file = g_key_file_new();
	g_autoptr(GString) text = read_file(path, error);
	g_auto(GStrv) groups = NULL;
	Source source = { .path = path, .file = file };

	if (text == NULL)
		return NULL;
	source.text = text->str;
	if (!load(&source, text->len, error))
		return NULL;
	groups = g_key_file_get_groups(file, NULL);
	for (gsize i = 0; groups[i] != NULL; i++)
		if (!read_group(self, &source, groups[i], error))
			return NULL;
	return g_steal_pointer(&self);
}

static void swap_texts(char **a, char **b)
{
	char *kept = *a;

	*a = *b;
	*b = kept;
}

void hvp_config_take_over(HvpConfig *self, HvpConfig *other)
{
	HvpConfig old = *self;

	*self = *other;
	*other = old;
	swap_texts(&self->state_folder, &other->state_folder);
	swap_texts(&self->uri, &other->uri);
	hvp_config_free(other);
}
