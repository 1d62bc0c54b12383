/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "document/recovery-document.h"

JsonNode *hvp_recovery_document_new(const char *done)
{
	JsonBuilder *json = hvp_json_new();

	hvp_json_bool(json, "recovered", done[0] != 0);
	hvp_json_text(json, "done", done);
	return hvp_json_end(json);
}
