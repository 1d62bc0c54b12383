/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "document/check-document.h"

#include "document/parts.h"

static void add_replace(JsonBuilder *json, HvpPatchTristate replace)
{
	if (replace == HVP_PATCH_UNKNOWN)
		hvp_json_text(json, "replace", NULL);
	else
		hvp_json_bool(json, "replace", replace == HVP_PATCH_YES);
}

static void add_item(JsonBuilder *json, const HvpCheckItem *item)
{
	json_builder_begin_object(json);
	hvp_json_text(json, "item", item->item);
	hvp_json_bool(json, "ok", item->ok);
	hvp_json_bool(json, "accepted", item->accepted);
	hvp_json_text(json, "why", item->why ? item->why : "");
	json_builder_end_object(json);
}

JsonNode *hvp_check_document_new(const HvpPatch *patch, const HvpCheck *check,
				 const GError *verdict)
{
	JsonBuilder *json = hvp_json_new();

	hvp_json_bool(json, "applicable", check->applicable);
	hvp_json_bool(json, "already_applied", check->already_applied);
	hvp_json_error(json, verdict);
	hvp_json_text(json, "format", hvp_patch_format_name(patch->format));
	hvp_json_begin_array(json, "items");
	for (guint i = 0; i < check->items->len; i++)
		add_item(json, &g_array_index(check->items, HvpCheckItem, i));
	json_builder_end_array(json);
	hvp_json_begin_array(json, "functions");
	for (guint i = 0; i < check->functions->len; i++) {
		const HvpCheckFunction *function = &g_array_index(check->functions,
								  HvpCheckFunction, i);

		hvp_parts_add_function(
			json, function->facts.object ? function->facts.object : "vmlinux",
			function->facts.name, function->facts.old.start, hvp_gva(0),
			function->site.site);
	}
	json_builder_end_array(json);
	add_replace(json, patch->replace);
	return hvp_json_end(json);
}
