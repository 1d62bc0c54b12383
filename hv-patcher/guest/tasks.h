/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every task of the guest, by the ways in which the kernel itself finds them:
 *
 *   thread leaders on init_task.tasks, each with the threads on its signal's thread_head
 *   the idle task of each possible CPU, and what each CPU runs now
 *
 * A list is a snapshot with a copy of each task's identifying fields. Reading it again
 * is a batch over known addresses: no pointer is chased while the guest stands still.
 */
#pragma once

#include "base/deadline.h"
#include "guest/kernel.h"
#include "guest/task.h"

#define HVP_TASKS_MAX (1U << 20)
/* A walk over all lists may take that long: a million tasks of a host that is not overloaded. */
#define HVP_TASKS_MAX_USEC (5 * G_USEC_PER_SEC)

typedef struct HvpTasks HvpTasks;

/* Knows no task yet; for hvp_tasks_look. */
HvpTasks *hvp_tasks_new(HvpKernel *kernel, GError **error);

/*
 * Reads all tasks. BUSY where links contradict each other (the guest is changing them: try
 * again); BAD_DATA where lists do not end within HVP_TASKS_MAX; TIMED_OUT after
 * HVP_TASKS_MAX_USEC, or when @deadline has passed.
 */
HvpTasks *hvp_tasks_read(HvpKernel *kernel, GError **error);
HvpTasks *hvp_tasks_read_until(HvpKernel *kernel, HvpDeadline deadline, GError **error);
void hvp_tasks_free(HvpTasks *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpTasks, hvp_tasks_free)

guint hvp_tasks_count(const HvpTasks *self);
const HvpTask *hvp_tasks_get(const HvpTasks *self, guint index);

/* The task at @address; NULL. */
const HvpTask *hvp_tasks_find(const HvpTasks *self, HvpGva address);

/*
 * Reads the known tasks once more, in few batches, into @ret_tasks[hvp_tasks_count()].
 * False where a task's memory is gone. Allocates nothing.
 */
bool hvp_tasks_reread(HvpTasks *self, HvpTask *ret_tasks);

/* Whether @now (from reread) is still linked as @self: nobody came, nobody left. */
bool hvp_tasks_same_links(const HvpTasks *self, const HvpTask *now);

/*
 * While the guest stands still and no run queue is locked: adds every task that is queued to run,
 * in whatever scheduling class, and not known yet. An exiting thread is on no list of above from
 * its release on, and still runs. One that a class holds back until it gets more time (a throttled
 * deadline task, a throttled realtime group) is in no queue, as if it slept. Errors as of
 * hvp_tasks_read; UNSUPPORTED where its BTF lacks what it takes.
 */
bool hvp_tasks_add_queued(HvpTasks *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* By when what follows must have added its tasks; until then it is that of the reading. */
void hvp_tasks_set_deadline(HvpTasks *self, HvpDeadline deadline);

/* Adds the task at @address unless it is known. */
bool hvp_tasks_add(HvpTasks *self, HvpGva address, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Reads the task at @address as it is now, known or not; adds and allocates nothing. */
bool hvp_tasks_look(HvpTasks *self, HvpGva address, HvpTask *ret_task) G_GNUC_WARN_UNUSED_RESULT;

/* Reads one task. */
bool hvp_tasks_read_one(HvpKernel *kernel, HvpGva address, HvpTask *ret_task,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;
