/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "document/status-document.h"

#include "document/parts.h"
#include "engine/applied.h"

static void add_objects(JsonBuilder *json, HvpTarget *target, const HvpApplied *patch)
{
	hvp_json_begin_array(json, "objects");
	for (guint i = 0; patch->klp != NULL && i < hvp_klp_patch_count(patch->klp); i++) {
		const HvpKlpObject *object = hvp_klp_patch_get(patch->klp, i);
		HvpCoverage coverage = hvp_applied_coverage(patch, target, object);

		json_builder_begin_object(json);
		hvp_json_text(json, "object", object->name ? object->name : "vmlinux");
		hvp_json_text(json, "covered", hvp_applied_coverage_name(coverage));
		json_builder_end_object(json);
	}
	json_builder_end_array(json);
}

static void add_patch(JsonBuilder *json, HvpTarget *target, const HvpApplied *patch)
{
	const HvpRecord *record = patch->record;
	g_autofree char *applied = hvp_json_format_time(record->applied_usec);

	json_builder_begin_object(json);
	hvp_json_text(json, "name", record->patch);
	hvp_json_text(json, "sha256", record->sha256);
	hvp_json_text(json, "applied_at", applied);
	hvp_json_begin_array(json, "functions");
	for (guint i = 0; i < record->sites->len; i++) {
		const HvpRecordSite *site = &g_array_index(record->sites, HvpRecordSite, i);

		hvp_parts_add_function(json, site->object ? site->object : "vmlinux",
					   site->name, site->old.start, site->new_function,
					   site->site.site);
	}
	json_builder_end_array(json);
	add_objects(json, target, patch);
	hvp_json_bool(json, "verified", patch->state == HVP_RECORD_SWITCHED);
	hvp_json_text(json, "state", hvp_record_state_name(patch->state));
	hvp_json_text(json, "why", patch->why ? patch->why : "");
	json_builder_end_object(json);
}

JsonNode *hvp_status_document_new(HvpTarget *target, const GPtrArray *patches)
{
	JsonBuilder *json = hvp_json_new();

	hvp_json_begin_array(json, "patches");
	for (guint i = 0; i < patches->len; i++)
		add_patch(json, target, g_ptr_array_index(patches, i));
	json_builder_end_array(json);
	return hvp_json_end(json);
}

int hvp_status_document_exit_status(const GPtrArray *patches)
{
	g_autoptr(GError) tampered = g_error_new_literal(HVP_ERROR, HVP_ERROR_TAMPERED, "");

	for (guint i = 0; i < patches->len; i++)
		if (((const HvpApplied *)g_ptr_array_index(patches, i))->state ==
		    HVP_RECORD_TAMPERED)
			return hvp_error_exit_status(tampered);
	return 0;
}
