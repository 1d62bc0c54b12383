/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest calls whose keeper died where vCPUs run on by themselves (kvm): a thread is in its call, at
 * its end, or home already, and the journal does not know which. Its stack does: of each call under
 * way it holds the return address, at the stack pointer that the call returns with.
 */
#pragma once

#include "engine/journal.h"
#include "engine/sweep.h"

typedef enum {
	HVP_LOST_CALL_OVER,	 /* or never begun: nobody is in it */
	HVP_LOST_CALL_UNDER_WAY, /* its thread is in it, or stands at its return trap */
	HVP_LOST_CALL_UNKNOWN,	 /* look again a moment later */
} HvpLostCall;

/*
 * Of the innermost, which is the last, of @count nested @calls of one thread, by the stacks of all
 * threads as they are: @sweep was rechecked while the guest stood still.
 */
HvpLostCall hvp_lost_calls_judge_by_tasks(const HvpKeeperFrame *calls, guint count,
					  const HvpSweep *sweep);

/*
 * Of @call aside, which was made from an interrupt, on whatever stack that came: it never leaves
 * its vCPU, so that the @count vCPUs' @registers tell.
 */
HvpLostCall hvp_lost_calls_judge_by_vcpus(const HvpKeeperFrame *call, const HvpRegisters *registers,
					  guint count);

/*
 * Drops from @state, and in @journal, the frames of calls that nobody is in. @keeper is attached
 * for it and detached again. BUSY: it cannot be told.
 */
bool hvp_lost_calls_drop(HvpTarget *target, HvpKeeper *keeper, HvpJournal *journal,
			 HvpJournalState *state, GError **error) G_GNUC_WARN_UNUSED_RESULT;
