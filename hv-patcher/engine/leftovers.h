/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Modules of ours that an interrupted apply, replace or revert left in the guest, not in force. */
#pragma once

#include "engine/journal.h"
#include "engine/klp-patch.h"
#include "engine/target.h"

typedef struct {
	HvpModule module; /* a copy: its tables are not to be used */
	HvpKlpPatch *klp; /* whose post_unpatch callbacks are due; NULL: none are */
	GPtrArray *older; /* for these, as hvp_applied_read_older() has it; NULL if klp is */
} HvpLeftover;

/*
 * All that @state speaks of, HvpLeftover, by @target's modules as they were last read; the array
 * is the caller's. NULL with BUSY where it cannot be told at the moment whether a module is one.
 */
GArray *hvp_leftovers_find(HvpTarget *target, const HvpJournalState *state, GError **error);
