/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether a kernel can be patched, and if not why not, before any patch is named. */
#pragma once

#include "document/json.h"
#include "engine/target.h"

typedef struct {
	bool patchable;
	GPtrArray *reasons; /* char *, escaped: what stands against it, and what else to know */
} HvpPatchable;

/* Asks the guest's memory and the VM's monitor. Fails only where the guest cannot be read. */
bool hvp_patchable_read(HvpTarget *target, HvpPatchable *ret_patchable,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Nothing where it was never filled in. */
void hvp_patchable_clear(HvpPatchable *self);

/* The members "patchable" and "reasons". */
void hvp_patchable_add(const HvpPatchable *self, JsonBuilder *json);

/* "kvm", "gdbstub" or "core": by what @target would be stopped. Static. */
const char *hvp_patchable_backend(const HvpTarget *target);
