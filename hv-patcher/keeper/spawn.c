/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keeper/wire.h"

#define PROGRAM "hvpatch-keeper"

/* Above every fixed number, so that moving one descriptor does not overwrite another. */
#define MOVED_FD 16

static char *program_beside_ours(void)
{
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
	g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;

	return folder ? g_build_filename(folder, PROGRAM, NULL) : NULL;
}

static char *find_program(GError **error)
{
	const char *named = secure_getenv("HVPATCH_KEEPER");
	g_autofree char *path = NULL;

	if (named != NULL)
		return g_strdup(named);
	path = program_beside_ours();
	if (path != NULL && access(path, X_OK) == 0)
		return g_steal_pointer(&path);
	if (access(HVP_LIBEXECDIR "/" PROGRAM, X_OK) == 0)
		return g_strdup(HVP_LIBEXECDIR "/" PROGRAM);
	hvp_error_set(error, HVP_ERROR_NOT_FOUND, "the program " PROGRAM " is not installed");
	return NULL;
}

static bool place_descriptors(const int from[3])
{
	int moved[3];

	for (int i = 0; i < 3; i++) {
		moved[i] = fcntl(from[i], F_DUPFD, MOVED_FD);
		if (moved[i] < 0)
			return false;
	}
	for (int i = 0; i < 3; i++)
		if (dup2(moved[i], HVP_WIRE_TOOL_FD + i) < 0)
			return false;
	return true;
}

/* The standard streams are the tool's: whoever reads them must not wait for the keeper. */
static bool detach_streams(void)
{
	int null = open("/dev/null", O_RDWR);

	return null >= 0 && dup2(null, 0) == 0 && dup2(null, 1) == 1 && dup2(null, 2) == 2;
}

static void reset_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGTERM, SIG_DFL);
}

/* Between fork and exec: only what is safe in a signal handler. */
static void become_keeper(const char *program, const int descriptors[3])
{
	char *arguments[] = { (char *)PROGRAM, NULL };

	setsid();
	if (fork() != 0)
		_exit(0);
	reset_signals();
	if (place_descriptors(descriptors) && detach_streams() &&
	    close_range(HVP_WIRE_FIRST_OTHER_FD, ~0U, 0) == 0)
		execv(program, arguments);
	_exit(127);
}

int hvp_spawn_keeper(int qmp_fd, int journal_fd, GError **error)
{
	g_autofree char *program = find_program(error);
	int ends[2], descriptors[3];
	pid_t child;

	if (program == NULL)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "socket pair");
		return -1;
	}
	descriptors[0] = ends[1];
	descriptors[1] = qmp_fd;
	descriptors[2] = journal_fd;
	child = fork();
	if (child == 0)
		become_keeper(program, descriptors);
	close(ends[1]);
	if (child < 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "fork");
		close(ends[0]);
		return -1;
	}
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return ends[0];
}
