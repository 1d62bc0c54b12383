/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file's bytes, read once into a buffer that nobody else can reach: what is
 * hashed and checked later is what is used, whatever happens to the file.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * Reads the regular file at @path, following symbolic links. INVALID_ARGUMENT:
 * not a regular file, or above @max_bytes. BAD_DATA: empty, or its length
 * changed meanwhile. NOT_FOUND, PERMISSION, FAULT as errno says. May block on
 * the file system, never on a FIFO or device.
 */
GBytes *hvp_source_read(const char *path, gsize max_bytes,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The same for @fd, borrowed, from the beginning of its file wherever it stands. */
GBytes *hvp_source_read_fd(int fd, gsize max_bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;
