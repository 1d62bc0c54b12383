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
 * Takes all callbacks that undo, and post_patch, from objects of modules of which the guest's own
 * core says that nothing is to be undone: it has done so itself, as its owner has disabled the
 * patch, or has run none for a module that came after that. Noted in @journal for a recovery.
 */
bool hvp_callbacks_drop_undone(HvpKlpPatch *klp, HvpJournal *journal,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Likewise post_patch. It is due everywhere when @applied, else (a revert stopped half-way) where
 * pre_unpatch ran.
 */
void hvp_callbacks_drop_post_patch(HvpKlpPatch *klp, const HvpJournalState *state, bool applied);
