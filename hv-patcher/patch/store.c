/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/store.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "patch/manifest.h"
#include "patch/source.h"

#define SYSTEM_FOLDER "/var/lib/hvpatch/installed"
#define MODULE_SUFFIX ".ko"
#define OWN_ONLY_FOLDER 0700
#define OWN_ONLY_FILE 0600

char *hvp_store_default_folder(void)
{
	if (geteuid() == 0)
		return g_strdup(SYSTEM_FOLDER);
	return g_build_filename(g_get_user_data_dir(), "hvpatch", "installed", NULL);
}

static char *folder_of(const char *folder, const char *uuid, GError **error)
{
	if (g_uuid_string_is_valid(uuid))
		return g_build_filename(folder, uuid, NULL);
	hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "what should be a UUID is none");
	return NULL;
}

static void entry_free(gpointer data)
{
	HvpStoreEntry *self = data;

	g_free(self->name);
	g_free(self->sha256);
	g_free(self->path);
	g_free(self);
}

/* Whether nobody but us can have put something there. */
static bool check_owner(const char *path, GError **error)
{
	struct stat found;

	if (lstat(path, &found) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", path);
	return (S_ISDIR(found.st_mode) && found.st_uid == geteuid() &&
		(found.st_mode & (S_IWGRP | S_IWOTH)) == 0) ||
	       hvp_error_set(error, HVP_ERROR_PERMISSION,
			     "%s: not a folder of ours that nobody else can write to", path);
}

static HvpStoreEntry *read_entry(const char *folder, const char *file, GError **error)
{
	g_autofree char *path = g_build_filename(folder, file, NULL);
	g_autoptr(HvpPatch) patch = hvp_patch_open(path, error);
	HvpStoreEntry *entry;

	if (patch == NULL)
		return NULL;
	if (strlen(file) != strlen(patch->sha256) + strlen(MODULE_SUFFIX) ||
	    !g_str_has_prefix(file, patch->sha256)) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s: its content is not what it says",
			      path);
		return NULL;
	}
	entry = g_new0(HvpStoreEntry, 1);
	entry->name = g_strdup(patch->name);
	entry->sha256 = g_strdup(patch->sha256);
	entry->path = g_steal_pointer(&path);
	return entry;
}

static gint64 age_of(const HvpStoreEntry *entry)
{
	struct stat found;

	if (stat(entry->path, &found) != 0)
		return 0;
	return found.st_mtim.tv_sec * (gint64)G_USEC_PER_SEC + found.st_mtim.tv_nsec / 1000;
}

static gint compare_age(gconstpointer a, gconstpointer b)
{
	gint64 first = age_of(*(const HvpStoreEntry *const *)a);
	gint64 second = age_of(*(const HvpStoreEntry *const *)b);

	return (first > second) - (first < second);
}

static bool read_entries(GPtrArray *entries, const char *path, GError **error)
{
	g_autoptr(GDir) files = g_dir_open(path, 0, NULL);
	const char *file;

	while (files != NULL && (file = g_dir_read_name(files)) != NULL) {
		HvpStoreEntry *entry;

		if (!g_str_has_suffix(file, MODULE_SUFFIX))
			continue;
		if (entries->len >= HVP_STORE_MAX_PATCHES)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s: too many patches",
					     path);
		entry = read_entry(path, file, error);
		if (entry == NULL)
			return false;
		g_ptr_array_add(entries, entry);
	}
	return true;
}

GPtrArray *hvp_store_list(const char *folder, const char *uuid, GError **error)
{
	g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func(entry_free);
	g_autofree char *path = folder_of(folder, uuid, error);

	if (path == NULL)
		return NULL;
	if (!g_file_test(path, G_FILE_TEST_EXISTS))
		return g_steal_pointer(&entries);
	if (!check_owner(path, error) || !read_entries(entries, path, error))
		return NULL;
	g_ptr_array_sort(entries, compare_age);
	return g_steal_pointer(&entries);
}

static bool write_file(const char *path, GBytes *bytes, GError **error)
{
	g_autoptr(GError) reason = NULL;
	gsize length;
	const char *data = g_bytes_get_data(bytes, &length);

	return g_file_set_contents_full(path, data, (gssize)length,
					G_FILE_SET_CONTENTS_CONSISTENT |
						G_FILE_SET_CONTENTS_DURABLE,
					OWN_ONLY_FILE, &reason) ||
	       hvp_error_set(error, HVP_ERROR_FAULT, "%s", reason->message);
}

/* The manifest first: a module without its own must never be found. */
static bool write_copies(const char *path, const HvpPatch *patch, const char *source,
			 GError **error)
{
	g_autofree char *from = hvp_manifest_path_beside(source);
	g_autofree char *to = hvp_manifest_path_beside(path);
	g_autoptr(GError) reason = NULL;
	g_autoptr(GBytes) manifest = hvp_source_read(from, HVP_MANIFEST_MAX_BYTES, &reason);

	if (manifest == NULL && !g_error_matches(reason, HVP_ERROR, HVP_ERROR_NOT_FOUND)) {
		g_propagate_prefixed_error(error, g_steal_pointer(&reason), "%s: ", from);
		return false;
	}
	if (manifest != NULL && !write_file(to, manifest, error))
		return false;
	if (manifest == NULL && g_unlink(to) != 0 && errno != ENOENT)
		return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", to);
	return write_file(path, patch->bytes, error);
}

static bool remove_entry(const HvpStoreEntry *entry, GError **error)
{
	g_autofree char *manifest = hvp_manifest_path_beside(entry->path);

	if (g_unlink(entry->path) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", entry->path);
	(void)g_unlink(manifest);
	return true;
}

/* All of patch @name but the one with @kept (NULL: none); how many in @ret_count. */
static bool remove_named(const char *folder, const char *uuid, const char *name, const char *kept,
			 guint *ret_count, GError **error)
{
	g_autoptr(GPtrArray) entries = hvp_store_list(folder, uuid, error);

	*ret_count = 0;
	for (guint i = 0; entries != NULL && i < entries->len; i++) {
		const HvpStoreEntry *entry = g_ptr_array_index(entries, i);

		if (strcmp(entry->name, name) != 0 || g_strcmp0(entry->sha256, kept) == 0)
			continue;
		if (!remove_entry(entry, error))
			return false;
		(*ret_count)++;
	}
	return entries != NULL;
}

bool hvp_store_add(const char *folder, const char *uuid, const HvpPatch *patch, const char *path,
		   GError **error)
{
	g_autofree char *own = folder_of(folder, uuid, error);
	g_autofree char *file = g_strconcat(patch->sha256, MODULE_SUFFIX, NULL);
	g_autofree char *copy = own ? g_build_filename(own, file, NULL) : NULL;
	guint count;

	if (own == NULL)
		return false;
	if (g_mkdir_with_parents(own, OWN_ONLY_FOLDER) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", own);
	return check_owner(own, error) && write_copies(copy, patch, path, error) &&
	       remove_named(folder, uuid, patch->name, patch->sha256, &count, error);
}

bool hvp_store_remove(const char *folder, const char *uuid, const char *name, GError **error)
{
	g_autofree char *own = folder_of(folder, uuid, error);
	guint count;

	if (own == NULL || !remove_named(folder, uuid, name, NULL, &count, error))
		return false;
	/* Stays where it is not empty. */
	(void)g_rmdir(own);
	return count > 0 ||
	       hvp_error_set(error, HVP_ERROR_NOT_FOUND, "no patch %s is installed", name);
}
