/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A few threads of another process, stopped together for a moment by ptrace and let go
 * again. Seized only for that moment: a seized thread stops at every signal. All calls
 * of one HvpThreads come from one thread, in which SIGCHLD is blocked.
 *
 *   free --SEIZE--> seized --INTERRUPT, wait--> stopped --DETACH--> free
 *
 * A stop that reports a signal is as good as one that we asked for; the signal is handed
 * back with the detach.
 */
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include "base/deadline.h"
#include "base/error.h"
#include "vm/cpus.h"

#define HVP_THREADS_MAX 512

typedef enum {
	HVP_THREAD_FREE,
	HVP_THREAD_SEIZED,
	HVP_THREAD_STOPPED,
	HVP_THREAD_GONE,
} HvpThreadState;

typedef struct {
	pid_t thread_id;
	HvpThreadState state;
	int signal; /* to be handed back; 0: none */
} HvpThread;

typedef struct {
	pid_t pid; /* the process, for messages */
	guint count;
	gint64 spin_usec; /* how long they are waited for without going to sleep */
	HvpCpus cpus;	  /* the calling thread's; set up by the caller */
	HvpThread threads[HVP_THREADS_MAX];
} HvpThreads;

/*
 * Blocks SIGCHLD in the calling thread, which the wait needs; returns a new descriptor that is
 * readable while it is pending, or -1 and errno. Children must be waited for by their ids.
 */
int hvp_threads_prepare(void);

/* Leaves the CPUs that they are on, where there are others; seizing begins with it. */
void hvp_threads_keep_off(HvpThreads *self);

/*
 * Seizes all; on failure none is. PERMISSION naming what forbids it; CONFLICT naming who
 * traces one already; VM_GONE where the process ended; BUSY where only a thread did.
 */
bool hvp_threads_seize(HvpThreads *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Interrupts all that are seized and waits until they stand. TIMED_OUT: some do not; all are
 * let go, which may take until the last of them has come out of the kernel. VM_GONE or BUSY
 * where one ended; INTERNAL where one never came out (it is let go when we end).
 */
bool hvp_threads_stop(HvpThreads *self, HvpDeadline deadline,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* While stopped: what thread @index has in its registers. VM_GONE. */
bool hvp_threads_read(const HvpThreads *self, guint index, struct user_regs_struct *ret_registers,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * While stopped, SIGCHLD is pending: whether all still stand. VM_GONE or BUSY where one was
 * killed; the process ends only when its end has been seen here.
 */
bool hvp_threads_check(HvpThreads *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Lets all go that are stopped, with their signals. */
void hvp_threads_release(HvpThreads *self);

/* Why ptrace of @pid failed with @errno_value: as hvp_threads_seize. Always false. */
bool hvp_threads_explain(pid_t pid, int errno_value, GError **error);
