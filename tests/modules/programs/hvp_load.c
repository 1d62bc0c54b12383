// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A syscall load: each process loops over cheap calls, file reads of /proc,
 * pipes, short sleeps, page faults and forks.
 *
 *   hvp_load PROCESSES [SECONDS]    without SECONDS until it is killed
 *
 * The processes die with the first one.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_MAX 256

static void must(int ok)
{
	if (!ok)
		_exit(3);
}

static void read_file(const char *path)
{
	char text[4096];
	int fd = open(path, O_RDONLY);

	must(fd >= 0 && read(fd, text, sizeof(text)) >= 0);
	close(fd);
}

static void pass_through_pipe(void)
{
	int fds[2];
	char byte = 'x';

	must(pipe(fds) == 0);
	must(write(fds[1], &byte, 1) == 1 && read(fds[0], &byte, 1) == 1);
	close(fds[0]);
	close(fds[1]);
}

static void touch_memory(void)
{
	const size_t length = 16 * 4096;
	char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(memory != MAP_FAILED);
	for (size_t offset = 0; offset < length; offset += 4096)
		memory[offset] = 1;
	munmap(memory, length);
}

static void fork_once(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	must(pid > 0 && waitpid(pid, NULL, 0) == pid);
}

static void one_round(unsigned long round)
{
	struct timespec moment = { .tv_nsec = 100000 };
	struct sysinfo info;

	for (int i = 0; i < 50; i++)
		syscall(SYS_getppid);
	read_file("/proc/cmdline");
	sysinfo(&info);
	pass_through_pipe();
	touch_memory();
	if (round % 16 == 0) {
		fork_once();
		read_file("/proc/meminfo");
		nanosleep(&moment, NULL);
	}
}

static void work(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned long round = 0;; round++)
		one_round(round);
}

int main(int count, char **arguments)
{
	int processes = count > 1 ? atoi(arguments[1]) : 1;

	if (processes < 1 || processes > PROCESSES_MAX)
		return 2;
	for (int i = 0; i < processes; i++) {
		if (fork() == 0)
			work();
	}
	if (count > 2)
		alarm(atoi(arguments[2]));
	/* A worker ends only when something went wrong. */
	wait(NULL);
	puts("a worker failed");
	return 1;
}
