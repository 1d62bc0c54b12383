/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON of peers and files, looked over before json-glib sees it: that recurses on
 * nesting and allocates for each value.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "base/error.h"

/*
 * Whether @text (ended by a NUL) is nested at most @max_depth deep and has at most @max_values
 * values. Brackets inside strings do not count.
 */
bool hvp_json_text_is_within(const char *text, gsize max_depth, gsize max_values);

/*
 * Parses @length_bytes of @text, with a NUL behind them, as one object within these limits. @what
 * is for messages. BAD_DATA: not UTF-8, past a limit, not JSON, not an object.
 */
JsonNode *hvp_json_text_parse_object(const char *text, gsize length_bytes, gsize max_depth,
				     gsize max_values, const char *what, GError **error);

/* The member if it is there and a value of @type (G_TYPE_STRING, _INT64, _BOOLEAN), else NULL. */
JsonNode *hvp_json_text_typed_member(JsonObject *object, const char *name, GType type);

/*
 * A request of the monitor's kind as a line, owned by the caller: {"execute": @command,
 * "arguments": @arguments (may be NULL), "id": @id}. Takes @id.
 */
char *hvp_json_text_request(const char *command, JsonObject *arguments, JsonNode *id);
