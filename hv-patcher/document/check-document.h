/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What check says. */
#pragma once

#include "document/json.h"
#include "engine/check.h"

/* The document; the caller's. @verdict is NULL where @patch is applicable. */
JsonNode *hvp_check_document_new(const HvpPatch *patch, const HvpCheck *check,
				 const GError *verdict);
