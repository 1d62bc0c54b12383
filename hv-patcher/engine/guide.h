/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When to try next, where only kernel threads are in the way: the agent in the guest tells when
 * they have moved on, so that the guest need not be stopped to find out. A hint and nothing
 * else: the next attempt proves everything anew, and compares what was claimed with what it sees.
 *
 *   blocked by kernel threads --watch them--> claims: all have moved on --> try
 *                                  |                      or some seconds have passed
 *                                  +-- no agent, silent, malformed --> back off as without one
 *
 * It connects when it is first needed and never waits for longer than it is told to.
 */
#pragma once

#include "engine/compare.h"
#include "engine/kthread-rule.h"

typedef struct HvpGuide HvpGuide;

/* For one operation on @target (borrowed), whose agent_path may be NULL: then it knows nothing. */
HvpGuide *hvp_guide_new(HvpTarget *target, GError **error);

/* Ends the watch; logs a false claim. NULL is fine. */
void hvp_guide_free(HvpGuide *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpGuide, hvp_guide_free)

/* A thread in the way, as the attempt that it blocked saw it. */
typedef struct {
	HvpTask task;
	bool must_rest; /* a rule wants it parked or idle; else it has only to move on */
} HvpGuideThread;

/*
 * Waits until the agent claims of all @threads (HvpGuideThread) that they have moved on, at most
 * until @deadline and some seconds. *@ret_waited: false where it could not, and has not waited.
 * TAMPERED: a claim that was doubtful is false; any other failure of the agent is none here.
 * Only while the guest runs.
 */
bool hvp_guide_wait(HvpGuide *self, const GArray *threads, HvpDeadline deadline, bool *ret_waited,
		    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Compares what the agent claimed of the threads that were waited for with what they are now.
 * TAMPERED when a claim is false. May be called while stopped, with the address space forgotten.
 */
bool hvp_guide_check(HvpGuide *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;
