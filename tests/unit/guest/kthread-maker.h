/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Kernel threads of the made-up guest, with struct kthread and, of workers, struct worker. */
#pragma once

#include "synthetic-guest.h"

#define KTHREAD_BYTES 512U
#define TOLD_TO_PARK 4U
#define MARKED_IDLE 4U
#define ASLEEP 1U
#define ASLEEP_DEEPLY 2U
#define ASLEEP_PARKED 0x40U
#define ASLEEP_IDLE 0x402U
#define ASLEEP_FROZEN 0x8000U

/* Makes @task a kernel thread that sleeps; returns its struct kthread. */
static inline HvpGva kthread_make(SyntheticGuest *guest, HvpGva task)
{
	HvpGva kthread = synthetic_guest_alloc(guest, KTHREAD_BYTES);

	synthetic_guest_set(guest, task, HVP_AT_TASK_FLAGS, HVP_TASK_PF_KTHREAD);
	synthetic_guest_set(guest, task, HVP_AT_TASK_WORKER_PRIVATE, kthread.value);
	return kthread;
}

static inline void kthread_park(SyntheticGuest *guest, HvpGva task, HvpGva kthread)
{
	synthetic_guest_set(guest, kthread, HVP_AT_KTHREAD_FLAGS, TOLD_TO_PARK);
	synthetic_guest_set(guest, task, HVP_AT_TASK_STATE, ASLEEP_PARKED);
}

/* Makes @task a worker that is idle; returns its struct worker. */
static inline HvpGva kthread_make_worker(SyntheticGuest *guest, HvpGva task)
{
	HvpGva kthread = kthread_make(guest, task);
	HvpGva worker = synthetic_guest_alloc(guest, KTHREAD_BYTES);

	synthetic_guest_set(guest, task, HVP_AT_TASK_FLAGS,
			    HVP_TASK_PF_KTHREAD | HVP_TASK_PF_WQ_WORKER);
	synthetic_guest_set(guest, task, HVP_AT_TASK_STATE, ASLEEP_IDLE);
	synthetic_guest_set(guest, kthread, HVP_AT_KTHREAD_DATA, worker.value);
	synthetic_guest_set(guest, worker, HVP_AT_WORKER_TASK, task.value);
	synthetic_guest_set(guest, worker, HVP_AT_WORKER_FLAGS, MARKED_IDLE);
	return worker;
}
