/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hvpatch-keeper: the process that alone stops the VM and writes to it. Started by
 * the tool (spawn.c) with three descriptors, or one more that is open as long as it lives, and
 * arguments (wire.h); no use by itself.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keeper/loop.h"
#include "keeper/reach.h"
#include "keeper/wire.h"

static bool is_socket(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

/* The tool's terminal and its user's Ctrl-C are not ours. */
static void ignore_signals(void)
{
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
}

/* While it has stopped a VM, nothing else is more urgent; it is awake for microseconds each. */
static void take_priority(void)
{
	struct sched_param parameter = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &parameter) != 0)
		setpriority(PRIO_PROCESS, 0, -20);
}

static int open_signals(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) != 0)
		return -1;
	return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(int argc, char **argv)
{
	bool has_monitor = true;
	int signal_fd;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], HVP_WIRE_NO_MONITOR) == 0)
			has_monitor = false;
		else if (!hvp_reach_allow_only(argv[i]))
			return 2;
	}
	if (!is_socket(HVP_WIRE_TOOL_FD) || (has_monitor && !is_socket(HVP_WIRE_QMP_FD))) {
		fputs("hvpatch-keeper is started by hvpatch\n", stderr);
		return 2;
	}
	if (!has_monitor)
		close(HVP_WIRE_QMP_FD);
	prctl(PR_SET_NAME, "hvpatch-keeper");
	ignore_signals();
	take_priority();
	signal_fd = open_signals();
	if (signal_fd < 0)
		return 1;
	/* Not of the future: past the limit that would make allocations fail. */
	(void)mlockall(MCL_CURRENT);
	return hvp_loop_run(HVP_WIRE_TOOL_FD, has_monitor ? HVP_WIRE_QMP_FD : -1,
			    HVP_WIRE_JOURNAL_FD, signal_fd);
}
