/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/outcome.h"

#include <string.h>

#include "base/json-text.h"
#include "daemon/fields.h"

#define SWITCHED "switched"

static HvpOutcome end_in(HvpOperationState state, const char *code, const char *detail)
{
	return (HvpOutcome){ true, HVP_PHASE_WORK, state, code, detail };
}

static HvpOutcome go_on_with(HvpPhase phase)
{
	return (HvpOutcome){ .next = phase };
}

static HvpOperationState success_of(HvpVerb verb)
{
	switch (verb) {
	case HVP_VERB_CHECK:
		return HVP_OPERATION_CHECKED;
	case HVP_VERB_REVERT:
		return HVP_OPERATION_REVERTED;
	case HVP_VERB_RECOVER:
		return HVP_OPERATION_RECOVERED;
	default:
		return HVP_OPERATION_APPLIED;
	}
}

static bool is_one_of(const char *code, const char *const *codes)
{
	return g_strv_contains(codes, code);
}

/* Whether the worker's document says that the switch was made, whatever failed behind it. */
static bool has_switched(JsonNode *result)
{
	const char *kind = result ? hvp_fields_get_text(json_node_get_object(result), "result")
				  : NULL;

	return g_strcmp0(kind, "applied") == 0 || g_strcmp0(kind, "reverted") == 0;
}

static HvpOperationState failure_of(const HvpOperation *self, const HvpWorkerEnd *end)
{
	static const char *const for_operators[] = { "INCONSISTENT", "TAMPERED", NULL };

	if (has_switched(end->result))
		return success_of(self->request->verb);
	if (is_one_of(end->code, for_operators))
		return HVP_OPERATION_NEEDS_OPERATOR;
	if (strcmp(end->code, "UNDONE") == 0)
		return HVP_OPERATION_ROLLED_BACK;
	if (strcmp(end->code, "CANCELLED") == 0 && self->cancel_wanted)
		return HVP_OPERATION_CANCELLED;
	return HVP_OPERATION_FAILED;
}

static HvpOutcome of_work(const HvpOperation *self, const HvpWorkerEnd *end)
{
	HvpOperationState state;

	if (end->outcome != HVP_WORKER_DONE)
		return hvp_operation_is_changing(self)
			       ? go_on_with(HVP_PHASE_RECOVER)
			       : end_in(HVP_OPERATION_FAILED, end->code, end->message);
	if (end->code == NULL)
		return end_in(success_of(self->request->verb), NULL, NULL);
	state = failure_of(self, end);
	if (state == HVP_OPERATION_CANCELLED)
		return end_in(state, NULL, NULL);
	return end_in(state, end->code, end->message);
}

/* Of a VM that has ended nothing is left that could be half done. */
static bool is_vm_gone(const HvpWorkerEnd *end)
{
	static const char *const codes[] = { "VM_GONE", "NOT_FOUND", NULL };

	return end->outcome == HVP_WORKER_DONE && end->code != NULL && is_one_of(end->code, codes);
}

static HvpOutcome of_recover(const HvpOperation *self, const HvpWorkerEnd *end)
{
	if (is_vm_gone(end))
		return end_in(HVP_OPERATION_FAILED, end->code, end->message);
	if (end->outcome != HVP_WORKER_DONE || end->code != NULL)
		return end_in(HVP_OPERATION_NEEDS_OPERATOR, "INCONSISTENT", end->message);
	if (self->request->verb == HVP_VERB_RECOVER)
		return end_in(HVP_OPERATION_RECOVERED, NULL, NULL);
	return go_on_with(HVP_PHASE_LOOK);
}

typedef enum {
	ABSENT,
	IN_FORCE,
	ODD, /* it is there, and not as it should be */
} Presence;

/* By its digest, where one was asked for; a damaged record has none. */
static bool is_meant(JsonObject *patch, const HvpOperationRequest *request)
{
	const char *sha256 = hvp_fields_get_text(patch, "sha256");
	bool by_name = request->patch == NULL || sha256 == NULL || sha256[0] == '\0';

	return by_name ? g_strcmp0(hvp_fields_get_text(patch, "name"), request->name) == 0
		       : strcmp(sha256, request->patch) == 0;
}

static Presence presence_in(JsonNode *node, const HvpOperationRequest *request)
{
	JsonObject *patch = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

	if (patch == NULL || !is_meant(patch, request))
		return ABSENT;
	return g_strcmp0(hvp_fields_get_text(patch, "state"), SWITCHED) == 0 ? IN_FORCE : ODD;
}

/* NULL: the look does not tell. */
static JsonArray *patches_of(JsonNode *look)
{
	JsonObject *object = look ? json_node_get_object(look) : NULL;
	JsonObject *status = object ? hvp_fields_get_object(object, "status") : NULL;
	JsonNode *patches = status ? json_object_get_member(status, "patches") : NULL;

	return patches && JSON_NODE_HOLDS_ARRAY(patches) ? json_node_get_array(patches) : NULL;
}

static Presence find_presence(JsonArray *patches, const HvpOperationRequest *request)
{
	Presence presence = ABSENT;

	for (guint i = 0; presence == ABSENT && i < json_array_get_length(patches); i++)
		presence = presence_in(json_array_get_element(patches, i), request);
	return presence;
}

static HvpOutcome of_look(const HvpOperation *self, const HvpWorkerEnd *end, bool recovered)
{
	JsonArray *patches = patches_of(end->result);
	Presence wanted = self->request->verb == HVP_VERB_REVERT ? ABSENT : IN_FORCE;
	Presence presence;

	if (is_vm_gone(end))
		return end_in(HVP_OPERATION_FAILED, end->code, end->message);
	if (end->outcome != HVP_WORKER_DONE || patches == NULL)
		return end_in(HVP_OPERATION_NEEDS_OPERATOR, "INCONSISTENT",
			      "the worker was lost, and the guest cannot be looked at");
	presence = find_presence(patches, self->request);
	if (presence == ODD)
		return end_in(HVP_OPERATION_NEEDS_OPERATOR, "INCONSISTENT",
			      "the worker was lost, and the patch is not as it should be");
	if (presence == wanted)
		return end_in(success_of(self->request->verb), NULL, NULL);
	if (recovered)
		return end_in(HVP_OPERATION_ROLLED_BACK, "UNDONE",
			      "the worker was lost; what it had begun was rolled back");
	return end_in(HVP_OPERATION_FAILED, "INTERNAL",
		      "the worker was lost; nothing of it is left in the guest");
}

HvpOutcome hvp_outcome_of(const HvpOperation *self, HvpPhase phase, const HvpWorkerEnd *end,
			  bool recovered)
{
	switch (phase) {
	case HVP_PHASE_RECOVER:
		return of_recover(self, end);
	case HVP_PHASE_LOOK:
		return of_look(self, end, recovered);
	default:
		return of_work(self, end);
	}
}

bool hvp_outcome_has_recovered(JsonNode *result)
{
	JsonNode *node = result ? hvp_json_text_typed_member(json_node_get_object(result),
							     "recovered", G_TYPE_BOOLEAN)
				: NULL;

	return node != NULL && json_node_get_boolean(node);
}
