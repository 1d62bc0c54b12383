/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hvpatch-libvirt-monitor: passes the commands of a QMP client on to a libvirt domain's monitor.
 * Started by hvpatch (monitor.c) with a socket and three arguments; no use by itself.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "vm/libvirt-monitor.h"
#include "vm/program.h"

static bool is_socket(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

/* A terminal and its user's Ctrl-C are not ours: a keeper may still need us. */
static void ignore_signals(void)
{
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
}

int main(int argc, char **argv)
{
	guint64 id;

	if (argc != 4 || !is_socket(HVP_PROGRAM_FIRST_FD) ||
	    !g_ascii_string_to_unsigned(argv[3], 10, 0, G_MAXINT, &id, NULL)) {
		fputs("hvpatch-libvirt-monitor is started by hvpatch\n", stderr);
		return 2;
	}
	prctl(PR_SET_NAME, "hvpatch-libvirt");
	ignore_signals();
	return hvp_libvirt_monitor_run(HVP_PROGRAM_FIRST_FD, argv[1], argv[2], (int)id);
}
