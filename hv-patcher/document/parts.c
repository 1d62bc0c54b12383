/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "document/parts.h"

void hvp_parts_add_function(JsonBuilder *json, const char *object, const char *name,
				HvpGva old_address, HvpGva new_address, HvpGva site)
{
	json_builder_begin_object(json);
	hvp_json_text(json, "object", object);
	hvp_json_text(json, "name", name);
	hvp_json_address(json, "old", old_address);
	hvp_json_address(json, "new", new_address);
	hvp_json_address(json, "site", site);
	json_builder_end_object(json);
}

const char *hvp_parts_reason_name(const HvpBlocker *blocker)
{
	static const char *const names[] = { [HVP_BLOCKER_ACTIVE] = "ACTIVE",
					     [HVP_BLOCKER_UNRELIABLE] = "UNRELIABLE",
					     [HVP_BLOCKER_POLICY] = "POLICY" };

	return names[blocker->reason];
}

static void add_blocker(JsonBuilder *json, const HvpBlocker *blocker)
{
	json_builder_begin_object(json);
	hvp_json_integer(json, "pid", blocker->pid);
	hvp_json_text(json, "comm", blocker->comm);
	hvp_json_bool(json, "kthread", blocker->is_kthread);
	hvp_json_text(json, "function", blocker->function);
	hvp_json_text(json, "reason", hvp_parts_reason_name(blocker));
	hvp_json_begin_array(json, "stack");
	for (guint i = 0; i < blocker->stack->len; i++) {
		g_autofree char *frame = hvp_json_escape(
			g_ptr_array_index(blocker->stack, i));

		json_builder_add_string_value(json, frame);
	}
	json_builder_end_array(json);
	json_builder_end_object(json);
}

void hvp_parts_add_blockers(JsonBuilder *json, const GPtrArray *blockers)
{
	hvp_json_begin_array(json, "blockers");
	for (guint i = 0; i < blockers->len; i++)
		add_blocker(json, g_ptr_array_index(blockers, i));
	json_builder_end_array(json);
}
