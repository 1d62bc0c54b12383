/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The JSON objects that users and scripts get, whoever makes them: one "version", members one by
 * one. Text of guests and files is escaped here, so that it can neither drive a terminal nor break
 * the JSON.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "base/address.h"

/* Escapes guest or foreign text, NULL as ""; the caller's. */
char *hvp_json_escape(const char *text);

/* "0x..."; the caller's. */
char *hvp_json_format_address(HvpGva address);

/* Unix time in microseconds as ISO 8601 in UTC, "" where it is no time; the caller's. */
char *hvp_json_format_time(gint64 unix_usec);

/* An object that is begun, with its "version"; ends with hvp_json_end. */
JsonBuilder *hvp_json_new(void);

/* Ends the object; takes @json. The root is the caller's. */
JsonNode *hvp_json_end(JsonBuilder *json);

/* One member each. Text is escaped, NULL becomes null, as does an address of 0. */
void hvp_json_text(JsonBuilder *json, const char *name, const char *text);
void hvp_json_integer(JsonBuilder *json, const char *name, gint64 value);
void hvp_json_bool(JsonBuilder *json, const char *name, bool value);
void hvp_json_hex(JsonBuilder *json, const char *name, guint64 value);
void hvp_json_address(JsonBuilder *json, const char *name, HvpGva address);
void hvp_json_begin_array(JsonBuilder *json, const char *name);

/* "code" and "message" of @error, null both without one. */
void hvp_json_error(JsonBuilder *json, const GError *error);
