/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json-text.h"
#include "daemon/fields.h"
#include "patch/source.h"

#define OWN_ONLY_FOLDER 0700
#define OWN_ONLY_FILE 0600
#define MAX_JSON_BYTES (16U << 20)
#define TEMPORARY ".XXXXXX"
#define MAX_DEPTH 64
#define MAX_VALUES 1000000

bool hvp_files_make_folder(const char *path, GError **error)
{
	struct stat found;

	if (g_mkdir_with_parents(path, OWN_ONLY_FOLDER) != 0 || lstat(path, &found) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", path);
	return (S_ISDIR(found.st_mode) && found.st_uid == geteuid() &&
		(found.st_mode & (S_IWGRP | S_IWOTH)) == 0) ||
	       hvp_error_set(error, HVP_ERROR_PERMISSION,
			     "%s: not a folder of ours that nobody else can write to", path);
}

int hvp_files_lock(const char *path, GError **error)
{
	g_autofree char *name = g_build_filename(path, "lock", NULL);
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, OWN_ONLY_FILE);

	if (fd < 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", name);
		return -1;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	hvp_error_set(error, HVP_ERROR_CONFLICT, "%s: another hvpatchd is at it", path);
	close(fd);
	return -1;
}

bool hvp_files_write(const char *path, const void *bytes, gsize length_bytes, GError **error)
{
	g_autoptr(GError) reason = NULL;

	return g_file_set_contents_full(path, bytes, (gssize)length_bytes,
					G_FILE_SET_CONTENTS_CONSISTENT |
						G_FILE_SET_CONTENTS_DURABLE,
					OWN_ONLY_FILE, &reason) ||
	       hvp_error_set(error, HVP_ERROR_FAULT, "%s", reason->message);
}

/*
 * GLib writes to NAME.XXXXXX first; our own names end in no such thing. One in some hundred has
 * small letters alone and is left, as people's NAME.backup is.
 */
bool hvp_files_is_left_over(const char *name)
{
	const char *suffix = strrchr(name, '.');

	return suffix != NULL && strlen(suffix) == strlen(TEMPORARY) &&
	       strspn(suffix + 1, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS) == strlen(suffix + 1) &&
	       strspn(suffix + 1, G_CSET_a_2_z) < strlen(suffix + 1);
}

bool hvp_files_write_json(const char *path, JsonNode *node, GError **error)
{
	g_autofree char *text = hvp_fields_to_text(node);

	return hvp_files_write(path, text, strlen(text), error);
}

JsonNode *hvp_files_read_json(const char *path, GError **error)
{
	g_autoptr(GBytes) bytes = hvp_source_read(path, MAX_JSON_BYTES, error);
	g_autofree char *text = NULL;
	gsize length_bytes;

	if (bytes == NULL) {
		g_prefix_error(error, "%s: ", path);
		return NULL;
	}
	length_bytes = g_bytes_get_size(bytes);
	text = g_strndup(g_bytes_get_data(bytes, NULL), length_bytes);
	return hvp_json_text_parse_object(text, length_bytes, MAX_DEPTH, MAX_VALUES, path, error);
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

GPtrArray *hvp_files_list(const char *path, const char *suffix, GError **error)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GError) reason = NULL;
	g_autoptr(GDir) folder = g_dir_open(path, 0, &reason);
	const char *name;

	if (folder == NULL) {
		hvp_error_set(error, HVP_ERROR_FAULT, "%s", reason->message);
		return NULL;
	}
	while ((name = g_dir_read_name(folder)) != NULL)
		if (g_str_has_suffix(name, suffix))
			g_ptr_array_add(names, g_strndup(name, strlen(name) - strlen(suffix)));
	g_ptr_array_sort(names, compare_names);
	return g_steal_pointer(&names);
}
