/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What documents are made of, and how requests are read: strictly. */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "base/error.h"

/* On one line; the caller's. */
char *hvp_fields_to_text(JsonNode *node);

/* Takes @object. */
JsonNode *hvp_fields_node(JsonObject *object);

/* RFC 3339 with microseconds, in UTC; the caller's. */
char *hvp_fields_time(gint64 usec);
/* 0: it is none. */
gint64 hvp_fields_parse_time(const char *text);

/* @text NULL, @usec 0: null. */
void hvp_fields_set_text(JsonObject *object, const char *name, const char *text);
void hvp_fields_set_time(JsonObject *object, const char *name, gint64 usec);
/* @node is copied by reference; NULL: null. */
void hvp_fields_set_node(JsonObject *object, const char *name, JsonNode *node);

/* The member, where it is a string, else NULL; borrowed. */
const char *hvp_fields_get_text(JsonObject *object, const char *name);
/* The member, where it is a whole number, else @fallback. */
gint64 hvp_fields_get_integer(JsonObject *object, const char *name, gint64 fallback);
/* The member, where it is an object, else NULL; borrowed. */
JsonObject *hvp_fields_get_object(JsonObject *object, const char *name);

/* Whether all members of @object are among @known. INVALID_ARGUMENT, naming one. */
bool hvp_fields_check_members(JsonObject *object, const char *const *known, const char *what,
			      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The request @text as an object within narrow limits. INVALID_ARGUMENT. */
JsonNode *hvp_fields_parse_request(const char *text, const char *what, GError **error);
