/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/operation-request.h"

#include <string.h>

#include "base/json-text.h"
#include "base/text.h"
#include "daemon/fields.h"
#include "daemon/patch-store.h"
#include "patch/patch.h"

#define WHAT "the request"
#define DEFAULT_TIMEOUT 30.0
#define MAX_TIMEOUT (24.0 * 60 * 60)
#define DEFAULT_MAX_PAUSE 10.0
#define MIN_MAX_PAUSE 0.01
#define MAX_MAX_PAUSE 1000.0
#define MAX_ACCEPTED 16U
#define MAX_ITEM_BYTES 64U
#define MAX_KTHREADS_BYTES 1024U

void hvp_operation_request_free(HvpOperationRequest *self)
{
	if (self == NULL)
		return;
	g_free(self->patch);
	g_free(self->name);
	g_clear_pointer(&self->options, json_node_unref);
	g_free(self);
}

static bool set_invalid(const char *name, const char *why, GError **error)
{
	return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, WHAT ": \"%s\" %s", name, why);
}

/* --- options --- */

static bool read_number(JsonObject *object, const char *name, double minimum, double maximum,
			double *number, GError **error)
{
	JsonNode *node = json_object_get_member(object, name);
	GType type = node && JSON_NODE_HOLDS_VALUE(node) ? json_node_get_value_type(node)
							 : G_TYPE_INVALID;

	if (node == NULL)
		return true;
	if (type != G_TYPE_INT64 && type != G_TYPE_DOUBLE)
		return set_invalid(name, "is no number", error);
	*number = json_node_get_double(node);
	return (*number >= minimum && *number <= maximum) ||
	       set_invalid(name, "is out of its range", error);
}

static bool read_timeout(JsonObject *object, double allowed_seconds, double *seconds,
			 GError **error)
{
	*seconds = MIN(DEFAULT_TIMEOUT, allowed_seconds);
	if (!read_number(object, "timeout", 0, MAX_TIMEOUT, seconds, error))
		return false;
	return *seconds <= allowed_seconds ||
	       hvp_error_set(error, HVP_ERROR_PERMISSION,
			     "a timeout of %g s is longer than the %g s that are allowed here",
			     *seconds, allowed_seconds);
}

static bool read_pause(JsonObject *object, double allowed_msec, double *msec, GError **error)
{
	*msec = MIN(DEFAULT_MAX_PAUSE, allowed_msec);
	if (!read_number(object, "max_pause", MIN_MAX_PAUSE, MAX_MAX_PAUSE, msec, error))
		return false;
	return *msec <= allowed_msec || hvp_error_set(error, HVP_ERROR_PERMISSION,
						      "a pause of %g ms is longer than the %g ms "
						      "that are allowed here",
						      *msec, allowed_msec);
}

static bool is_item(JsonNode *node)
{
	const char *text;

	if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_STRING)
		return false;
	text = json_node_get_string(node);
	return g_ascii_islower(text[0]) && strlen(text) <= MAX_ITEM_BYTES &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(text);
}

static bool read_accept(JsonObject *object, JsonArray *accepted, GError **error)
{
	JsonNode *node = json_object_get_member(object, "accept");
	JsonArray *array;

	if (node == NULL)
		return true;
	if (!JSON_NODE_HOLDS_ARRAY(node))
		return set_invalid("accept", "is no array", error);
	array = json_node_get_array(node);
	if (json_array_get_length(array) > MAX_ACCEPTED)
		return set_invalid("accept", "has too many items", error);
	for (guint i = 0; i < json_array_get_length(array); i++) {
		if (!is_item(json_array_get_element(array, i)))
			return set_invalid("accept", "has what is no item of check", error);
		json_array_add_string_element(accepted, json_array_get_string_element(array, i));
	}
	return true;
}

/* A boolean, or null where @fallback is NULL; copies what is there. */
static bool read_boolean(JsonObject *object, const char *name, JsonNode *fallback,
			 JsonObject *options, GError **error)
{
	JsonNode *node = json_object_get_member(object, name);

	if (node == NULL || (JSON_NODE_HOLDS_NULL(node) && JSON_NODE_HOLDS_NULL(fallback))) {
		json_object_set_member(options, name, fallback);
		return true;
	}
	json_node_unref(fallback);
	if (hvp_json_text_typed_member(object, name, G_TYPE_BOOLEAN) == NULL)
		return set_invalid(name, "is neither true nor false", error);
	json_object_set_boolean_member(options, name, json_node_get_boolean(node));
	return true;
}

static bool read_kthreads(JsonObject *object, JsonObject *options, GError **error)
{
	JsonNode *node = json_object_get_member(object, "kthreads");
	const char *text = node ? hvp_fields_get_text(object, "kthreads") : NULL;

	if (node != NULL && !JSON_NODE_HOLDS_NULL(node) &&
	    (text == NULL || !hvp_text_is_name(text, MAX_KTHREADS_BYTES)))
		return set_invalid("kthreads", "is no policy", error);
	hvp_fields_set_text(options, "kthreads", text);
	return true;
}

static bool fill_options(JsonObject *object, const HvpOperationRequestLimits *limits,
			 JsonObject *options, GError **error)
{
	static const char *const known[] = { "timeout", "max_pause", "prod", "replace",
					     "accept",	"kthreads",  NULL };
	g_autoptr(JsonArray) accepted = json_array_new();
	double timeout, max_pause;

	if (!hvp_fields_check_members(object, known, "options", error) ||
	    !read_timeout(object, limits->max_timeout_seconds, &timeout, error) ||
	    !read_pause(object, limits->max_pause_msec, &max_pause, error) ||
	    !read_accept(object, accepted, error) ||
	    !read_boolean(object, "prod", json_node_init_boolean(json_node_alloc(), TRUE), options,
			  error) ||
	    !read_boolean(object, "replace", json_node_init_null(json_node_alloc()), options,
			  error) ||
	    !read_kthreads(object, options, error))
		return false;
	json_object_set_double_member(options, "timeout", timeout);
	json_object_set_double_member(options, "max_pause", max_pause);
	json_object_set_array_member(options, "accept", g_steal_pointer(&accepted));
	return true;
}

static bool read_options(HvpOperationRequest *self, JsonObject *object,
			 const HvpOperationRequestLimits *limits, GError **error)
{
	JsonNode *node = json_object_get_member(object, "options");
	g_autoptr(JsonObject) none = json_object_new();
	JsonObject *options = json_object_new();

	self->options = hvp_fields_node(options);
	if (node != NULL && !JSON_NODE_HOLDS_OBJECT(node))
		return set_invalid("options", "is no object", error);
	if (!fill_options(node ? json_node_get_object(node) : none, limits, options, error))
		return false;
	/* The verb is its own word for it. */
	if (self->verb == HVP_VERB_REPLACE)
		json_object_set_boolean_member(options, "replace", TRUE);
	return true;
}

/* --- what it is about --- */

static bool read_verb(HvpOperationRequest *self, JsonObject *object, GError **error)
{
	const char *text = hvp_fields_get_text(object, "verb");

	return (text != NULL && hvp_roles_find_verb(text, &self->verb) &&
		self->verb >= HVP_VERB_CHECK && self->verb <= HVP_VERB_RECOVER) ||
	       set_invalid("verb", "is none of check, apply, revert, replace, recover", error);
}

/* A module's name, as the kernel takes it. */
static bool is_name(const char *text)
{
	return text != NULL && hvp_text_is_name(text, HVP_PATCH_MAX_MODULE_NAME) &&
	       strspn(text, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_.-") == strlen(text);
}

static bool read_subject(HvpOperationRequest *self, JsonObject *object, GError **error)
{
	bool has_patch = json_object_has_member(object, "patch");
	bool has_name = json_object_has_member(object, "name");

	self->patch = g_strdup(hvp_fields_get_text(object, "patch"));
	self->name = g_strdup(hvp_fields_get_text(object, "name"));
	if (has_patch && (self->patch == NULL || !hvp_patch_store_is_sha256(self->patch)))
		return set_invalid("patch", "is no SHA-256 in lower case", error);
	if (has_name && !is_name(self->name))
		return set_invalid("name", "is no module's name", error);
	switch (self->verb) {
	case HVP_VERB_REVERT:
		return has_patch != has_name ||
		       set_invalid("name", "or \"patch\", one of them, says what to revert", error);
	case HVP_VERB_RECOVER:
		return (!has_patch && !has_name) ||
		       set_invalid("verb", "recover is for whatever was left", error);
	default:
		return (has_patch && !has_name) ||
		       set_invalid("patch", "says what to use, and nothing else does", error);
	}
}

static bool check_version(JsonObject *object, GError **error)
{
	return !json_object_has_member(object, "version") ||
	       hvp_fields_get_integer(object, "version", 0) == 1 ||
	       set_invalid("version", "is not 1", error);
}

HvpOperationRequest *hvp_operation_request_parse(const char *text,
						 const HvpOperationRequestLimits *limits,
						 GError **error)
{
	static const char *const known[] = { "version", "verb", "patch", "name", "options", NULL };
	g_autoptr(HvpOperationRequest) self = g_new0(HvpOperationRequest, 1);
	g_autoptr(JsonNode) root = hvp_fields_parse_request(text, WHAT, error);
	JsonObject *object = root ? json_node_get_object(root) : NULL;

	if (root == NULL || !hvp_fields_check_members(object, known, WHAT, error) ||
	    !check_version(object, error) || !read_verb(self, object, error) ||
	    !read_subject(self, object, error) || !read_options(self, object, limits, error))
		return NULL;
	return g_steal_pointer(&self);
}
