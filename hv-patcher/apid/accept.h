/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Media types in headers (RFC 9110, 8.3.1 and 12.5.1). */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Whether a Content-Type (NULL: none) is @type; its parameters do not matter, but charset. */
bool hvp_accept_is_type(const char *content_type, const char *type);

/*
 * Which of @types (ended by NULL) an Accept header (NULL: none) wants most, the first of equals;
 * NULL: none of them.
 */
const char *hvp_accept_choose(const char *accept, const char *const *types);
