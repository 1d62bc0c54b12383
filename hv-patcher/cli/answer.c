/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/answer.h"

#include "base/json-text.h"

#define MAX_DEPTH 32
#define MAX_VALUES 4000000

static JsonNode *typed_member(JsonObject *self, const char *name, JsonNodeType type)
{
	JsonNode *node = self ? json_object_get_member(self, name) : NULL;

	return node != NULL && JSON_NODE_TYPE(node) == type ? node : NULL;
}

static JsonNode *value_member(JsonObject *self, const char *name, GType type)
{
	return self ? hvp_json_text_typed_member(self, name, type) : NULL;
}

const char *hvp_answer_text(JsonObject *self, const char *name)
{
	JsonNode *node = value_member(self, name, G_TYPE_STRING);

	return node ? json_node_get_string(node) : NULL;
}

JsonObject *hvp_answer_object(JsonObject *self, const char *name)
{
	JsonNode *node = typed_member(self, name, JSON_NODE_OBJECT);

	return node ? json_node_get_object(node) : NULL;
}

JsonArray *hvp_answer_array(JsonObject *self, const char *name)
{
	JsonNode *node = typed_member(self, name, JSON_NODE_ARRAY);

	return node ? json_node_get_array(node) : NULL;
}

JsonObject *hvp_answer_object_at(JsonArray *array, guint index)
{
	JsonNode *node = json_array_get_element(array, index);

	return JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

const char *hvp_answer_text_at(JsonArray *array, guint index)
{
	JsonNode *node = json_array_get_element(array, index);

	return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING
		       ? json_node_get_string(node)
		       : NULL;
}

gint64 hvp_answer_integer(JsonObject *self, const char *name)
{
	JsonNode *node = value_member(self, name, G_TYPE_INT64);

	return node ? json_node_get_int(node) : 0;
}

bool hvp_answer_bool(JsonObject *self, const char *name)
{
	JsonNode *node = value_member(self, name, G_TYPE_BOOLEAN);

	return node != NULL && json_node_get_boolean(node);
}

HvpGva hvp_answer_address(JsonObject *self, const char *name)
{
	const char *text = hvp_answer_text(self, name);
	guint64 value = 0;

	if (text != NULL && g_str_has_prefix(text, "0x") &&
	    !g_ascii_string_to_unsigned(text + 2, 16, 0, G_MAXUINT64, &value, NULL))
		value = 0;
	return hvp_gva(value);
}

char *hvp_answer_join(JsonObject *self, const char *name, const char *between)
{
	JsonArray *array = hvp_answer_array(self, name);
	GString *text = g_string_new(NULL);

	for (guint i = 0; array != NULL && i < json_array_get_length(array); i++) {
		const char *element = hvp_answer_text_at(array, i);

		if (element != NULL)
			g_string_append_printf(text, "%s%s", text->len > 0 ? between : "", element);
	}
	return g_string_free(text, FALSE);
}

JsonNode *hvp_answer_parse(const char *text, const char *what, GError **error)
{
	g_autoptr(JsonParser) parser = json_parser_new();
	JsonNode *root = NULL;

	if (hvp_json_text_is_within(text, MAX_DEPTH, MAX_VALUES) &&
	    json_parser_load_from_data(parser, text, -1, NULL))
		root = json_parser_steal_root(parser);
	if (root != NULL && !JSON_NODE_HOLDS_VALUE(root) && !JSON_NODE_HOLDS_NULL(root))
		return root;
	if (root != NULL)
		json_node_unref(root);
	hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s: hvpatchd's answer is no document", what);
	return NULL;
}

HvpErrorCode hvp_answer_code(const char *name)
{
	static const struct {
		const char *name;
		HvpErrorCode code;
	} others[] = {
		{ "UNAUTHENTICATED", HVP_ERROR_PERMISSION },
		{ "FORBIDDEN", HVP_ERROR_PERMISSION },
		{ "IDEMPOTENCY", HVP_ERROR_CONFLICT },
		{ "TOO_LARGE", HVP_ERROR_BAD_DATA },
		{ "TOO_MANY", HVP_ERROR_BUSY },
		{ "UNAVAILABLE", HVP_ERROR_BUSY },
		{ "GONE", HVP_ERROR_NOT_FOUND },
	};

	for (guint i = 0; name != NULL && i < G_N_ELEMENTS(others); i++)
		if (g_str_equal(name, others[i].name))
			return others[i].code;
	return hvp_error_code_by_name(name);
}

bool hvp_answer_fail(JsonObject *problem, GError **error)
{
	const char *text = hvp_answer_text(problem, "detail");

	if (text == NULL)
		text = hvp_answer_text(problem, "message");
	if (text == NULL)
		text = hvp_answer_text(problem, "title");
	return hvp_error_set(error, hvp_answer_code(hvp_answer_text(problem, "code")), "%s",
			     text ? text : "hvpatchd says that it failed, and not why");
}
