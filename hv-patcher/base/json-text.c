/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/json-text.h"

bool hvp_json_text_is_within(const char *text, gsize max_depth, gsize max_values)
{
	bool in_string = false;
	gsize depth = 0;
	gsize values = 0;

	for (const char *at = text; *at != '\0'; at++) {
		if (in_string) {
			if (*at == '\\' && at[1] != '\0')
				at++;
			else if (*at == '"')
				in_string = false;
			continue;
		}
		in_string = *at == '"';
		if (*at == '[' || *at == '{') {
			depth++;
			values++;
		} else if ((*at == ']' || *at == '}') && depth > 0) {
			depth--;
		} else if (*at == ',') {
			values++;
		}
		if (depth > max_depth || values > max_values)
			return false;
	}
	return true;
}

JsonNode *hvp_json_text_parse_object(const char *text, gsize length_bytes, gsize max_depth,
				     gsize max_values, const char *what, GError **error)
{
	g_autoptr(JsonParser) parser = json_parser_new_immutable();
	const char *why = NULL;
	JsonNode *root = NULL;

	if (!g_utf8_validate_len(text, length_bytes, NULL))
		why = "is not UTF-8";
	else if (!hvp_json_text_is_within(text, max_depth, max_values))
		why = "is nested too deeply or has too many values";
	else if (!json_parser_load_from_data(parser, text, (gssize)length_bytes, NULL))
		why = "is not JSON";
	else
		root = json_parser_get_root(parser);
	if (why == NULL && (root == NULL || !JSON_NODE_HOLDS_OBJECT(root)))
		why = "is not an object";
	if (why == NULL)
		return json_node_ref(root);
	hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s %s", what, why);
	return NULL;
}

JsonNode *hvp_json_text_typed_member(JsonObject *object, const char *name, GType type)
{
	JsonNode *node = json_object_get_member(object, name);

	if (node == NULL || !JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != type)
		return NULL;
	return node;
}

char *hvp_json_text_request(const char *command, JsonObject *arguments, JsonNode *id)
{
	g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
	JsonObject *request = json_object_new();
	g_autofree char *text = NULL;

	json_object_set_string_member(request, "execute", command);
	if (arguments != NULL)
		json_object_set_object_member(request, "arguments", json_object_ref(arguments));
	json_object_set_member(request, "id", id);
	json_node_take_object(root, request);
	text = json_to_string(root, FALSE);
	return g_strconcat(text, "\n", NULL);
}
