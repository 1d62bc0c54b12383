/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes an archive as the kernel unpacks it into its first root: format "newc"
 * (Documentation/driver-api/early-userspace/buffer-format.rst). Files, folders and symbolic links
 * of root, nothing else; the folders above a path come by themselves.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct HvpCpio HvpCpio;

HvpCpio *hvp_cpio_new(void);
void hvp_cpio_free(HvpCpio *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpCpio, hvp_cpio_free)

/* @path is relative ("bin/sh"), and not one that was added before. @bytes are copied. */
void hvp_cpio_add_file(HvpCpio *self, const char *path, guint permissions, const void *bytes,
		       gsize length_bytes);
void hvp_cpio_add_folder(HvpCpio *self, const char *path);
void hvp_cpio_add_link(HvpCpio *self, const char *path, const char *target);

/* Ends the archive and gives it away; @self can then only be freed. */
GBytes *hvp_cpio_finish(HvpCpio *self);
