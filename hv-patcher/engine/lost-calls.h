/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest calls whose keeper died where vCPUs run on by themselves (kvm): a thread is in its call, at
 * its end, or home already, and the journal does not know which. Its stack does: of each call under
 * way it holds the return address, at the stack pointer that the call returns with.
 */
#pragma once

#include "engine/journal.h"
#include "engine/target.h"

/*
 * Drops from @state, and in @journal, the frames of calls that nobody is in. @keeper is attached
 * for it and detached again. BUSY: it cannot be told.
 */
bool hvp_lost_calls_drop(HvpTarget *target, HvpKeeper *keeper, HvpJournal *journal,
			 HvpJournalState *state, GError **error) G_GNUC_WARN_UNUSED_RESULT;
