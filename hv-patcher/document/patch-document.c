/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "document/patch-document.h"

#include <string.h>

#include "patch/manifest.h"

static bool add_manifest(const HvpPatch *patch, JsonBuilder *json, GError **error)
{
	const char *text = hvp_patch_modinfo(patch, HVP_MANIFEST_FIELD);
	g_autoptr(HvpManifest) manifest = NULL;
	JsonNode *node = text ? json_from_string(text, NULL) : NULL;

	if (text != NULL)
		manifest = hvp_manifest_parse(text, strlen(text), "the patch's manifest", error);
	if (text != NULL && manifest == NULL) {
		g_clear_pointer(&node, json_node_unref);
		return false;
	}
	json_builder_set_member_name(json, "manifest");
	json_builder_add_value(json, node ? node : json_node_new(JSON_NODE_NULL));
	return true;
}

JsonNode *hvp_patch_document_new(const HvpPatch *patch, GError **error)
{
	g_autoptr(JsonBuilder) json = hvp_json_new();

	hvp_json_text(json, "name", patch->name);
	hvp_json_text(json, "sha256", patch->sha256);
	hvp_json_text(json, "format", hvp_patch_format_name(patch->format));
	hvp_json_integer(json, "functions", patch->function_count);
	return add_manifest(patch, json, error) ? hvp_json_end(g_steal_pointer(&json)) : NULL;
}
