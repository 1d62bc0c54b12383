/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether a kernel can be patched, and if not why not, before any patch is named. */
#pragma once

#include "cli/output.h"

typedef struct {
	bool patchable;
	GPtrArray *reasons; /* char *, escaped: what stands against it, and what else to know */
} HvpCliPatchable;

/* Asks the guest's memory and the VM's monitor. Fails only where the guest cannot be read. */
bool hvp_cli_patchable_read(HvpTarget *target, HvpCliPatchable *ret_patchable,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Nothing where it was never filled in. */
void hvp_cli_patchable_clear(HvpCliPatchable *self);

/* The members "patchable" and "reasons". */
void hvp_cli_patchable_show_json(const HvpCliPatchable *self, JsonBuilder *json);

/* "kvm", "gdbstub" or "core": by what @target would be stopped. Static. */
const char *hvp_cli_patchable_backend(const HvpTarget *target);
