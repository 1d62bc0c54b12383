/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What status says. */
#pragma once

#include "document/json.h"
#include "engine/target.h"

/* The document of @patches, of HvpApplied; the caller's. */
JsonNode *hvp_status_document_new(HvpTarget *target, const GPtrArray *patches);

/* A patch that the guest has tampered with is for an operator to look at. */
int hvp_status_document_exit_status(const GPtrArray *patches);
