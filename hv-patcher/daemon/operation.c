/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/operation.h"

#include <string.h>

#include "daemon/fields.h"
#include "daemon/operation-request.h"

#define BIT(state) (1U << HVP_OPERATION_##state)
/* What can become of any that is at work. */
#define BAD_ENDS (BIT(FAILED) | BIT(ROLLED_BACK) | BIT(NEEDS_OPERATOR) | BIT(CANCELLED))
#define ENDS (BIT(APPLIED) | BIT(CHECKED) | BIT(REVERTED) | BIT(RECOVERED) | BAD_ENDS)

/* Which states may follow which. */
static const struct {
	const char *name;
	guint next;
} states[] = {
	[HVP_OPERATION_QUEUED] = { "queued", BIT(CHECKING) | BAD_ENDS },
	[HVP_OPERATION_CHECKING] = { "checking", BIT(LOADING) | BIT(WAITING) | BIT(SWITCHING) |
							 BIT(VERIFYING) | ENDS },
	[HVP_OPERATION_LOADING] = { "loading",
				    BIT(WAITING) | BIT(SWITCHING) | BIT(VERIFYING) | ENDS },
	[HVP_OPERATION_WAITING] = { "waiting", BIT(SWITCHING) | BIT(VERIFYING) | ENDS },
	[HVP_OPERATION_SWITCHING] = { "switching", BIT(WAITING) | BIT(VERIFYING) | ENDS },
	[HVP_OPERATION_VERIFYING] = { "verifying", ENDS },
	[HVP_OPERATION_APPLIED] = { "applied", 0 },
	[HVP_OPERATION_CHECKED] = { "checked", 0 },
	[HVP_OPERATION_REVERTED] = { "reverted", 0 },
	[HVP_OPERATION_RECOVERED] = { "recovered", 0 },
	[HVP_OPERATION_FAILED] = { "failed", 0 },
	[HVP_OPERATION_ROLLED_BACK] = { "rolled-back", 0 },
	[HVP_OPERATION_NEEDS_OPERATOR] = { "needs-operator", 0 },
	[HVP_OPERATION_CANCELLED] = { "cancelled", 0 },
};

G_STATIC_ASSERT(G_N_ELEMENTS(states) == HVP_OPERATION_STATE_COUNT);

const char *hvp_operation_state_name(HvpOperationState state)
{
	return states[state].name;
}

bool hvp_operation_find_state(const char *name, HvpOperationState *ret_state)
{
	for (guint i = 0; i < HVP_OPERATION_STATE_COUNT; i++) {
		if (strcmp(states[i].name, name) != 0)
			continue;
		*ret_state = (HvpOperationState)i;
		return true;
	}
	return false;
}

bool hvp_operation_may_follow(HvpOperationState from, HvpOperationState to)
{
	return (states[from].next & (1U << to)) != 0;
}

bool hvp_operation_is_end(HvpOperationState state)
{
	return states[state].next == 0;
}

HvpOperation *hvp_operation_new(const char *domain, const char *domain_name, const char *principal,
				HvpOperationRequest *request)
{
	HvpOperation *self = g_new0(HvpOperation, 1);

	self->id = g_uuid_string_random();
	self->domain = g_strdup(domain);
	self->domain_name = g_strdup(domain_name);
	self->principal = g_strdup(principal);
	self->request = request;
	self->step = g_strdup("waits for its turn");
	self->created_usec = g_get_real_time();
	return self;
}

void hvp_operation_free(HvpOperation *self)
{
	if (self == NULL)
		return;
	g_free(self->id);
	g_free(self->domain);
	g_free(self->domain_name);
	g_free(self->principal);
	hvp_operation_request_free(self->request);
	g_free(self->step);
	g_clear_pointer(&self->error, json_node_unref);
	g_clear_pointer(&self->result, json_node_unref);
	g_free(self->key);
	g_free(self->body_sha256);
	g_free(self);
}

bool hvp_operation_is_changing(const HvpOperation *self)
{
	return self->request->verb != HVP_VERB_CHECK;
}

bool hvp_operation_is_cancellable(const HvpOperation *self)
{
	if (self->state == HVP_OPERATION_QUEUED)
		return !self->is_settling;
	/* What was left has to be put in order, whatever anybody wants. */
	return self->state < HVP_OPERATION_VERIFYING && !self->is_settling &&
	       self->request->verb != HVP_VERB_RECOVER;
}

static JsonObject *make_document(const HvpOperation *self)
{
	const HvpOperationRequest *request = self->request;
	JsonObject *object = json_object_new();

	json_object_set_int_member(object, "version", 1);
	json_object_set_string_member(object, "id", self->id);
	json_object_set_string_member(object, "domain", self->domain);
	json_object_set_string_member(object, "domain_name", self->domain_name);
	json_object_set_string_member(object, "verb", hvp_roles_verb_name(request->verb));
	hvp_fields_set_text(object, "patch", request->patch);
	hvp_fields_set_text(object, "name", request->name);
	hvp_fields_set_node(object, "options", request->options);
	json_object_set_string_member(object, "state", hvp_operation_state_name(self->state));
	json_object_set_string_member(object, "step", self->step);
	json_object_set_int_member(object, "attempt", self->attempt);
	json_object_set_int_member(object, "blockers", self->blockers);
	json_object_set_string_member(object, "principal", self->principal);
	hvp_fields_set_time(object, "created_at", self->created_usec);
	hvp_fields_set_time(object, "started_at", self->started_usec);
	hvp_fields_set_time(object, "ended_at", self->ended_usec);
	hvp_fields_set_node(object, "error", self->error);
	hvp_fields_set_node(object, "result", self->result);
	json_object_set_boolean_member(object, "cancellable", hvp_operation_is_cancellable(self));
	return object;
}

JsonNode *hvp_operation_to_document(const HvpOperation *self)
{
	return hvp_fields_node(make_document(self));
}

JsonNode *hvp_operation_to_file(const HvpOperation *self)
{
	JsonObject *object = json_object_new();

	json_object_set_object_member(object, "document", make_document(self));
	hvp_fields_set_text(object, "key", self->key);
	hvp_fields_set_text(object, "body_sha256", self->body_sha256);
	return hvp_fields_node(object);
}

/* A reference to the member, where it is an object; else NULL. */
static JsonNode *take_object(JsonObject *object, const char *name)
{
	if (hvp_fields_get_object(object, name) == NULL)
		return NULL;
	return json_node_ref(json_object_get_member(object, name));
}

static void read_numbers(HvpOperation *self, JsonObject *document)
{
	self->attempt = (guint)hvp_fields_get_integer(document, "attempt", 0);
	self->blockers = (guint)hvp_fields_get_integer(document, "blockers", 0);
	self->created_usec = hvp_fields_parse_time(hvp_fields_get_text(document, "created_at"));
	self->started_usec = hvp_fields_parse_time(hvp_fields_get_text(document, "started_at"));
	self->ended_usec = hvp_fields_parse_time(hvp_fields_get_text(document, "ended_at"));
	self->error = take_object(document, "error");
	self->result = take_object(document, "result");
}

static bool read_document(HvpOperation *self, JsonObject *document)
{
	const char *verb = hvp_fields_get_text(document, "verb");
	const char *state = hvp_fields_get_text(document, "state");

	self->id = g_strdup(hvp_fields_get_text(document, "id"));
	self->domain = g_strdup(hvp_fields_get_text(document, "domain"));
	self->domain_name = g_strdup(hvp_fields_get_text(document, "domain_name"));
	self->principal = g_strdup(hvp_fields_get_text(document, "principal"));
	self->step = g_strdup(hvp_fields_get_text(document, "step"));
	self->request = g_new0(HvpOperationRequest, 1);
	self->request->patch = g_strdup(hvp_fields_get_text(document, "patch"));
	self->request->name = g_strdup(hvp_fields_get_text(document, "name"));
	self->request->options = take_object(document, "options");
	read_numbers(self, document);
	return verb != NULL && hvp_roles_find_verb(verb, &self->request->verb) && state != NULL &&
	       hvp_operation_find_state(state, &self->state) && self->id != NULL &&
	       self->domain != NULL && self->domain_name != NULL && self->principal != NULL &&
	       self->step != NULL && self->request->options != NULL;
}

HvpOperation *hvp_operation_parse_file(JsonNode *file, GError **error)
{
	g_autoptr(HvpOperation) self = g_new0(HvpOperation, 1);
	JsonObject *object = json_node_get_object(file);
	JsonObject *document = hvp_fields_get_object(object, "document");

	if (document == NULL || !read_document(self, document)) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "no operation's document");
		return NULL;
	}
	self->key = g_strdup(hvp_fields_get_text(object, "key"));
	self->body_sha256 = g_strdup(hvp_fields_get_text(object, "body_sha256"));
	return g_steal_pointer(&self);
}
