/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One task of the guest, as it was read at some moment. Pure. */
#pragma once

#include "base/address.h"

#define HVP_TASK_COMM_BYTES 16U

/* What was read of one task; guest values, not verified beyond their bounds. */
typedef struct {
	HvpGva address; /* of its task_struct */
	gint32 pid;
	gint32 tgid;
	char comm[HVP_TASK_COMM_BYTES + 1];
	guint32 flags; /* PF_* */
	guint32 state;
	guint32 exit_state;
	guint32 cpu;
	bool on_cpu;
	bool is_idle; /* found as a run queue's idle task */
	HvpGva stack; /* lowest address of its kernel stack */
	HvpGva sp;    /* thread.sp: of meaning while it is off its CPU */
	guint64 start_boottime_nsec;
	guint64 switches; /* voluntary and involuntary */
	guint64 switches_involuntary;
	/* Links as read: of the leaders' list and of its thread group's. */
	guint64 tasks_next;
	guint64 thread_next;
} HvpTask;

#define HVP_TASK_PF_EXITING 0x00000004U
/* io_uring's workers; since 6.4 (54e6842d0775) all workers of a user's process, vhost's too */
#define HVP_TASK_PF_IO_WORKER 0x00000010U
#define HVP_TASK_PF_WQ_WORKER 0x00000020U
#define HVP_TASK_PF_MEMALLOC 0x00000800U
#define HVP_TASK_PF_USER_WORKER 0x00004000U
/* until 6.1 */
#define HVP_TASK_PF_FROZEN 0x00010000U
#define HVP_TASK_PF_KTHREAD 0x00200000U
#define HVP_TASK_PF_NO_SETAFFINITY 0x04000000U

/* include/linux/sched.h: TASK_PARKED; TASK_FROZEN since 6.1 (f5d39b020809) */
#define HVP_TASK_STATE_PARKED 0x0040U
#define HVP_TASK_STATE_FROZEN 0x8000U

/* The letter that ps shows for its state. */
char hvp_task_state_letter(const HvpTask *task);
bool hvp_task_is_kthread(const HvpTask *task);

/* Whether it sleeps, off its CPU, so that a signal would wake it, and does not exit. */
bool hvp_task_is_interruptible(const HvpTask *task);

/* Whether it waits off its CPU; one that is new, being woken or dead does not. */
bool hvp_task_is_asleep(const HvpTask *task);

/*
 * Whether it has no system call that ends: a kernel thread, or an io_uring or vhost worker of a
 * user's process. What its functions hold lives on across any stop.
 */
bool hvp_task_is_standing(const HvpTask *task);

/* Whether both describe the same task that has not run in between. */
bool hvp_task_unmoved(const HvpTask *before, const HvpTask *after);

/* Whether @task has ended for good: it will never run again. */
bool hvp_task_is_dead(const HvpTask *task);
