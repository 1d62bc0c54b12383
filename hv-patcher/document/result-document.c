/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "document/result-document.h"

#include "document/parts.h"

static void add_pause(JsonBuilder *json, const HvpPauseTimes *pause)
{
	json_builder_set_member_name(json, "pause");
	json_builder_begin_object(json);
	hvp_json_integer(json, "stop_usec", pause->stop_usec);
	hvp_json_integer(json, "registers_usec", pause->registers_usec);
	hvp_json_integer(json, "sweep_usec", pause->sweep_usec);
	hvp_json_integer(json, "rewalk_usec", pause->rewalk_usec);
	hvp_json_integer(json, "switch_usec", pause->switch_usec);
	hvp_json_integer(json, "resume_usec", pause->resume_usec);
	json_builder_end_object(json);
}

static void add_numbers(JsonBuilder *json, const HvpResult *result)
{
	hvp_json_begin_array(json, "functions");
	for (guint i = 0; i < result->functions->len; i++) {
		const HvpFunctionResult *function = g_ptr_array_index(result->functions, i);

		hvp_parts_add_function(json, function->object, function->name,
					   function->old_address, function->new_address,
					   function->site);
	}
	json_builder_end_array(json);
	hvp_json_integer(json, "tasks", result->tasks);
	hvp_json_integer(json, "rechecked", result->rechecked);
	hvp_json_integer(json, "attempts", result->attempts);
	hvp_json_integer(json, "stops", result->stops);
	hvp_json_integer(json, "pause_usec", result->pause_usec);
	add_pause(json, &result->pause);
	hvp_json_integer(json, "total_usec", result->total_usec);
	hvp_parts_add_blockers(json, result->blockers);
}

JsonNode *hvp_result_document_new(const char *operation, const char *vm_name,
				  const HvpTarget *target, const HvpResult *result,
				  const GError *error)
{
	g_autoptr(HvpResult) nothing = NULL;
	JsonBuilder *json = hvp_json_new();

	if (result == NULL) {
		result = nothing = hvp_result_new();
		nothing->kind = hvp_result_kind_of(error);
	}
	hvp_json_text(json, "operation", operation);
	hvp_json_text(json, "result", hvp_result_kind_name(result->kind));
	hvp_json_text(json, "code", error ? hvp_error_name(error) : NULL);
	hvp_json_text(json, "message", error ? error->message : result->message);
	hvp_json_text(json, "domain", target ? target->name : vm_name);
	hvp_json_text(json, "kernel", target ? hvp_kernel_get_release(target->kernel) : NULL);
	hvp_json_text(json, "patch", result->patch);
	hvp_json_text(json, "sha256", result->sha256);
	add_numbers(json, result);
	return hvp_json_end(json);
}
