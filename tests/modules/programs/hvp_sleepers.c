// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tasks that sleep until they are killed, for a long task list.
 *
 *   hvp_sleepers COUNT [pause|read|nanosleep|poll|futex]
 *
 * Half of them are threads of the first process (COUNT is the number of all).
 * Prints "ready" when all exist. They die with the first process.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define COUNT_MAX 10000
#define STACK_BYTES (64 * 1024)

static const char *where = "pause";
static int pipe_fds[2];

static void sleep_once(void)
{
	struct timespec forever = { .tv_sec = 1000000 };
	static int word;
	char byte;

	if (!strcmp(where, "read")) {
		if (read(pipe_fds[0], &byte, 1) < 0)
			return;
	} else if (!strcmp(where, "nanosleep")) {
		nanosleep(&forever, NULL);
	} else if (!strcmp(where, "poll")) {
		poll(&(struct pollfd){ .fd = pipe_fds[0], .events = POLLIN }, 1, -1);
	} else if (!strcmp(where, "futex")) {
		syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
	} else {
		pause();
	}
}

static void *sleep_always(void *unused)
{
	(void)unused;
	for (;;)
		sleep_once();
	return NULL;
}

static int start_thread(void)
{
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	return pthread_create(&thread, &attributes, sleep_always, NULL);
}

static int start_process(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sleep_always(NULL);
	}
	return pid < 0;
}

int main(int count, char **arguments)
{
	int tasks = count > 1 ? atoi(arguments[1]) : 1;

	if (count > 2)
		where = arguments[2];
	if (tasks < 1 || tasks > COUNT_MAX || pipe(pipe_fds) < 0)
		return 2;
	/* Processes first: a fork of a process with many threads costs more. */
	for (int i = 1; i < tasks; i++) {
		int failed = i <= tasks / 2 ? start_process() : start_thread();

		if (failed) {
			puts("cannot start them all");
			return 1;
		}
	}
	puts("ready");
	fflush(stdout);
	sleep_always(NULL);
}
