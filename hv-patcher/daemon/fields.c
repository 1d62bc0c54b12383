/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/fields.h"

#include <string.h>

#include "base/json-text.h"
#include "base/text.h"

#define MAX_REQUEST_BYTES (64U << 10)
#define MAX_REQUEST_DEPTH 4
#define MAX_REQUEST_VALUES 256
#define MAX_QUOTED_BYTES 64

char *hvp_fields_to_text(JsonNode *node)
{
	return json_to_string(node, FALSE);
}

JsonNode *hvp_fields_node(JsonObject *object)
{
	JsonNode *node = json_node_new(JSON_NODE_OBJECT);

	json_node_take_object(node, object);
	return node;
}

char *hvp_fields_time(gint64 usec)
{
	g_autoptr(GDateTime) seconds = g_date_time_new_from_unix_utc(usec / G_USEC_PER_SEC);
	g_autofree char *text = g_date_time_format(seconds, "%Y-%m-%dT%H:%M:%S");

	return g_strdup_printf("%s.%06dZ", text, (int)(usec % G_USEC_PER_SEC));
}

gint64 hvp_fields_parse_time(const char *text)
{
	g_autoptr(GDateTime) time = text ? g_date_time_new_from_iso8601(text, NULL) : NULL;

	if (time == NULL)
		return 0;
	return g_date_time_to_unix(time) * G_USEC_PER_SEC + g_date_time_get_microsecond(time);
}

void hvp_fields_set_text(JsonObject *object, const char *name, const char *text)
{
	if (text != NULL)
		json_object_set_string_member(object, name, text);
	else
		json_object_set_null_member(object, name);
}

void hvp_fields_set_time(JsonObject *object, const char *name, gint64 usec)
{
	g_autofree char *text = usec > 0 ? hvp_fields_time(usec) : NULL;

	hvp_fields_set_text(object, name, text);
}

void hvp_fields_set_node(JsonObject *object, const char *name, JsonNode *node)
{
	if (node != NULL)
		json_object_set_member(object, name, json_node_ref(node));
	else
		json_object_set_null_member(object, name);
}

const char *hvp_fields_get_text(JsonObject *object, const char *name)
{
	JsonNode *node = hvp_json_text_typed_member(object, name, G_TYPE_STRING);

	return node ? json_node_get_string(node) : NULL;
}

gint64 hvp_fields_get_integer(JsonObject *object, const char *name, gint64 fallback)
{
	JsonNode *node = hvp_json_text_typed_member(object, name, G_TYPE_INT64);

	return node ? json_node_get_int(node) : fallback;
}

JsonObject *hvp_fields_get_object(JsonObject *object, const char *name)
{
	JsonNode *node = json_object_get_member(object, name);

	return node != NULL && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

bool hvp_fields_check_members(JsonObject *object, const char *const *known, const char *what,
			      GError **error)
{
	g_autoptr(GList) members = json_object_get_members(object);

	for (GList *member = members; member != NULL; member = member->next) {
		g_autofree char *quoted = NULL;

		if (g_strv_contains(known, member->data))
			continue;
		quoted = hvp_text_escape(member->data, HVP_TEXT_TERMINATED, MAX_QUOTED_BYTES);
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "%s: there is no member '%s'", what, quoted);
	}
	return true;
}

JsonNode *hvp_fields_parse_request(const char *text, const char *what, GError **error)
{
	g_autoptr(GError) reason = NULL;
	gsize length_bytes = strlen(text);
	JsonNode *node = NULL;

	if (length_bytes > MAX_REQUEST_BYTES)
		hvp_error_set(&reason, HVP_ERROR_INVALID_ARGUMENT, "%s is too long", what);
	else
		node = hvp_json_text_parse_object(text, length_bytes, MAX_REQUEST_DEPTH,
						  MAX_REQUEST_VALUES, what, &reason);
	/* For peers it is their request that is wrong, not some file's data. */
	if (node == NULL)
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s", reason->message);
	return node;
}
