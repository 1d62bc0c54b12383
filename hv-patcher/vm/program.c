/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Above every fixed number, so that moving one descriptor does not overwrite another. */
#define MOVED_FD 16

static char *file_beside_ours(const char *name)
{
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
	g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;

	return folder ? g_build_filename(folder, name, NULL) : NULL;
}

char *hvp_program_find(const HvpProgram *program, GError **error)
{
	const char *named = secure_getenv(program->variable);
	g_autofree char *beside = NULL;
	g_autofree char *installed = NULL;

	if (named != NULL)
		return g_strdup(named);
	beside = file_beside_ours(program->name);
	if (beside != NULL && access(beside, X_OK) == 0)
		return g_steal_pointer(&beside);
	installed = g_build_filename(HVP_LIBEXECDIR, program->name, NULL);
	if (access(installed, X_OK) == 0)
		return g_steal_pointer(&installed);
	hvp_error_set(error, HVP_ERROR_NOT_FOUND, "the program %s is not installed", program->name);
	return NULL;
}

static bool place_descriptors(const int *fds, guint fd_count)
{
	int moved[HVP_PROGRAM_MAX_FDS];

	for (guint i = 0; i < fd_count; i++) {
		moved[i] = fcntl(fds[i], F_DUPFD, MOVED_FD);
		if (moved[i] < 0)
			return false;
	}
	for (guint i = 0; i < fd_count; i++)
		if (dup2(moved[i], HVP_PROGRAM_FIRST_FD + (int)i) < 0)
			return false;
	return true;
}

/* The standard streams are the tool's: whoever reads them must not wait for this program. */
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
static void become(const char *file, char **arguments, const int *fds, guint fd_count, int pid_fd)
{
	pid_t pid;

	setsid();
	pid = fork();
	if (pid != 0)
		_exit(write(pid_fd, &pid, sizeof pid) == sizeof pid ? 0 : 1);
	reset_signals();
	if (place_descriptors(fds, fd_count) && detach_streams() &&
	    close_range(HVP_PROGRAM_FIRST_FD + fd_count, ~0U, 0) == 0)
		execv(file, arguments);
	_exit(127);
}

/* The program's name and @arguments, all borrowed; the array is the caller's. */
static char **make_arguments(const HvpProgram *program, const char *const *arguments)
{
	GPtrArray *all = g_ptr_array_new();

	g_ptr_array_add(all, (gpointer)program->name);
	for (gsize i = 0; arguments != NULL && arguments[i] != NULL; i++)
		g_ptr_array_add(all, (gpointer)arguments[i]);
	g_ptr_array_add(all, NULL);
	return (char **)g_ptr_array_free(all, FALSE);
}

/* By what the process in between wrote to the pipe, whose other end @pid_fd (taken) is. */
static void tell_started(const HvpProgram *program, int pid_fd)
{
	pid_t pid = -1;

	if (read(pid_fd, &pid, sizeof pid) == sizeof pid && pid > 0 && program->started != NULL)
		program->started(pid);
	close(pid_fd);
}

bool hvp_program_start(const HvpProgram *program, const char *const *arguments, const int *fds,
		       guint fd_count, GError **error)
{
	g_autofree char *file = hvp_program_find(program, error);
	g_autofree char **all = make_arguments(program, arguments);
	int pid_ends[2];
	pid_t child;

	g_return_val_if_fail(fd_count <= HVP_PROGRAM_MAX_FDS, false);
	if (file == NULL)
		return false;
	if (pipe2(pid_ends, O_CLOEXEC) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "pipe");
	child = fork();
	if (child == 0)
		become(file, all, fds, fd_count, pid_ends[1]);
	close(pid_ends[1]);
	if (child < 0) {
		close(pid_ends[0]);
		return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "fork");
	}
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	tell_started(program, pid_ends[0]);
	return true;
}
