/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon's own files: in folders that nobody else can write to, whole or not there. */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "base/error.h"

/* Makes folder @path where it is missing. PERMISSION: somebody else could have written there. */
bool hvp_files_make_folder(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * A descriptor that keeps other daemons from folder @path until it is closed, or we end. -1:
 * CONFLICT, there is one; FAULT.
 */
int hvp_files_lock(const char *path, GError **error);

/* Writes @path anew, at once and down to the disk. FAULT; what was there is then still there. */
bool hvp_files_write(const char *path, const void *bytes, gsize length_bytes,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Whether @name is that of a file which such a write, cut off by a crash, has left. */
bool hvp_files_is_left_over(const char *name);
bool hvp_files_write_json(const char *path, JsonNode *node,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Reads an object. NOT_FOUND, FAULT, BAD_DATA. */
JsonNode *hvp_files_read_json(const char *path, GError **error);

/* The names in folder @path that end in @suffix, without it; sorted. FAULT. */
GPtrArray *hvp_files_list(const char *path, const char *suffix, GError **error);
