/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON of peers, read strictly (RFC 8259 and no more) before json-glib sees it: that takes comments
 * and trailing commas, keeps the last of duplicate members, and recurses on nesting.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * Whether @text, of @length_bytes, is one JSON value nested at most @max_depth (up to 32) deep with
 * at most @max_values values, in UTF-8 without U+0000, whose objects have no member twice and whose
 * member names have no escapes. Does not recurse. HVP_PROBLEM_INVALID_ARGUMENT: it is not; says
 * what and at which byte.
 */
bool hvp_json_scan_check(const char *text, gsize length_bytes, guint max_depth, gsize max_values,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;
