/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/outcome.h"

#include <string.h>

#include "base/json-text.h"
#include "daemon/fields.h"

#define IN_FORCE "switched"

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

static bool is_patch(JsonNode *node, const HvpOperationRequest *request)
{
	JsonObject *patch = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

	if (patch == NULL || g_strcmp0(hvp_fields_get_text(patch, "state"), IN_FORCE) != 0)
		return false;
	if (request->verb != HVP_VERB_REVERT)
		return g_strcmp0(hvp_fields_get_text(patch, "sha256"), request->patch) == 0;
	return g_strcmp0(hvp_fields_get_text(patch, "name"), request->name) == 0;
}

/* NULL: the look does not tell. */
static JsonArray *patches_of(JsonNode *look)
{
	JsonObject *object = look ? json_node_get_object(look) : NULL;
	JsonObject *status = object ? hvp_fields_get_object(object, "status") : NULL;
	JsonNode *patches = status ? json_object_get_member(status, "patches") : NULL;

	return patches && JSON_NODE_HOLDS_ARRAY(patches) ? json_node_get_array(patches) : NULL;
}

static bool is_in_force(JsonArray *patches, const HvpOperationRequest *request)
{
	for (guint i = 0; i < json_array_get_length(patches); i++)
		if (is_patch(json_array_get_element(patches, i), request))
			return true;
	return false;
}

static HvpOutcome of_look(const HvpOperation *self, const HvpWorkerEnd *end, bool recovered)
{
	JsonArray *patches = patches_of(end->result);
	bool is_revert = self->request->verb == HVP_VERB_REVERT;

	if (is_vm_gone(end))
		return end_in(HVP_OPERATION_FAILED, end->code, end->message);
	if (end->outcome != HVP_WORKER_DONE || patches == NULL)
		return end_in(HVP_OPERATION_NEEDS_OPERATOR, "INCONSISTENT",
			      "the worker was lost, and the guest cannot be looked at");
	if (is_in_force(patches, self->request) != is_revert)
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
