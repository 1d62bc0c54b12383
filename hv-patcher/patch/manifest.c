/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/manifest.h"

#include <string.h>

#include "base/json-text.h"
#include "base/text.h"
#include "patch/source.h"

#define SUFFIX ".hvpatch.json"
#define MODULE_SUFFIX ".ko"
#define PARKED "parked"
#define MAX_DEPTH 2U
#define MAX_VALUES 1024U
#define MAX_QUOTED_BYTES 64U

void hvp_manifest_free(HvpManifest *self)
{
	if (self == NULL)
		return;
	g_strfreev(self->patterns);
	g_strfreev(self->standing);
	g_strfreev(self->cves);
	g_free(self->place);
	g_free(self);
}

static HvpManifest *manifest_new(void)
{
	HvpManifest *self = g_new0(HvpManifest, 1);

	self->standing = g_new0(char *, 1);
	self->cves = g_new0(char *, 1);
	self->serial = HVP_MANIFEST_NO_SERIAL;
	return self;
}

static bool set_no_policy(const char *text, GError **error)
{
	g_autofree char *quoted = hvp_text_escape(text, HVP_TEXT_TERMINATED, MAX_QUOTED_BYTES);

	return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
			     "'%s' is none of any, refuse, parked, parked=PATTERN,...", quoted);
}

static bool are_patterns(char **patterns)
{
	guint count = g_strv_length(patterns);

	for (guint i = 0; i < count; i++)
		if (!hvp_text_is_name(patterns[i], HVP_MANIFEST_MAX_PATTERN_BYTES))
			return false;
	return count > 0 && count <= HVP_MANIFEST_MAX_PATTERNS;
}

bool hvp_manifest_set_kthreads(HvpManifest *self, const char *text, GError **error)
{
	g_auto(GStrv) patterns = NULL;
	HvpKthreadsPolicy policy = HVP_KTHREADS_PARKED;

	if (strcmp(text, "any") == 0)
		policy = HVP_KTHREADS_ANY;
	else if (strcmp(text, "refuse") == 0)
		policy = HVP_KTHREADS_REFUSE;
	else if (g_str_has_prefix(text, PARKED "="))
		patterns = g_strsplit(text + strlen(PARKED "="), ",",
				      HVP_MANIFEST_MAX_PATTERNS + 1);
	else if (strcmp(text, PARKED) != 0)
		return set_no_policy(text, error);
	if (patterns != NULL && !are_patterns(patterns))
		return set_no_policy(text, error);
	self->kthreads = policy;
	g_strfreev(self->patterns);
	self->patterns = g_steal_pointer(&patterns);
	return true;
}

static bool set_bad(const char *label, GError **error, const char *what)
{
	return hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s: %s", label, what);
}

static bool read_kthreads(HvpManifest *self, JsonObject *object, const char *label, GError **error)
{
	JsonNode *node = hvp_json_text_typed_member(object, "kthreads", G_TYPE_STRING);
	g_autoptr(GError) reason = NULL;

	if (!json_object_has_member(object, "kthreads"))
		return true;
	if (node == NULL)
		return set_bad(label, error, "\"kthreads\" is not a string");
	return hvp_manifest_set_kthreads(self, json_node_get_string(node), &reason) ||
	       set_bad(label, error, reason->message);
}

static bool read_serial(HvpManifest *self, JsonObject *object, const char *label, GError **error)
{
	JsonNode *node = hvp_json_text_typed_member(object, "serial", G_TYPE_INT64);

	if (!json_object_has_member(object, "serial"))
		return true;
	if (node == NULL || json_node_get_int(node) < 0)
		return set_bad(label, error, "\"serial\" is no whole number from 0 on");
	self->serial = json_node_get_int(node);
	return true;
}

typedef struct {
	const char *name;
	guint max_count;
	const char *not_an_array;
	const char *too_many;
	const char *not_a_name;
} ListRule;

/* Replaces @list by the member that @rule names, if it is there. */
static bool read_list(char ***list, const ListRule *rule, JsonObject *object, const char *label,
		      GError **error)
{
	JsonNode *node = json_object_get_member(object, rule->name);
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	JsonArray *array;

	if (node == NULL)
		return true;
	if (!JSON_NODE_HOLDS_ARRAY(node))
		return set_bad(label, error, rule->not_an_array);
	array = json_node_get_array(node);
	if (json_array_get_length(array) > rule->max_count)
		return set_bad(label, error, rule->too_many);
	for (guint i = 0; i < json_array_get_length(array); i++) {
		JsonNode *element = json_array_get_element(array, i);
		bool is_text = JSON_NODE_HOLDS_VALUE(element) &&
			       json_node_get_value_type(element) == G_TYPE_STRING;

		if (!is_text ||
		    !hvp_text_is_name(json_node_get_string(element), HVP_MANIFEST_MAX_NAME_BYTES))
			return set_bad(label, error, rule->not_a_name);
		g_ptr_array_add(names, g_strdup(json_node_get_string(element)));
	}
	g_ptr_array_add(names, NULL);
	g_strfreev(*list);
	*list = (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
	return true;
}

static bool read_lists(HvpManifest *self, JsonObject *object, const char *label, GError **error)
{
	static const ListRule standing = { "standing", HVP_MANIFEST_MAX_STANDING,
					   "\"standing\" is not an array",
					   "\"standing\" names too many functions",
					   "\"standing\" has what is no function's name" };
	static const ListRule cves = { "cves", HVP_MANIFEST_MAX_CVES, "\"cves\" is not an array",
				       "\"cves\" are too many",
				       "\"cves\" has what is no CVE's number" };

	return read_list(&self->standing, &standing, object, label, error) &&
	       read_list(&self->cves, &cves, object, label, error);
}

static bool check_members(JsonObject *object, const char *label, GError **error)
{
	static const char *const known[] = { "kthreads", "standing", "cves", "serial", NULL };
	g_autoptr(GList) members = json_object_get_members(object);

	for (GList *member = members; member != NULL; member = member->next) {
		g_autofree char *quoted = NULL;

		if (g_strv_contains(known, member->data))
			continue;
		quoted = hvp_text_escape(member->data, HVP_TEXT_TERMINATED, MAX_QUOTED_BYTES);
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s: \"%s\" is not known", label,
				     quoted);
	}
	return true;
}

bool hvp_manifest_check(const HvpManifest *self, GError **error)
{
	if (self->kthreads == HVP_KTHREADS_ANY || self->patterns != NULL ||
	    self->standing[0] != NULL)
		return true;
	return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
			     "%s: kthreads \"%s\" needs \"standing\" functions%s",
			     self->place ? self->place : "the patch's manifest",
			     self->kthreads == HVP_KTHREADS_REFUSE ? "refuse" : PARKED,
			     self->place ? "" : ", and there is no manifest");
}

HvpManifest *hvp_manifest_parse(const char *text, gsize length_bytes, const char *label,
				GError **error)
{
	g_autoptr(HvpManifest) self = manifest_new();
	g_autoptr(JsonNode) root = hvp_json_text_parse_object(text, length_bytes, MAX_DEPTH,
							      MAX_VALUES, label, error);
	JsonObject *object;

	if (root == NULL)
		return NULL;
	object = json_node_get_object(root);
	if (!check_members(object, label, error) || !read_lists(self, object, label, error) ||
	    !read_kthreads(self, object, label, error) ||
	    !read_serial(self, object, label, error))
		return NULL;
	self->place = g_strdup(label);
	return g_steal_pointer(&self);
}

char *hvp_manifest_path_beside(const char *path)
{
	gsize length = strlen(path);

	if (g_str_has_suffix(path, MODULE_SUFFIX))
		length -= strlen(MODULE_SUFFIX);
	return g_strdup_printf("%.*s" SUFFIX, (int)length, path);
}

static HvpManifest *read_embedded(const HvpPatch *patch, GError **error)
{
	const char *text = hvp_patch_modinfo(patch, HVP_MANIFEST_FIELD);

	return text ? hvp_manifest_parse(text, strlen(text), "the patch's manifest", error)
		    : manifest_new();
}

HvpManifest *hvp_manifest_open(const HvpPatch *patch, const char *path, GError **error)
{
	g_autofree char *beside = hvp_manifest_path_beside(path);
	g_autoptr(GError) reason = NULL;
	g_autoptr(GBytes) bytes = hvp_source_read(beside, HVP_MANIFEST_MAX_BYTES, &reason);
	g_autofree char *text = NULL;
	gsize length_bytes;
	HvpManifest *self;

	if (bytes == NULL && g_error_matches(reason, HVP_ERROR, HVP_ERROR_NOT_FOUND))
		return read_embedded(patch, error);
	if (bytes == NULL) {
		g_propagate_prefixed_error(error, g_steal_pointer(&reason), "%s: ", beside);
		return NULL;
	}
	length_bytes = g_bytes_get_size(bytes);
	text = g_strndup(g_bytes_get_data(bytes, NULL), length_bytes);
	self = hvp_manifest_parse(text, length_bytes, beside, error);
	if (self != NULL)
		self->is_beside = true;
	return self;
}
