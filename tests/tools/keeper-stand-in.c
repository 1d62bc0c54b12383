/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests/package: stands in for hvpatchd with a keeper at work, to see what systemd does to
 * both.
 *
 *   keeper-stand-in FOLDER
 *
 * The keeper writes into FOLDER/facts what it was allowed to do, in the service's confinement, and
 * FOLDER/told when it gets SIGTERM; the core writes FOLDER/keeper, its number, before it is ready.
 */
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keeper/scope.h"

static const char *told_path;

static void tell(int number)
{
	(void)number;
	close(open(told_path, O_CREAT | O_WRONLY, 0600));
	_exit(0);
}

static const char *outcome(long result)
{
	return result >= 0 ? "ok" : strerror(errno);
}

static void write_facts(const char *path)
{
	struct sched_param parameter = { .sched_priority = 1 };
	FILE *facts = fopen(path, "w");
	pid_t core = getppid();

	if (facts == NULL)
		_exit(1);
	fprintf(facts, "realtime %s\n",
		outcome(sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &parameter)));
	fprintf(facts, "mlockall %s\n", outcome(mlockall(MCL_CURRENT)));
	fprintf(facts, "ptrace %s\n", outcome(ptrace(PTRACE_SEIZE, core, NULL, NULL)));
	ptrace(PTRACE_INTERRUPT, core, NULL, NULL);
	waitpid(core, NULL, __WALL);
	ptrace(PTRACE_DETACH, core, NULL, NULL);
	fclose(facts);
}

static void be_keeper(const char *folder)
{
	g_autofree char *facts = g_build_filename(folder, "facts", NULL);

	told_path = g_build_filename(folder, "told", NULL);
	setsid();
	signal(SIGTERM, tell);
	write_facts(facts);
	while (true)
		pause();
}

static void say_ready(void)
{
	const char *path = g_getenv("NOTIFY_SOCKET");
	g_autoptr(GSocketAddress) address = NULL;
	g_autoptr(GSocket) socket = NULL;

	if (path == NULL)
		return;
	address = g_unix_socket_address_new_with_type(
		path[0] == '@' ? path + 1 : path, -1,
		path[0] == '@' ? G_UNIX_SOCKET_ADDRESS_ABSTRACT : G_UNIX_SOCKET_ADDRESS_PATH);
	socket = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_DATAGRAM,
			      G_SOCKET_PROTOCOL_DEFAULT, NULL);
	if (socket != NULL)
		g_socket_send_to(socket, address, "READY=1", strlen("READY=1"), NULL, NULL);
}

int main(int argc, char **argv)
{
	g_autofree char *path = NULL, *text = NULL;
	pid_t keeper;

	if (argc != 2)
		return 2;
	keeper = fork();
	if (keeper == 0)
		be_keeper(argv[1]);
	/* As a keeper, which is nobody's child for long. */
	signal(SIGCHLD, SIG_IGN);
	hvp_scope_take(keeper);
	path = g_build_filename(argv[1], "keeper", NULL);
	text = g_strdup_printf("%d\n", (int)keeper);
	if (!g_file_set_contents(path, text, -1, NULL))
		return 1;
	say_ready();
	while (true)
		pause();
}
