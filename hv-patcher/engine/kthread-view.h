/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Kernel threads as guest memory has them, and beside it what the agent in the guest claims. */
#pragma once

#include "engine/compare.h"
#include "engine/sweep.h"

/* Of one task of a sweep; of no meaning where that is no kernel thread. */
typedef struct {
	HvpKthreadState state;
	bool is_claimed; /* false: the agent did not tell of it, or there is none */
	HvpClaim claim;
	HvpCompareVerdict verdict;
} HvpKthreadView;

/*
 * A view of each task of @sweep (HvpKthreadView, by its index), the guest running again since it
 * was made. *@ret_false: TAMPERED for the first false claim, all of which are logged, or NULL. An
 * agent that does not answer is logged, and there are no claims. Blocks some seconds.
 */
GArray *hvp_kthread_view_read(HvpTarget *target, const HvpSweep *sweep, GError **ret_false,
			      GError **error);
