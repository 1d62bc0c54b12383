/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What several documents are made of. */
#pragma once

#include "document/json.h"
#include "engine/prove.h"

/* An element of "functions". @new_address of 0 is not known. */
void hvp_parts_add_function(JsonBuilder *json, const char *object, const char *name,
			    HvpGva old_address, HvpGva new_address, HvpGva site);

/* The member "blockers": of HvpBlocker. */
void hvp_parts_add_blockers(JsonBuilder *json, const GPtrArray *blockers);

/* "ACTIVE", "UNRELIABLE", "POLICY". Static. */
const char *hvp_parts_reason_name(const HvpBlocker *blocker);
