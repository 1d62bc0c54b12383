// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A user task that stands in a known place in the kernel, until it is killed.
 *
 *   hvp_stand PLACE
 *
 * fault    in a copy from user in /proc/hvp_copy, at a page that never comes
 * fault-user  the same page, touched by the program itself
 * spin     in user mode, on CPU 1
 * zombie   the parent of a dead child (prints the child's pid)
 * exit     closes /proc/hvp_release when it is killed, which sleeps
 * late     a thread of it, named hvp_late and on CPU 1, exits
 * late-deadline  likewise, by a deadline, and a child with an earlier one is often in its way
 * unborn   has forked a child that never ran (prints its pid): it keeps CPU 1 to itself
 * uring    lets an io_uring worker read /proc/hvp_read
 * vfork    sleeps until its child, which pauses, is gone
 * int80    pauses, by the 32-bit system call gate
 * stopped  stops itself
 * traced   is a tracer (prints the pid of the stopped tracee)
 * storm    forks and exits, on all CPUs
 *
 * Prints "PLACE PID" (PID of the task to look at) before it goes there.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE_BYTES 4096
#define I386_PAUSE 29
#define DEADLINE_POLICY 6

static void announce(const char *place, pid_t pid)
{
	printf("%s %d\n", place, pid);
	fflush(stdout);
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void use_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		fail("sched_setaffinity");
}

/* As struct sched_attr, which not every libc has. */
struct deadline {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period; /* nanoseconds */
};

static void use_deadline(unsigned runtime_ms, unsigned deadline_ms, unsigned period_ms)
{
	struct deadline wanted = {
		.size = sizeof(wanted),
		.policy = DEADLINE_POLICY,
		.runtime = runtime_ms * 1000000ULL,
		.deadline = deadline_ms * 1000000ULL,
		.period = period_ms * 1000000ULL,
	};

	if (syscall(SYS_sched_setattr, 0, &wanted, 0) != 0)
		fail("sched_setattr");
}

static void pause_always(void)
{
	for (;;)
		pause();
}

static pid_t fork_child(void (*child)(void))
{
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		child();
		_exit(0);
	}
	return pid;
}

/* --- faults ------------------------------------------------------------- */

/* A page whose faults wait for a handler that does not exist. */
static void *missing_page(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = syscall(SYS_userfaultfd, 0);
	void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	range.range.start = (unsigned long)page;
	range.range.len = PAGE_BYTES;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &range) < 0)
		fail("userfaultfd");
	return page;
}

static void stand_fault(const char *place)
{
	int fd = open("/proc/hvp_copy", O_WRONLY);

	announce(place, getpid());
	if (write(fd, missing_page(), sizeof(long)) < 0)
		fail("write");
}

static void stand_fault_user(const char *place)
{
	volatile char *page = missing_page();

	announce(place, getpid());
	*page = 1;
}

/* --- running -------------------------------------------------------------- */

static void stand_spin(const char *place)
{
	use_cpu(1);
	announce(place, getpid());
	for (;;)
		asm volatile("pause");
}

static void stand_storm(const char *place)
{
	announce(place, getpid());
	for (;;) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
}

static void stand_unborn(const char *place)
{
	struct sched_param parameters = { .sched_priority = 50 };

	use_cpu(1);
	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &parameters) < 0)
		fail("sched_setscheduler");
	announce(place, fork_child(pause_always));
	for (;;)
		asm volatile("pause");
}

/* --- leaving ---------------------------------------------------------------- */

static void die(void)
{
}

static void stand_zombie(const char *place)
{
	pid_t pid = fork_child(die);
	siginfo_t info;

	waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
	announce(place, pid);
	pause_always();
}

static void open_and_pause(void)
{
	if (open("/proc/hvp_release", O_RDONLY) < 0)
		fail("open");
	pause_always();
}

static void stand_exit(const char *place)
{
	pid_t pid = fork_child(open_and_pause);

	/* Time to open the file. */
	usleep(200000);
	kill(pid, SIGKILL);
	announce(place, pid);
	pause_always();
}

static void *exit_late(void *place)
{
	use_cpu(1);
	/* It wants all of its CPU, so that it is never made to wait for its next period. */
	if (!strcmp(place, "late-deadline"))
		use_deadline(1000, 1000, 1000);
	prctl(PR_SET_NAME, "hvp_late");
	announce(place, gettid());
	syscall(SYS_exit, 0);
	return NULL;
}

static void stand_late(const char *place)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, exit_late, (void *)place) != 0)
		fail("pthread_create");
	pause_always();
}

static void spin_by_deadline(void)
{
	use_cpu(1);
	use_deadline(150, 200, 300);
	for (;;)
		;
}

static void stand_late_deadline(const char *place)
{
	fork_child(spin_by_deadline);
	stand_late(place);
}

/* --- sleeping ----------------------------------------------------------------- */

static void stand_uring(const char *place)
{
	static char buffer[64];
	struct io_uring_params parameters = { 0 };
	int ring = syscall(SYS_io_uring_setup, 1, &parameters);
	int file = open("/proc/hvp_read", O_RDONLY);
	struct io_uring_sqe *entry;
	char *queue;

	if (ring < 0 || file < 0)
		fail("io_uring_setup");
	queue = mmap(NULL, parameters.sq_off.array + sizeof(int), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
	entry = mmap(NULL, sizeof(*entry), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring,
		     IORING_OFF_SQES);
	if (queue == MAP_FAILED || entry == MAP_FAILED)
		fail("mmap");
	memset(entry, 0, sizeof(*entry));
	entry->opcode = IORING_OP_READ;
	entry->flags = IOSQE_ASYNC;
	entry->fd = file;
	entry->addr = (unsigned long)buffer;
	entry->len = sizeof(buffer);
	*(unsigned *)(queue + parameters.sq_off.array) = 0;
	__atomic_store_n((unsigned *)(queue + parameters.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0) != 1)
		fail("io_uring_enter");
	announce(place, getpid());
	pause_always();
}

static void stand_vfork(const char *place)
{
	announce(place, getpid());
	if (vfork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause_always();
	}
}

static void stand_int80(const char *place)
{
	long result;

	announce(place, getpid());
	asm volatile("int $0x80" : "=a"(result) : "0"(I386_PAUSE)
		     : "r8", "r9", "r10", "r11", "memory");
}

static void stop(void)
{
	raise(SIGSTOP);
}

static void stand_stopped(const char *place)
{
	pid_t pid = fork_child(stop);

	waitpid(pid, NULL, WUNTRACED);
	announce(place, pid);
	pause_always();
}

static void be_traced(void)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGUSR1);
}

static void stand_traced(const char *place)
{
	pid_t pid = fork_child(be_traced);

	waitpid(pid, NULL, 0);
	announce(place, pid);
	pause_always();
}

static const struct {
	const char *name;
	void (*stand)(const char *place);
} places[] = {
	{ "fault", stand_fault },
	{ "fault-user", stand_fault_user },
	{ "spin", stand_spin },
	{ "zombie", stand_zombie },
	{ "exit", stand_exit },
	{ "late", stand_late },
	{ "late-deadline", stand_late_deadline },
	{ "unborn", stand_unborn },
	{ "uring", stand_uring },
	{ "vfork", stand_vfork },
	{ "int80", stand_int80 },
	{ "stopped", stand_stopped },
	{ "traced", stand_traced },
	{ "storm", stand_storm },
};

int main(int count, char **arguments)
{
	for (size_t i = 0; count > 1 && i < sizeof(places) / sizeof(places[0]); i++)
		if (!strcmp(places[i].name, arguments[1]))
			places[i].stand(places[i].name);
	return 2;
}
