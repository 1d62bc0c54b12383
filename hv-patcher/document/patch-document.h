/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a patch file is, by itself. */
#pragma once

#include "document/json.h"
#include "patch/patch.h"

/* The field of a module's modinfo that is its manifest: whatever signs it vouches for that. */

/*
 * { "version", "name", "sha256", "format", "functions": N, "manifest": {..} or null }; the
 * caller's.
 * BAD_DATA: its manifest is not valid.
 */
JsonNode *hvp_patch_document_new(const HvpPatch *patch, GError **error);
