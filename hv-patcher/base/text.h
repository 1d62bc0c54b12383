/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text from guests, files and peers, made fit for terminals, logs and JSON. */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* For @length_bytes: the text ends at its first NUL. */
#define HVP_TEXT_TERMINATED G_MAXSIZE

/*
 * Returns a copy of @bytes in which printable ASCII stays and every other byte
 * is written as \xNN. A result that would pass @max_bytes (at least 3, without
 * the final NUL) is cut at a whole character and ends in "...". @length_bytes:
 * of the input; HVP_TEXT_TERMINATED reads to the first NUL, at most @max_bytes
 * + 1 bytes of it. @bytes may be NULL if the length is 0. The caller owns the result. Never fails.
 */
char *hvp_text_escape(const char *bytes, gsize length_bytes,
		      gsize max_bytes) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Whether @bytes are a name as the kernel and its tools make them: not empty,
 * at most @max_bytes long, printable ASCII without spaces.
 */
bool hvp_text_is_name(const char *bytes, gsize max_bytes) G_GNUC_WARN_UNUSED_RESULT;
