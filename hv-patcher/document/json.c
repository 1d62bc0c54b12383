/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "document/json.h"

#include "base/error.h"
#include "base/text.h"

#define MAX_TEXT_BYTES 4096U
#define OBJECT_VERSION 1

char *hvp_json_escape(const char *text)
{
	return hvp_text_escape(text ? text : "", HVP_TEXT_TERMINATED, MAX_TEXT_BYTES);
}

static char *format_hex(guint64 value)
{
	return g_strdup_printf("0x%" G_GINT64_MODIFIER "x", value);
}

char *hvp_json_format_address(HvpGva address)
{
	return format_hex(address.value);
}

char *hvp_json_format_time(gint64 unix_usec)
{
	g_autoptr(GDateTime) time = NULL;

	if (unix_usec > 0)
		time = g_date_time_new_from_unix_utc(unix_usec / G_USEC_PER_SEC);
	return time ? g_date_time_format(time, "%Y-%m-%dT%H:%M:%SZ") : g_strdup("");
}

JsonBuilder *hvp_json_new(void)
{
	JsonBuilder *json = json_builder_new();

	json_builder_begin_object(json);
	hvp_json_integer(json, "version", OBJECT_VERSION);
	return json;
}

JsonNode *hvp_json_end(JsonBuilder *json)
{
	JsonNode *root;

	json_builder_end_object(json);
	root = json_builder_get_root(json);
	g_object_unref(json);
	return root;
}

void hvp_json_text(JsonBuilder *json, const char *name, const char *text)
{
	g_autofree char *escaped = hvp_json_escape(text);

	json_builder_set_member_name(json, name);
	if (text == NULL)
		json_builder_add_null_value(json);
	else
		json_builder_add_string_value(json, escaped);
}

void hvp_json_integer(JsonBuilder *json, const char *name, gint64 value)
{
	json_builder_set_member_name(json, name);
	json_builder_add_int_value(json, value);
}

void hvp_json_bool(JsonBuilder *json, const char *name, bool value)
{
	json_builder_set_member_name(json, name);
	json_builder_add_boolean_value(json, value);
}

void hvp_json_hex(JsonBuilder *json, const char *name, guint64 value)
{
	g_autofree char *text = format_hex(value);

	hvp_json_text(json, name, text);
}

void hvp_json_address(JsonBuilder *json, const char *name, HvpGva address)
{
	if (address.value == 0)
		hvp_json_text(json, name, NULL);
	else
		hvp_json_hex(json, name, address.value);
}

void hvp_json_begin_array(JsonBuilder *json, const char *name)
{
	json_builder_set_member_name(json, name);
	json_builder_begin_array(json);
}

void hvp_json_error(JsonBuilder *json, const GError *error)
{
	hvp_json_text(json, "code", error ? hvp_error_name(error) : NULL);
	hvp_json_text(json, "message", error ? error->message : NULL);
}
