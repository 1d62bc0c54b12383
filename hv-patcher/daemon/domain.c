/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/domain.h"

#include <string.h>

#include "base/json-text.h"
#include "base/text.h"
#include "daemon/fields.h"
#include "daemon/problem.h"

#define MAX_REASON_BYTES 1000U
/* Of the document with what a worker saw, which its guest may have made up. */
#define MAX_TEXT_BYTES (256U << 10)
/* From 10 s to 43 minutes. */
#define AGAIN_USEC (5 * G_USEC_PER_SEC)
#define MAX_FAILURES 9U

HvpDomain *hvp_domain_new(const HvpListed *listed)
{
	HvpDomain *self = g_new0(HvpDomain, 1);

	self->uuid = g_strdup(listed->uuid);
	self->name = g_strdup(listed->name);
	self->state = listed->state;
	self->id = listed->id;
	self->patchable = -1;
	return self;
}

void hvp_domain_forget(HvpDomain *self)
{
	self->seen_usec = 0;
	self->failures = 0;
	self->patchable = -1;
	g_clear_pointer(&self->kernel, json_node_unref);
	g_clear_pointer(&self->backend, g_free);
	g_clear_pointer(&self->reasons, json_node_unref);
	g_clear_pointer(&self->error, json_node_unref);
	g_clear_pointer(&self->patches, json_node_unref);
	g_clear_pointer(&self->text, g_free);
}

void hvp_domain_free(HvpDomain *self)
{
	if (self == NULL)
		return;
	hvp_domain_forget(self);
	g_free(self->uuid);
	g_free(self->name);
	g_free(self->operation);
	g_free(self);
}

bool hvp_domain_is_running(const HvpDomain *self)
{
	return self->id >= 0;
}

guint hvp_domain_count_patches(const HvpDomain *self)
{
	return self->patches ? json_array_get_length(json_node_get_array(self->patches)) : 0;
}

bool hvp_domain_update(HvpDomain *self, const HvpListed *listed, bool *ret_restarted)
{
	bool renamed = strcmp(self->name, listed->name) != 0;

	*ret_restarted = self->id != listed->id;
	if (!renamed && !*ret_restarted && strcmp(self->state, listed->state) == 0)
		return false;
	if (renamed) {
		g_free(self->name);
		self->name = g_strdup(listed->name);
	}
	self->state = listed->state;
	self->id = listed->id;
	if (*ret_restarted)
		hvp_domain_forget(self);
	g_clear_pointer(&self->text, g_free);
	return true;
}

/* --- what a worker saw --- */

static JsonNode *make_kernel(JsonObject *kernel)
{
	static const char *const members[] = { "release", "version", "build_id" };
	JsonObject *object = json_object_new();

	for (guint i = 0; i < G_N_ELEMENTS(members); i++)
		hvp_fields_set_text(object, members[i], hvp_fields_get_text(kernel, members[i]));
	return hvp_fields_node(object);
}

static bool is_array(JsonObject *object, const char *name)
{
	JsonNode *node = json_object_get_member(object, name);

	return node != NULL && JSON_NODE_HOLDS_ARRAY(node);
}

static void take_info(HvpDomain *self, JsonObject *info)
{
	JsonObject *kernel = hvp_fields_get_object(info, "kernel");
	JsonNode *patchable = hvp_json_text_typed_member(info, "patchable", G_TYPE_BOOLEAN);

	self->kernel = kernel ? make_kernel(kernel) : NULL;
	self->backend = g_strdup(hvp_fields_get_text(info, "backend"));
	self->patchable = patchable ? json_node_get_boolean(patchable) : -1;
	if (is_array(info, "reasons"))
		self->reasons = json_node_ref(json_object_get_member(info, "reasons"));
}

/* The worker's entry, and what only the daemon knows: what it mends. */
static JsonNode *make_patch(JsonObject *patch, JsonArray *cves)
{
	JsonObject *object = json_object_new();
	g_autoptr(GList) members = json_object_get_members(patch);

	for (GList *member = members; member != NULL; member = member->next)
		hvp_fields_set_node(object, member->data,
				    json_object_get_member(patch, member->data));
	json_object_set_array_member(object, "cves",
				     cves ? json_array_ref(cves) : json_array_new());
	return hvp_fields_node(object);
}

static void take_status(HvpDomain *self, JsonObject *status,
			JsonArray *(*find_cves)(const char *sha256, gpointer data), gpointer data)
{
	JsonArray *patches, *own = json_array_new();

	self->patches = json_node_new(JSON_NODE_ARRAY);
	json_node_take_array(self->patches, own);
	if (!is_array(status, "patches"))
		return;
	patches = json_object_get_array_member(status, "patches");
	for (guint i = 0; i < json_array_get_length(patches); i++) {
		JsonNode *node = json_array_get_element(patches, i);
		const char *sha256;

		if (!JSON_NODE_HOLDS_OBJECT(node))
			continue;
		sha256 = hvp_fields_get_text(json_node_get_object(node), "sha256");
		json_array_add_element(own, make_patch(json_node_get_object(node),
						       sha256 ? find_cves(sha256, data) : NULL));
	}
}

void hvp_domain_set_look(HvpDomain *self, JsonNode *look,
			 JsonArray *(*find_cves)(const char *sha256, gpointer data), gpointer data)
{
	JsonObject *info = hvp_fields_get_object(json_node_get_object(look), "info");
	JsonObject *status = hvp_fields_get_object(json_node_get_object(look), "status");

	hvp_domain_forget(self);
	self->seen_usec = g_get_real_time();
	if (info != NULL)
		take_info(self, info);
	if (status != NULL)
		take_status(self, status, find_cves, data);
	if (strlen(hvp_domain_get_text(self)) > MAX_TEXT_BYTES)
		hvp_domain_set_no_look(self, "BAD_DATA",
				       "the worker saw more than there can be");
}

void hvp_domain_set_no_look(HvpDomain *self, const char *code, const char *why)
{
	g_autofree char *reason = hvp_text_escape(why, HVP_TEXT_TERMINATED, MAX_REASON_BYTES);
	JsonArray *reasons = json_array_new();
	guint failures = MIN(self->failures + 1, MAX_FAILURES);

	hvp_domain_forget(self);
	self->failures = failures;
	self->again_usec = g_get_monotonic_time() + (AGAIN_USEC << failures);
	self->patchable = false;
	self->error = hvp_problem_make(code, reason, NULL, NULL);
	json_array_add_string_element(reasons, reason);
	self->reasons = json_node_new(JSON_NODE_ARRAY);
	json_node_take_array(self->reasons, reasons);
}

bool hvp_domain_wants_look(const HvpDomain *self)
{
	return self->failures > 0 && hvp_domain_is_running(self) &&
	       g_get_monotonic_time() >= self->again_usec;
}

void hvp_domain_set_operation(HvpDomain *self, const char *id)
{
	g_free(self->operation);
	self->operation = g_strdup(id);
	g_clear_pointer(&self->text, g_free);
}

/* --- the document --- */

JsonNode *hvp_domain_to_document(const HvpDomain *self)
{
	JsonObject *object = json_object_new();

	json_object_set_int_member(object, "version", 1);
	json_object_set_string_member(object, "uuid", self->uuid);
	json_object_set_string_member(object, "name", self->name);
	json_object_set_string_member(object, "state", self->state);
	hvp_fields_set_node(object, "kernel", self->kernel);
	hvp_fields_set_text(object, "backend", self->backend);
	if (self->patchable < 0)
		json_object_set_null_member(object, "patchable");
	else
		json_object_set_boolean_member(object, "patchable", self->patchable);
	if (self->reasons != NULL)
		hvp_fields_set_node(object, "reasons", self->reasons);
	else
		json_object_set_array_member(object, "reasons", json_array_new());
	hvp_fields_set_node(object, "error", self->error);
	hvp_fields_set_node(object, "patches", self->patches);
	hvp_fields_set_text(object, "operation", self->operation);
	hvp_fields_set_time(object, "seen_at", self->seen_usec);
	return hvp_fields_node(object);
}

const char *hvp_domain_get_text(HvpDomain *self)
{
	g_autoptr(JsonNode) document = NULL;

	if (self->text != NULL)
		return self->text;
	document = hvp_domain_to_document(self);
	self->text = hvp_fields_to_text(document);
	return self->text;
}
