/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which callbacks of a patch are still due after its tool died, as the journal tells: each runs
 * once for each object, and never without the one that it undoes.
 */
#pragma once

#include "engine/journal.h"
#include "engine/klp-patch.h"

/*
 * Takes post_unpatch from all objects of @klp for which it is not due. Of a patch that was being
 * loaded it is due where pre_patch ran (or is not needed), of one that was in force everywhere.
 */
void hvp_callbacks_drop_post_unpatch(HvpKlpPatch *klp, const HvpJournalState *state);

/*
 * Likewise post_patch. It is due everywhere when @applied, else (a revert stopped half-way) where
 * pre_unpatch ran.
 */
void hvp_callbacks_drop_post_patch(HvpKlpPatch *klp, const HvpJournalState *state, bool applied);
