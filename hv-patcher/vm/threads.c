/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/threads.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vm/access.h"

/*
 * A thread in the guest, on another CPU, stands after this time: sooner than somebody who went to
 * sleep to wait for it is woken.
 */
#define SPIN_USEC 100
/*
 * Between two looks at threads whose stop was not announced. Later than the host's next tick: to
 * set a timer before that costs more than the stop itself where a hypervisor is asked for it.
 */
#define LOOK_AGAIN_USEC 10000
/* How long one past its deadline is waited for: it may sleep in the kernel for a page. */
#define STRAGGLER_USEC (10 * G_USEC_PER_SEC)
/* While the others stand. */
#define STOP_USEC (G_USEC_PER_SEC / 10)

/* A killed thread ends at once, unless the kernel writes its memory to a file. */
#define BURY_USEC G_USEC_PER_SEC

int hvp_threads_prepare(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

bool hvp_threads_explain(pid_t pid, int errno_value, GError **error)
{
	guint64 start_time;

	if (errno_value == ESRCH && !hvp_access_read_start_time(pid, &start_time))
		return hvp_error_set(error, HVP_ERROR_VM_GONE, "process %d has ended", (int)pid);
	if (errno_value == ESRCH)
		return hvp_error_set(error, HVP_ERROR_BUSY, "a thread of process %d has ended",
				     (int)pid);
	return hvp_access_explain(pid, errno_value, "tracing", error);
}

static bool seize_one(HvpThread *thread)
{
	if (ptrace(PTRACE_SEIZE, thread->thread_id, NULL, NULL) != 0)
		return false;
	thread->state = HVP_THREAD_SEIZED;
	thread->signal = 0;
	return true;
}

void hvp_threads_keep_off(HvpThreads *self)
{
	cpu_set_t busy;

	CPU_ZERO(&busy);
	for (guint i = 0; i < self->count; i++)
		hvp_cpus_add(self->pid, self->threads[i].thread_id, &busy);
	/* Of one whose CPU is ours it takes our sleep to come to its stop. */
	self->spin_usec = hvp_cpus_avoid(&self->cpus, &busy, self->count) ||
					  !CPU_ISSET((gsize)sched_getcpu(), &busy)
				  ? SPIN_USEC
				  : 0;
}

bool hvp_threads_seize(HvpThreads *self, GError **error)
{
	hvp_threads_keep_off(self);
	for (guint i = 0; i < self->count; i++) {
		int failure;

		if (seize_one(&self->threads[i]))
			continue;
		failure = errno;
		/* What is seized can only be let go while it stands. */
		if (hvp_threads_stop(self, hvp_deadline_in(STOP_USEC), NULL))
			hvp_threads_release(self);
		return hvp_threads_explain(
			failure == ESRCH ? self->pid : self->threads[i].thread_id, failure, error);
	}
	return true;
}

static void note(HvpThread *thread, int status)
{
	if (!WIFSTOPPED(status)) {
		thread->state = HVP_THREAD_GONE;
		thread->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
		return;
	}
	thread->state = HVP_THREAD_STOPPED;
	/* A stop of the job control, ours included, carries its event in the upper bits. */
	thread->signal = status >> 16 == 0 ? WSTOPSIG(status) : 0;
}

/* How many have not stopped yet. */
static guint look(HvpThreads *self)
{
	guint missing = 0;

	for (guint i = 0; i < self->count; i++) {
		HvpThread *thread = &self->threads[i];
		int status;
		pid_t found;

		if (thread->state != HVP_THREAD_SEIZED)
			continue;
		found = waitpid(thread->thread_id, &status, __WALL | WNOHANG);
		if (found == thread->thread_id)
			note(thread, status);
		else if (found < 0 && errno == ECHILD)
			thread->state = HVP_THREAD_GONE;
		else
			missing++;
	}
	return missing;
}

static bool any_gone(const HvpThreads *self)
{
	for (guint i = 0; i < self->count; i++)
		if (self->threads[i].state == HVP_THREAD_GONE)
			return true;
	return false;
}

/* A signal that ends one thread ends all. */
static bool explain_gone(HvpThreads *self, GError **error)
{
	bool killed = false;

	for (guint i = 0; i < self->count; i++)
		killed |= self->threads[i].state == HVP_THREAD_GONE && self->threads[i].signal != 0;
	hvp_threads_release(self);
	if (killed)
		return hvp_error_set(error, HVP_ERROR_VM_GONE, "process %d was killed",
				     (int)self->pid);
	return hvp_threads_explain(self->pid, ESRCH, error);
}

bool hvp_threads_check(HvpThreads *self, GError **error)
{
	for (guint i = 0; i < self->count; i++) {
		HvpThread *thread = &self->threads[i];
		int status;

		/* One that stands already reports nothing but its end. */
		if (waitpid(thread->thread_id, &status, __WALL | WNOHANG) == thread->thread_id)
			note(thread, status);
	}
	return !any_gone(self) || explain_gone(self, error);
}

static void wait_for_one(HvpDeadline deadline)
{
	gint64 usec = MIN(hvp_deadline_left_usec(deadline), LOOK_AGAIN_USEC);
	struct timespec again = { 0, usec * 1000 };
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigtimedwait(&signals, NULL, &again);
}

static bool wait_all(HvpThreads *self, HvpDeadline deadline)
{
	HvpDeadline spin = hvp_deadline_in(self->spin_usec);

	while (look(self) > 0) {
		if (hvp_deadline_passed(deadline))
			return false;
		if (hvp_deadline_passed(spin))
			wait_for_one(deadline);
	}
	return true;
}

/* As wait_all(), but each goes on as soon as it stands. */
static bool let_all_go(HvpThreads *self, HvpDeadline deadline)
{
	for (;;) {
		guint missing = look(self);

		hvp_threads_release(self);
		if (missing == 0 || hvp_deadline_passed(deadline))
			return missing == 0;
		wait_for_one(deadline);
	}
}

/* A seized thread that nobody waits for would stand still at its next signal. */
static bool release_stragglers(HvpThreads *self, GError **error)
{
	if (!let_all_go(self, hvp_deadline_in(STRAGGLER_USEC)))
		return hvp_error_set(error, HVP_ERROR_INTERNAL,
				     "a thread of process %d does not come out of the kernel",
				     (int)self->pid);
	return hvp_error_set(error, HVP_ERROR_TIMED_OUT,
			     "a thread of process %d did not stop in time", (int)self->pid);
}

bool hvp_threads_stop(HvpThreads *self, HvpDeadline deadline, GError **error)
{
	for (guint i = 0; i < self->count; i++)
		if (self->threads[i].state == HVP_THREAD_SEIZED)
			(void)ptrace(PTRACE_INTERRUPT, self->threads[i].thread_id, NULL, NULL);
	if (!wait_all(self, deadline))
		return release_stragglers(self, error);
	return !any_gone(self) || explain_gone(self, error);
}

bool hvp_threads_read(const HvpThreads *self, guint index, struct user_regs_struct *ret_registers,
		      GError **error)
{
	if (ptrace(PTRACE_GETREGS, self->threads[index].thread_id, NULL, ret_registers) == 0)
		return true;
	return hvp_threads_explain(self->pid, errno, error);
}

/* One that was killed while it stood stays a zombie until its tracer has seen its end. */
static void bury(HvpThreads *self)
{
	bool all = wait_all(self, hvp_deadline_in(BURY_USEC));

	for (guint i = 0; all && i < self->count; i++)
		self->threads[i].state = HVP_THREAD_FREE;
}

void hvp_threads_release(HvpThreads *self)
{
	bool killed = false, waiting = false;

	for (guint i = 0; i < self->count; i++) {
		HvpThread *thread = &self->threads[i];

		waiting |= thread->state == HVP_THREAD_SEIZED;
		if (thread->state == HVP_THREAD_GONE)
			thread->state = HVP_THREAD_FREE;
		if (thread->state != HVP_THREAD_STOPPED)
			continue;
		if (ptrace(PTRACE_DETACH, thread->thread_id, NULL,
			   (void *)(guintptr)thread->signal) == 0) {
			thread->state = HVP_THREAD_FREE;
		} else {
			thread->state = HVP_THREAD_SEIZED;
			killed = true;
		}
	}
	if (killed && !waiting)
		bury(self);
}
