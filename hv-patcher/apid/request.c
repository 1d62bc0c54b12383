/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/request.h"

#include <json-glib/json-glib.h>
#include <math.h>
#include <string.h>

#include "apid/json-scan.h"
#include "apid/problem.h"
#include "apid/query.h"

#define MAX_DEPTH 4
#define MAX_VALUES 64
#define MAX_NAME_BYTES 55
#define MAX_POLICY_BYTES 1024
#define MAX_ACCEPTED 16
#define MAX_ACCEPTED_BYTES 64

typedef struct {
	const char *name;
	bool (*is_good)(JsonNode *node);
	const char *wanted;
} Member;

static const char *string_of(JsonNode *node)
{
	return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING
		       ? json_node_get_string(node)
		       : NULL;
}

/* Whether @text is 1 to @max_bytes of @bytes. */
static bool is_made_of(const char *text, const char *bytes, gsize max_bytes)
{
	gsize length = text ? strlen(text) : 0;

	return length > 0 && length <= max_bytes && strspn(text, bytes) == length;
}

static bool is_version(JsonNode *node)
{
	return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_INT64 &&
	       json_node_get_int(node) == 1;
}

static bool is_verb(JsonNode *node)
{
	static const char *const verbs[] = {
		"check", "apply", "revert", "replace", "recover", NULL
	};
	const char *text = string_of(node);

	return text != NULL && g_strv_contains(verbs, text);
}

static bool is_patch(JsonNode *node)
{
	const char *text = string_of(node);

	return text != NULL && hvp_query_is_sha256(text);
}

static bool is_module_name(JsonNode *node)
{
	return is_made_of(string_of(node), G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_.-",
			  MAX_NAME_BYTES);
}

static bool is_object(JsonNode *node)
{
	return JSON_NODE_HOLDS_OBJECT(node);
}

static bool is_number_within(JsonNode *node, double minimum, double maximum)
{
	GType type = JSON_NODE_HOLDS_VALUE(node) ? json_node_get_value_type(node) : G_TYPE_NONE;
	double value;

	if (type != G_TYPE_INT64 && type != G_TYPE_DOUBLE)
		return false;
	value = json_node_get_double(node);
	return isfinite(value) && value >= minimum && value <= maximum;
}

static bool is_timeout(JsonNode *node)
{
	return is_number_within(node, 0, 24 * 60 * 60);
}

static bool is_pause(JsonNode *node)
{
	return is_number_within(node, 0.01, 1000);
}

static bool is_boolean(JsonNode *node)
{
	return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_BOOLEAN;
}

static bool is_boolean_or_null(JsonNode *node)
{
	return JSON_NODE_HOLDS_NULL(node) || is_boolean(node);
}

static bool is_policy(JsonNode *node)
{
	const char *text = JSON_NODE_HOLDS_NULL(node) ? "any" : string_of(node);
	gsize length = text ? strlen(text) : 0;

	for (gsize i = 0; i < length; i++)
		if (!g_ascii_isgraph(text[i]))
			return false;
	return length > 0 && length <= MAX_POLICY_BYTES;
}

static bool is_accept(JsonNode *node)
{
	JsonArray *array = JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
	g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

	if (array == NULL || json_array_get_length(array) > MAX_ACCEPTED)
		return false;
	for (guint i = 0; i < json_array_get_length(array); i++) {
		const char *text = string_of(json_array_get_element(array, i));

		if (!is_made_of(text, G_CSET_a_2_z G_CSET_DIGITS "-", MAX_ACCEPTED_BYTES) ||
		    !g_ascii_islower(text[0]) || !g_hash_table_add(seen, (char *)text))
			return false;
	}
	return true;
}

static const Member request_members[] = {
	{ "version", is_version, "1" },
	{ "verb", is_verb, "check, apply, revert, replace or recover" },
	{ "patch", is_patch, "a SHA-256 in lower case" },
	{ "name", is_module_name, "a module's name" },
	{ "options", is_object, "an object" },
};

static const Member option_members[] = {
	{ "timeout", is_timeout, "a number from 0 to 86400" },
	{ "max_pause", is_pause, "a number from 0.01 to 1000" },
	{ "prod", is_boolean, "true or false" },
	{ "replace", is_boolean_or_null, "true, false or null" },
	{ "accept", is_accept, "at most 16 different names of items" },
	{ "kthreads", is_policy, "a policy or null" },
};

static bool check_member(const char *where, const Member *members, guint count, const char *name,
			 JsonNode *node, GError **error)
{
	for (guint i = 0; i < count; i++) {
		if (strcmp(members[i].name, name) != 0)
			continue;
		return members[i].is_good(node) ||
		       hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT, "%s%s: %s is wanted",
				       where, name, members[i].wanted);
	}
	return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT, "%san unknown member", where);
}

static bool check_members(const char *where, const Member *members, guint count, JsonObject *object,
			  GError **error)
{
	JsonObjectIter iter;
	const char *name;
	JsonNode *node;

	json_object_iter_init(&iter, object);
	while (json_object_iter_next(&iter, &name, &node))
		if (!check_member(where, members, count, name, node, error))
			return false;
	return true;
}

/* What the verb needs is there, and what it does not is not. */
static bool check_target(JsonObject *request, GError **error)
{
	bool has_patch = json_object_has_member(request, "patch");
	bool has_name = json_object_has_member(request, "name");
	const char *verb;

	if (!json_object_has_member(request, "verb"))
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT, "verb is wanted");
	verb = json_object_get_string_member(request, "verb");
	if (strcmp(verb, "recover") == 0)
		return (!has_patch && !has_name) ||
		       hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				       "recover: neither patch nor name is taken");
	if (strcmp(verb, "revert") == 0)
		return has_patch != has_name ||
		       hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				       "revert: either patch or name is wanted");
	return (has_patch && !has_name) ||
	       hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT, "%s: patch is wanted", verb);
}

static bool check_request(JsonNode *root, GError **error)
{
	JsonObject *request = JSON_NODE_HOLDS_OBJECT(root) ? json_node_get_object(root) : NULL;
	JsonNode *options;

	if (request == NULL)
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT, "an object is wanted");
	if (!check_members("", request_members, G_N_ELEMENTS(request_members), request, error) ||
	    !check_target(request, error))
		return false;
	options = json_object_get_member(request, "options");
	return options == NULL ||
	       check_members("options.", option_members, G_N_ELEMENTS(option_members),
			     json_node_get_object(options), error);
}

char *hvp_request_normalize(GBytes *bytes, GError **error)
{
	g_autoptr(JsonParser) parser = json_parser_new();
	gsize length = 0;
	const char *text = g_bytes_get_data(bytes, &length);
	JsonNode *root;

	if (length == 0)
		text = "";
	if (!hvp_json_scan_check(text, length, MAX_DEPTH, MAX_VALUES, error))
		return NULL;
	if (!json_parser_load_from_data(parser, text, (gssize)length, NULL)) {
		hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				"the body is not JSON that is taken");
		return NULL;
	}
	root = json_parser_get_root(parser);
	return check_request(root, error) ? json_to_string(root, FALSE) : NULL;
}
