/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stop-thread ROUNDS: how long the stop of one thread takes that computes and is in no VM, by the
 * keeper's own code: interrupted, waited for, its registers read, let go. Prints
 *
 *   stop N
 *
 * the median of ROUNDS, in nanoseconds: what this host's ptrace costs of a stop under KVM. For
 * scripts/bench.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vm/threads.h"

#define STOP_USEC 10000
#define REST_USEC 2000

static gint64 now_nsec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (gint64)now.tv_sec * 1000000000 + now.tv_nsec;
}

static pid_t start_spinner(void)
{
	pid_t child = fork();

	if (child != 0)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		__asm__ volatile("");
}

/* Nanoseconds, or -1. */
static gint64 stop_once(HvpThreads *threads)
{
	struct user_regs_struct registers;
	g_autoptr(GError) error = NULL;
	gint64 started = 0;
	bool ok = hvp_threads_seize(threads, &error);

	if (ok) {
		started = now_nsec();
		ok = hvp_threads_stop(threads, hvp_deadline_in(STOP_USEC), &error) &&
		     hvp_threads_read(threads, 0, &registers, &error);
		hvp_threads_release(threads);
	}
	if (!ok)
		fprintf(stderr, "stop-thread: %s\n", error->message);
	return ok ? now_nsec() - started : -1;
}

static int compare_times(const void *a, const void *b)
{
	gint64 one = *(const gint64 *)a, other = *(const gint64 *)b;

	return (one > other) - (one < other);
}

int main(int argc, char **argv)
{
	guint rounds = argc == 2 ? (guint)strtoul(argv[1], NULL, 10) : 0;
	struct sched_param urgent = { .sched_priority = 1 };
	static HvpThreads threads;
	g_autofree gint64 *times = g_new0(gint64, MAX(rounds, 1));
	bool ok = rounds > 0;
	pid_t child;

	if (!ok) {
		fputs("usage: stop-thread ROUNDS\n", stderr);
		return 2;
	}
	child = start_spinner();
	(void)sched_setscheduler(0, SCHED_RR, &urgent);
	(void)hvp_threads_prepare();
	hvp_cpus_begin(&threads.cpus);
	threads.pid = child;
	threads.count = 1;
	threads.threads[0].thread_id = child;
	for (guint i = 0; ok && i < rounds; i++) {
		g_usleep(REST_USEC);
		times[i] = stop_once(&threads);
		ok = times[i] >= 0;
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	qsort(times, rounds, sizeof *times, compare_times);
	if (ok)
		printf("stop %" G_GINT64_FORMAT "\n", times[rounds / 2]);
	return ok ? 0 : 1;
}
