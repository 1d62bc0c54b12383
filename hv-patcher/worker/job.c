/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "worker/job.h"

#include <string.h>

#include "base/json-text.h"
#include "engine/check.h"

/* The same as those of the command line. */
#define MAX_TIMEOUT_SECONDS (24 * 60 * 60)
#define MIN_PAUSE_MSEC 0.01
#define MAX_PAUSE_MSEC 1000
#define USEC_PER_MSEC 1000.0
#define MAX_TEXT_BYTES 4096U
#define MAX_ACCEPTED 64U
#define SHA256_CHARACTERS 64U

static const char *const verb_names[] = { [HVP_JOB_LOOK] = "look",
					  [HVP_JOB_CHECK] = "check",
					  [HVP_JOB_APPLY] = "apply",
					  [HVP_JOB_REVERT] = "revert",
					  [HVP_JOB_REPLACE] = "replace",
					  [HVP_JOB_INSPECT] = "inspect",
					  [HVP_JOB_RECOVER] = "recover" };

const char *hvp_job_verb_name(HvpJobVerb verb)
{
	return verb_names[verb];
}

bool hvp_job_is_changing(const HvpJob *self)
{
	return self->verb != HVP_JOB_LOOK && self->verb != HVP_JOB_CHECK &&
	       self->verb != HVP_JOB_INSPECT;
}

bool hvp_job_takes_patch(const HvpJob *self)
{
	return self->verb == HVP_JOB_CHECK || self->verb == HVP_JOB_APPLY ||
	       self->verb == HVP_JOB_REPLACE || self->verb == HVP_JOB_INSPECT;
}

void hvp_job_free(HvpJob *self)
{
	if (self == NULL)
		return;
	g_free(self->qmp_path);
	g_free(self->uri);
	g_free(self->uuid);
	g_free(self->name);
	g_free(self->sha256);
	g_free(self->patch_name);
	g_free(self->agent_path);
	g_free(self->oracle_path);
	g_strfreev(self->accepted);
	hvp_manifest_free(self->manifest);
	g_free(self);
}

static bool refuse(GError **error, const char *name, const char *what)
{
	return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "the job's \"%s\" %s", name, what);
}

/* The member, NULL where it is missing or null. */
static JsonNode *find(JsonObject *object, const char *name)
{
	JsonNode *node = json_object_get_member(object, name);

	return node != NULL && !JSON_NODE_HOLDS_NULL(node) ? node : NULL;
}

static bool take_text(JsonObject *object, const char *name, char **ret_text, GError **error)
{
	JsonNode *node = find(object, name);
	const char *text;

	if (node == NULL)
		return true;
	if (hvp_json_text_typed_member(object, name, G_TYPE_STRING) == NULL)
		return refuse(error, name, "is no text");
	text = json_node_get_string(node);
	if (text[0] == 0 || strlen(text) > MAX_TEXT_BYTES)
		return refuse(error, name, "is empty or too long");
	g_free(*ret_text);
	*ret_text = g_strdup(text);
	return true;
}

static bool take_bool(JsonObject *object, const char *name, bool *ret_value, GError **error)
{
	JsonNode *node = find(object, name);

	if (node == NULL)
		return true;
	if (hvp_json_text_typed_member(object, name, G_TYPE_BOOLEAN) == NULL)
		return refuse(error, name, "is neither true nor false");
	*ret_value = json_node_get_boolean(node);
	return true;
}

/* @unit_usec is what one of it is. */
static bool take_time(JsonObject *object, const char *name, double minimum, double maximum,
		      double unit_usec, gint64 *ret_usec, GError **error)
{
	JsonNode *node = find(object, name);
	double value;

	if (node == NULL)
		return true;
	if (!JSON_NODE_HOLDS_VALUE(node) || (json_node_get_value_type(node) != G_TYPE_INT64 &&
					     json_node_get_value_type(node) != G_TYPE_DOUBLE))
		return refuse(error, name, "is no number");
	value = json_node_get_double(node);
	if (!(value >= minimum && value <= maximum))
		return refuse(error, name, "is out of range");
	*ret_usec = (gint64)(value * unit_usec);
	return true;
}

/* The index of the member's text in @names (ended by NULL), as it is where it is missing. */
static bool take_choice(JsonObject *object, const char *name, const char *const *names,
			guint *ret_index, GError **error)
{
	g_autofree char *text = NULL;

	if (!take_text(object, name, &text, error))
		return false;
	for (guint i = 0; text != NULL && names[i] != NULL; i++) {
		if (strcmp(text, names[i]) != 0)
			continue;
		*ret_index = i;
		return true;
	}
	return text == NULL || refuse(error, name, "is none of those that there are");
}

/* --- parts --- */

static bool take_verb(HvpJob *self, JsonObject *object, GError **error)
{
	static const char *const names[] = { "look",	"check",   "apply",   "revert",
					     "replace", "recover", "inspect", NULL };
	guint index = G_N_ELEMENTS(names);

	if (!take_choice(object, "verb", names, &index, error))
		return false;
	if (index == G_N_ELEMENTS(names))
		return refuse(error, "verb", "is missing");
	self->verb = (HvpJobVerb)index;
	return true;
}

static bool take_domain(HvpJob *self, JsonObject *object, GError **error)
{
	JsonNode *node = find(object, "domain");
	JsonObject *domain;

	if (self->verb == HVP_JOB_INSPECT)
		return true;
	if (node == NULL || !JSON_NODE_HOLDS_OBJECT(node))
		return refuse(error, "domain", "is missing, or no object");
	domain = json_node_get_object(node);
	if (!take_text(domain, "qmp", &self->qmp_path, error) ||
	    !take_text(domain, "uri", &self->uri, error) ||
	    !take_text(domain, "uuid", &self->uuid, error) ||
	    !take_text(domain, "name", &self->name, error))
		return false;
	if ((self->qmp_path != NULL) == (self->uuid != NULL))
		return refuse(error, "domain", "has not either \"uuid\" or \"qmp\"");
	if (self->uuid != NULL && !g_uuid_string_is_valid(self->uuid))
		return refuse(error, "uuid", "is none");
	if (self->name == NULL)
		self->name = g_strdup(self->qmp_path ? self->qmp_path : self->uuid);
	return true;
}

static bool take_accepted(HvpJob *self, JsonObject *object, GError **error)
{
	JsonNode *node = find(object, "accept");
	g_autoptr(GStrvBuilder) names = g_strv_builder_new();
	JsonArray *array;

	if (node == NULL)
		return true;
	array = JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
	if (array == NULL || json_array_get_length(array) > MAX_ACCEPTED)
		return refuse(error, "accept", "is no list, or too long");
	for (guint i = 0; i < json_array_get_length(array); i++) {
		JsonNode *item = json_array_get_element(array, i);

		if (!JSON_NODE_HOLDS_VALUE(item) ||
		    json_node_get_value_type(item) != G_TYPE_STRING ||
		    !g_strv_contains(hvp_check_acceptable_items, json_node_get_string(item)))
			return refuse(error, "accept", "names no item that can be accepted");
		g_strv_builder_add(names, json_node_get_string(item));
	}
	self->accepted = g_strv_builder_end(names);
	self->options.accepted = (const char *const *)self->accepted;
	return true;
}

static bool take_replace(HvpJob *self, JsonObject *options, GError **error)
{
	bool replace = self->verb == HVP_JOB_REPLACE;

	if (find(options, "replace") == NULL && !replace)
		return true;
	if (!take_bool(options, "replace", &replace, error))
		return false;
	if (self->verb == HVP_JOB_REPLACE && !replace)
		return refuse(error, "replace", "contradicts the verb");
	self->options.replace = replace ? HVP_REPLACE_YES : HVP_REPLACE_NO;
	return true;
}

static bool take_ways(HvpJob *self, JsonObject *options, GError **error)
{
	static const char *const traps[] = { "auto", "breakpoint", "spin", NULL };
	guint backend = 0, trap = 0;

	if (!take_choice(options, "backend", hvp_target_backend_names, &backend, error) ||
	    !take_choice(options, "trap", traps, &trap, error) ||
	    !take_text(options, "agent", &self->agent_path, error) ||
	    !take_text(options, "oracle", &self->oracle_path, error))
		return false;
	self->backend = (HvpTargetBackend)backend;
	self->trap_kind = trap == 2 ? HVP_KEEPER_SPINS : HVP_KEEPER_BREAKPOINTS;
	return true;
}

static bool check_options_known(JsonObject *options, GError **error)
{
	static const char *const known[] = { "timeout", "max_pause", "prod",  "replace",
					     "accept",	"kthreads",  "backend", "trap",
					     "agent",	"oracle",    NULL };
	g_autoptr(GList) names = json_object_get_members(options);

	for (GList *at = names; at != NULL; at = at->next)
		if (!g_strv_contains(known, at->data))
			return refuse(error, "options", "have one that is not known");
	return true;
}

static bool take_options(HvpJob *self, JsonObject *options, GError **error)
{
	bool prod = true;

	if (!check_options_known(options, error) ||
	    !take_time(options, "timeout", 0, MAX_TIMEOUT_SECONDS, G_USEC_PER_SEC,
		       &self->options.timeout_usec, error) ||
	    !take_time(options, "max_pause", MIN_PAUSE_MSEC, MAX_PAUSE_MSEC, USEC_PER_MSEC,
		       &self->options.max_pause_usec, error) ||
	    !take_bool(options, "prod", &prod, error) ||
	    !take_replace(self, options, error) || !take_accepted(self, options, error))
		return false;
	self->options.no_prod = !prod;
	return take_ways(self, options, error);
}

/* What the patch's author asks for, unless the operator asks for something else. */
static bool take_manifest(HvpJob *self, JsonObject *object, JsonObject *options, GError **error)
{
	JsonNode *node = find(object, "manifest");
	g_autofree char *text = node != NULL ? json_to_string(node, FALSE) : g_strdup("{}");
	g_autofree char *kthreads = NULL;

	if (strlen(text) > HVP_MANIFEST_MAX_BYTES)
		return refuse(error, "manifest", "is too long");
	self->manifest = hvp_manifest_parse(text, strlen(text), "manifest", error);
	if (self->manifest == NULL || !take_text(options, "kthreads", &kthreads, error) ||
	    (kthreads != NULL && !hvp_manifest_set_kthreads(self->manifest, kthreads, error)))
		return false;
	self->options.manifest = self->manifest;
	return hvp_manifest_check(self->manifest, error);
}

static bool is_sha256(const char *text)
{
	return strlen(text) == SHA256_CHARACTERS &&
	       strspn(text, "0123456789abcdef") == SHA256_CHARACTERS;
}

static bool take_patch(HvpJob *self, JsonObject *object, GError **error)
{
	if (!take_text(object, "patch", &self->sha256, error) ||
	    !take_text(object, "name", &self->patch_name, error))
		return false;
	if (self->sha256 != NULL && !is_sha256(self->sha256))
		return refuse(error, "patch", "is no SHA-256");
	return self->verb != HVP_JOB_REVERT || self->patch_name != NULL ||
	       refuse(error, "name", "is missing");
}

static bool take(HvpJob *self, JsonObject *object, GError **error)
{
	JsonNode *node = find(object, "options");
	g_autoptr(JsonObject) options = NULL;

	if (node != NULL && !JSON_NODE_HOLDS_OBJECT(node))
		return refuse(error, "options", "are no object");
	options = node ? json_object_ref(json_node_get_object(node)) : json_object_new();
	return take_verb(self, object, error) && take_domain(self, object, error) &&
	       take_patch(self, object, error) && take_options(self, options, error) &&
	       take_manifest(self, object, options, error);
}

HvpJob *hvp_job_new(JsonNode *node, GError **error)
{
	g_autoptr(HvpJob) self = g_new0(HvpJob, 1);

	self->options.timeout_usec = HVP_DEFAULT_TIMEOUT_USEC;
	self->options.max_pause_usec = HVP_DEFAULT_MAX_PAUSE_USEC;
	return take(self, json_node_get_object(node), error) ? g_steal_pointer(&self) : NULL;
}
