/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looks at every task's stack twice: once while the guest runs, at leisure, and once
 * while it stands still, but then only at what changed in between.
 *
 *   running:  each task's key (address, pid, start time, stack, thread.sp, switch counts) is
 *             read before its stack, and it has a verdict only if it was off its CPU
 *   stopped:  keys again, in a batch; a task with the same key has not run, so its verdict
 *             still holds; all others are unwound now, those on a vCPU from its registers
 *
 * Where no CPU has switched and no task has come or gone since before the first key was
 * read, the keys are not read again. Only a task on a CPU writes to its own stack. One that
 * left its CPU before its key was read (on_cpu 0) could come back only by a switch that is
 * counted before it runs; so it has not run, or still does: then a vCPU is on its
 * stack, and it is unwound from registers. With the same lists nobody can have been missed;
 * whoever was on a CPU has no verdict, and is read now.
 *
 * A verdict therefore rests on memory that was read, or shown to be unchanged, while
 * the guest stood still.
 */
#pragma once

#include "engine/target.h"
#include "guest/activity.h"
#include "guest/locks.h"
#include "guest/tasks.h"

typedef struct {
	HvpTask task;
	gint vcpu; /* the vCPU it runs on, or -1; known once stopped */
	bool in_user_mode;
	HvpUnwindVerdict verdict;
	HvpGva last_pc;
	guint first_frame; /* into the sweep's frames */
	guint frame_count;
} HvpSweepTask;

typedef struct HvpSweep HvpSweep;

/* Room for the sweeps of one operation; borrows @target. */
HvpSweep *hvp_sweep_new(HvpTarget *target, GError **error);
void hvp_sweep_free(HvpSweep *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpSweep, hvp_sweep_free)

/*
 * Looks at all tasks while the guest runs. BUSY: lists changed too fast, try again. TIMED_OUT:
 * they take more than ten seconds.
 */
bool hvp_sweep_run(HvpSweep *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * While the guest stands still with @registers: makes every verdict one of this moment.
 * BUSY: not a moment to judge (a text or list lock is held, a vCPU is in entry code or not in
 * this kernel); resume and try again. TIMED_OUT as of run. @ret_rechecked: how many
 * stacks were read.
 */
bool hvp_sweep_recheck(HvpSweep *self, const HvpRegisters *registers, guint vcpu_count,
		       guint *ret_rechecked, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * For a guest that will not come to a better moment (a dump): looks once more as if it ran, and
 * gives those on a CPU the verdict UNDECIDED.
 */
bool hvp_sweep_settle(HvpSweep *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * How many keys the last recheck read: none of those that have a verdict where the guest was
 * quiet.
 */
guint hvp_sweep_get_reread(const HvpSweep *self);

/*
 * Those of whom the last recheck may say something else than the run before it, by number: of a
 * quiet guest who had no verdict and who is on a vCPU, else all.
 */
guint hvp_sweep_count_changed(const HvpSweep *self);
const HvpSweepTask *hvp_sweep_get_changed(const HvpSweep *self, guint number);

/* How long the last hvp_sweep_run took: enumerating and unwinding all tasks. */
gint64 hvp_sweep_get_run_usec(const HvpSweep *self);

guint hvp_sweep_count(const HvpSweep *self);
const HvpSweepTask *hvp_sweep_get(const HvpSweep *self, guint index);
const HvpFrame *hvp_sweep_frames(const HvpSweep *self, const HvpSweepTask *task);
