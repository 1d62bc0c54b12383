/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest's agent claims of a kernel thread, beside what was seen of it in memory. Pure
 * but for the boot. A claim that is merely old is told from a false one by switch counts:
 *
 *   a thread is looked at (before), the claim comes, it is looked at again (after)
 *
 *   more switches than after                         false: counts only grow
 *   asked for, and fewer than before                 false
 *   as many as after, where it sleeps                of this very sleep: false unless it fits
 *   as many as after, where it runs                  of the sleep before, or a moment of falling
 *                                                    asleep: doubtful if asked for meanwhile
 *   fewer than after                                 old
 */
#pragma once

#include "agent/claims.h"
#include "engine/target.h"
#include "guest/kthread.h"
#include "guest/tasks.h"

typedef enum {
	HVP_COMPARE_AGREES,
	HVP_COMPARE_STALE,
	HVP_COMPARE_DOUBTFUL, /* false if it is so once more */
	HVP_COMPARE_FALSE,
} HvpCompareVerdict;

/* When the claim was made: the agent was asked after the first look, or told by itself. */
typedef enum { HVP_COMPARE_TOLD, HVP_COMPARE_ASKED } HvpCompareOrigin;

/* "agrees", "stale", "doubtful", "false"; static. */
const char *hvp_compare_verdict_name(HvpCompareVerdict verdict);

/*
 * Judges @claim by two looks at what was then the task of its pid, and @state, that of @after.
 * Allocates little; may be called while stopped.
 */
HvpCompareVerdict hvp_compare(const HvpClaim *claim, HvpCompareOrigin origin, const HvpTask *before,
			      const HvpTask *after, HvpKthreadState state);

/*
 * Reads the task at @address and its state so that both are of one moment. False when it is gone,
 * or switches too often. The guest may run, and may stand still; allocates nothing.
 */
bool hvp_compare_look(HvpKernel *kernel, HvpTasks *reader, HvpGva address, HvpTask *ret_task,
		      HvpKthreadState *ret_state) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Whether @claim tells of where @task may run what was seen, @cpus ("": not seen). That may change
 * at any moment, so one look that differs says nothing yet.
 */
bool hvp_compare_cpus(const HvpClaim *claim, const HvpTask *task, const char *cpus);

/* What was claimed of a thread, what was seen of it then, and what that means. */
typedef struct {
	HvpClaim claim;
	HvpTask task;
	HvpKthreadState state;
	char cpus[HVP_KTHREAD_CPUS_BYTES]; /* as hvp_kthread_read_cpus() tells */
	HvpCompareVerdict verdict;
} HvpComparison;

/*
 * Asks for the thread of @before anew, and once more where that leaves doubts. Errors of the
 * agent; the verdict is STALE where nothing can be said.
 */
bool hvp_compare_ask(HvpKernel *kernel, HvpTasks *reader, HvpAgent *agent, const HvpTask *before,
		     HvpDeadline deadline, HvpComparison *ret_comparison,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* TAMPERED when @boot_id is not that of the guest's memory; true where that does not tell. */
bool hvp_compare_boot(HvpKernel *kernel, const char *boot_id,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The error for a false claim; always false. It may be called while stopped; log may not. */
bool hvp_compare_refuse(const HvpComparison *self, GError **error);
void hvp_compare_log(const HvpComparison *self);
