/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stands in a target: names and values of a query, ids in a path. Read strictly. */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Whether @text is a UUID in lower case. */
bool hvp_query_is_uuid(const char *text);
/* Whether @text is a SHA-256 in lower case. */
bool hvp_query_is_sha256(const char *text);
/* Whether @text is the name of a script of the page: letters and dashes, and .js behind them. */
bool hvp_query_is_script(const char *text);

/*
 * @query (may be NULL) as a table of names to values, all of which are among @names. Nothing is
 * decoded: no value that is taken needs it. INVALID_ARGUMENT: unknown, twice, or empty.
 */
GHashTable *hvp_query_parse(const char *query, const char *const *names, GError **error);

/* The number of @name if it is there, else @normal. INVALID_ARGUMENT: not one in the range. */
bool hvp_query_number(GHashTable *query, const char *name, guint64 minimum, guint64 maximum,
		      guint64 normal, guint64 *ret_value, GError **error);

/* INVALID_ARGUMENT: @name is there and not among @words (ended by NULL). */
bool hvp_query_word(GHashTable *query, const char *name, const char *const *words,
		    const char **ret_word, GError **error);
