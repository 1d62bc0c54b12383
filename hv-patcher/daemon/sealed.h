/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file of somebody else's as a private copy that nobody can change any more, he included: a
 * sealed memfd. What was hashed is what is verified, and what is used.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/error.h"

typedef struct {
	int fd;
	GBytes *bytes; /* the same as memory */
	char *sha256;  /* lower-case hex */
} HvpSealed;

/*
 * Copies what @fd has, from its beginning, wherever its offset is. INVALID_ARGUMENT: not a regular
 * file that can be read. TOO_LARGE: over @max_bytes. BAD_DATA: empty. FAULT. Blocks as long as the
 * file system wants to.
 */
HvpSealed *hvp_sealed_copy(int fd, gsize max_bytes, GError **error);

void hvp_sealed_free(HvpSealed *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpSealed, hvp_sealed_free)
