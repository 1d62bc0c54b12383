/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/janitor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Above every fixed number, so that moving one descriptor does not overwrite another. */
#define MOVED_FD 32
#define LIFE_FD 3
#define EXIT_NOT_RUN 127

struct HvpJanitor {
	pid_t pid;
	int life_fd; /* its end tells that we are gone */
};

void hvp_janitor_remove_folder(const char *path)
{
	GDir *folder = g_dir_open(path, 0, NULL);
	const char *name;

	while (folder != NULL && (name = g_dir_read_name(folder)) != NULL) {
		g_autofree char *file = g_build_filename(path, name, NULL);

		(void)unlink(file);
	}
	if (folder != NULL)
		g_dir_close(folder);
	(void)rmdir(path);
}

static bool place_descriptors(const int *from)
{
	int null = open("/dev/null", O_RDONLY);
	int moved[HVP_JANITOR_FDS];

	for (int i = 0; i < HVP_JANITOR_FDS; i++) {
		moved[i] = fcntl(from[i], F_DUPFD, MOVED_FD);
		if (moved[i] < 0)
			return false;
	}
	for (int i = 0; i < HVP_JANITOR_FDS - 1; i++)
		if (dup2(moved[i], HVP_JANITOR_FIRST_FD + i) < 0)
			return false;
	return null >= 0 && dup2(null, STDIN_FILENO) >= 0 &&
	       dup2(moved[HVP_JANITOR_FDS - 1], STDOUT_FILENO) >= 0 &&
	       dup2(moved[HVP_JANITOR_FDS - 1], STDERR_FILENO) >= 0 &&
	       close_range(HVP_JANITOR_FIRST_FD + HVP_JANITOR_FDS - 1, ~0U, 0) == 0;
}

static void become_program(const HvpJanitorOrder *order, pid_t janitor)
{
	const struct rlimit limit = { order->max_file_bytes, order->max_file_bytes };
	static const char failure[] = "the program cannot be run\n";

	/* Ended by the kernel with the janitor, also where that ended before this line. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != janitor ||
	    !place_descriptors(order->descriptors) || setrlimit(RLIMIT_FSIZE, &limit) != 0)
		_exit(EXIT_NOT_RUN);
	signal(SIGHUP, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	/* A write past the limit is to fail, not to kill. */
	signal(SIGXFSZ, SIG_IGN);
	execv(order->program, order->arguments);
	(void)!write(STDERR_FILENO, failure, strlen(failure));
	_exit(EXIT_NOT_RUN);
}

static bool keep_only(int life_fd)
{
	int null = open("/dev/null", O_RDWR);

	/* The standard streams are the tool's: whoever reads them must not wait for us. */
	return null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
	       dup2(null, STDERR_FILENO) >= 0 && dup2(life_fd, LIFE_FD) >= 0 &&
	       close_range(LIFE_FD + 1, ~0U, 0) == 0;
}

static void clean_up(const HvpJanitorOrder *order, int life_fd)
{
	pid_t janitor, program;
	char byte;

	/* A terminal's ^C is for the tool; its end is ours. */
	setsid();
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	janitor = getpid();
	program = fork();
	if (program == 0)
		become_program(order, janitor);
	if (keep_only(life_fd))
		while (read(LIFE_FD, &byte, 1) < 0 && errno == EINTR)
			;
	if (program > 0) {
		kill(program, SIGKILL);
		while (waitpid(program, NULL, 0) < 0 && errno == EINTR)
			;
	}
	hvp_janitor_remove_folder(order->folder);
	_exit(0);
}

HvpJanitor *hvp_janitor_start(const HvpJanitorOrder *order, GError **error)
{
	HvpJanitor *self;
	int life[2];
	pid_t pid;

	if (pipe2(life, O_CLOEXEC) != 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "pipe");
		return NULL;
	}
	pid = fork();
	if (pid == 0) {
		close(life[1]);
		clean_up(order, life[0]);
	}
	close(life[0]);
	if (pid < 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "fork");
		close(life[1]);
		return NULL;
	}
	self = g_new0(HvpJanitor, 1);
	self->pid = pid;
	self->life_fd = life[1];
	return self;
}

void hvp_janitor_end(HvpJanitor *self)
{
	if (self == NULL)
		return;
	close(self->life_fd);
	while (waitpid(self->pid, NULL, 0) < 0 && errno == EINTR)
		;
	g_free(self);
}
