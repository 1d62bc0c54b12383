/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In what state a kernel thread waits, as the guest's memory has it: its task state,
 * struct kthread and, of a workqueue's worker, struct worker. Parked, frozen and idle are facts
 * about it and no verdict: its stack decides whether it is in the way.
 *
 *   task_struct.worker_private -> struct kthread: flags, data -> struct worker: flags, task,
 *                                                                current_work, rescue_wq
 *
 * Source: kernel/kthread.c, kernel/workqueue_internal.h, kernel/freezer.c.
 */
#pragma once

#include "guest/kernel.h"
#include "guest/task.h"

/* The first that fits. */
typedef enum {
	HVP_KTHREAD_PARKED,	  /* asleep in kthread_parkme(), and still told to be there */
	HVP_KTHREAD_FROZEN,	  /* by the freezer */
	HVP_KTHREAD_IDLE_WORKER,  /* a worker without work, asleep */
	HVP_KTHREAD_IDLE_RESCUER, /* likewise, of those that help out when memory is short */
	HVP_KTHREAD_BUSY_WORKER,  /* any other worker */
	HVP_KTHREAD_RUNNING,	  /* on a CPU or ready to run */
	HVP_KTHREAD_SLEEPING,
	HVP_KTHREAD_UNINTERRUPTIBLE,
	HVP_KTHREAD_UNKNOWN, /* what decides cannot be read */
} HvpKthreadState;

/* "parked", "idle-worker", ...; static. */
const char *hvp_kthread_state_name(HvpKthreadState state);

/*
 * The state of @task, a kernel thread, with which its switch counts and struct belong together as
 * far as it has not run meanwhile. Few reads; allocates nothing; may be called while stopped.
 */
HvpKthreadState hvp_kthread_read_state(HvpKernel *kernel, const HvpTask *task);

/* Room for a list of CPUs; longer ones are not told. */
#define HVP_KTHREAD_CPUS_BYTES 64U

/*
 * Where @task may run, as the guest's /proc lists it ("0-1,4"), into @cpus; "" where the kernel
 * does not tell or the list is too long. Allocates nothing; may be called while stopped.
 */
void hvp_kthread_read_cpus(HvpKernel *kernel, const HvpTask *task,
			   char cpus[HVP_KTHREAD_CPUS_BYTES]);

/* Whether it holds nothing of a work item or a loop's turn: parked, or an idle worker. */
bool hvp_kthread_is_at_rest(HvpKthreadState state);
