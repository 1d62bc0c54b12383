/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What apply and revert say. */
#pragma once

#include "document/json.h"
#include "engine/result.h"
#include "engine/target.h"

/*
 * The document of @operation; the caller's. @vm_name is how the user named the VM, for where
 * @target is NULL; @result is NULL where nothing was begun; @error is NULL where all went well.
 */
JsonNode *hvp_result_document_new(const char *operation, const char *vm_name,
				  const HvpTarget *target, const HvpResult *result,
				  const GError *error);
