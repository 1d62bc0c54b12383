/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the throw-away guest boots into. Everything of ours lies in /.hvpatch: init, busybox, the
 * workload, modules to load. It stands in front of the user's own initrd, which the kernel unpacks
 * into the same root; without one, busybox is the whole user space.
 *
 * init talks over the second serial line, one line each way. Lines from the guest that are for us
 * begin with a word that only this guest knows; all others are what the workload prints.
 *
 *   guest: WORD ready            host: run      guest: WORD exit STATUS
 *                                host: settle   guest: WORD settled
 *
 * "settle" waits for what the kernel says a moment later, and ends it by a message of the kernel,
 * "WORD settled", of the level of warnings: where that is on the console, so are they.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/error.h"

#define HVP_INITRAMFS_INIT "/.hvpatch/init"
#define HVP_INITRAMFS_MAX_BYTES (1U << 30)

typedef struct {
	const char *initrd_path;	 /* the user's; NULL: none */
	const char *workload_path;	 /* NULL: a moment of ordinary life */
	const char *const *module_paths; /* loaded in this order; NULL-terminated, or NULL */
	const char *word;
} HvpInitramfsOrder;

/*
 * Makes it. NOT_FOUND, PERMISSION: a file, or busybox, cannot be read; INVALID_ARGUMENT: it is no
 * regular file, or too large; UNSUPPORTED: the only busybox needs libraries.
 */
GBytes *hvp_initramfs_make(const HvpInitramfsOrder *order, GError **error);

/* Reads a regular file of at most @max_bytes; @what is for messages. Errors as above. */
GBytes *hvp_initramfs_read_file(const char *path, const char *what, gsize max_bytes,
				GError **error);
