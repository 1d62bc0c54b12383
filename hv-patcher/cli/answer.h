/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading the daemon's documents: what is missing, or of another type than it should be, is as good
 * as null. The daemon may be of another version than this program.
 */
#pragma once

#include <json-glib/json-glib.h>

#include "base/address.h"
#include "base/error.h"

/* Borrowed; NULL. */
const char *hvp_answer_text(JsonObject *self, const char *name);
JsonObject *hvp_answer_object(JsonObject *self, const char *name);
JsonArray *hvp_answer_array(JsonObject *self, const char *name);

/* The element of @array; NULL where it is no object, or no text. */
JsonObject *hvp_answer_object_at(JsonArray *array, guint index);
const char *hvp_answer_text_at(JsonArray *array, guint index);

/* 0, or false. */
gint64 hvp_answer_integer(JsonObject *self, const char *name);
bool hvp_answer_bool(JsonObject *self, const char *name);

/* "0x..." */
HvpGva hvp_answer_address(JsonObject *self, const char *name);

/* The texts of array @name, @between them; "" where there are none; the caller's. */
char *hvp_answer_join(JsonObject *self, const char *name, const char *between);

/* Parses an object or an array. BAD_DATA. @what is for messages. */
JsonNode *hvp_answer_parse(const char *text, const char *what, GError **error);

/*
 * What "code" means here: that of base/error.h, or the nearest one for a code that only the daemon
 * has (FORBIDDEN is PERMISSION). INTERNAL: nobody knows it.
 */
HvpErrorCode hvp_answer_code(const char *name);

/* What a problem document (RFC 9457) says, in @error; always false. @problem may be NULL. */
bool hvp_answer_fail(JsonObject *problem, GError **error);
