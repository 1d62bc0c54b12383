/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether any CPU of the guest has switched tasks, or any task has come or gone, since
 * a mark was made: by counters of the scheduler (rq->nr_switches of every possible CPU)
 * and of fork and exit (total_forks, nr_threads).
 *
 * A CPU counts before it leaves a task's stack, and fork after it has linked the new
 * one; exit counts before it unlinks. So where nothing was counted between the mark and
 * a moment at which the guest stands still with no run queue locked, all that ran is
 * what runs now, and what was on its way off a CPU at the mark: that one's on_cpu told so
 * until it was off.
 *
 * Source: kernel/sched/core.c (__schedule), kernel/fork.c, kernel/exit.c.
 */
#pragma once

#include "guest/kernel.h"

typedef struct HvpActivity HvpActivity;

/* Finds the counters once. A kernel without one of them is never quiet. Borrows @kernel. */
HvpActivity *hvp_activity_new(HvpKernel *kernel, GError **error);
void hvp_activity_free(HvpActivity *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpActivity, hvp_activity_free)

/* Reads all counters, in place of an earlier mark. Where that fails there is no mark. */
void hvp_activity_mark(HvpActivity *self);

void hvp_activity_forget(HvpActivity *self);

/*
 * Whether there is a mark, and all counters are as they were then; whether there is one, and they
 * are not. Neither allocates; both may be called while stopped.
 */
bool hvp_activity_is_quiet(HvpActivity *self);
bool hvp_activity_has_moved(HvpActivity *self);
