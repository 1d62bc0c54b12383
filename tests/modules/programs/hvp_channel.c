// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's end of the test command channel (a serial line).
 *
 * Request:  "HVP <id> <verb> <timeout ms> <length>\n", then <length> bytes
 * Reply:    "HVP <id> <status> <length>\n", then <length> bytes
 *
 * Verbs:
 *   run   the bytes are a shell command; reply: its output, status as a shell
 *         tells it, 124 when the timeout passed (its process group is killed)
 *   put   path, newline, bytes: writes a new file
 *   add   the same, appends
 *   get   path: reply: the file's bytes
 *   kmsg  reply: all records of /dev/kmsg
 *
 * A reply ends when the command ends, even if something that it left in the
 * background still holds the output open. Every length is capped.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define REQUEST_MAX_BYTES (64 * 1024)
#define OUTPUT_MAX_BYTES (4 * 1024 * 1024)
#define LINE_MAX_BYTES 128
#define STATUS_TIMED_OUT 124

static int line_fd;
static int child_pipe[2];
static char request[REQUEST_MAX_BYTES + 1];
static char output[OUTPUT_MAX_BYTES];
static size_t output_length;

static void child_ended(int signal_number)
{
	int saved = errno;

	(void)signal_number;
	if (write(child_pipe[1], "", 1) < 0) {
		/* The pipe is full of the same news. */
	}
	errno = saved;
}

static void write_all(const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t count = write(line_fd, bytes, length);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			exit(1);
		bytes += count;
		length -= count;
	}
}

static void reply(unsigned long id, int status)
{
	char head[LINE_MAX_BYTES];
	int length = snprintf(head, sizeof(head), "HVP %lu %d %zu\n", id, status, output_length);

	write_all(head, length);
	write_all(output, output_length);
}

static void say(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	output_length += vsnprintf(output + output_length, OUTPUT_MAX_BYTES - output_length, format,
				   arguments);
	va_end(arguments);
}

static void read_exactly(char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t count = read(line_fd, bytes, length);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			exit(1);
		bytes += count;
		length -= count;
	}
}

static void read_line(char *line)
{
	size_t length = 0;
	char byte;

	for (;;) {
		read_exactly(&byte, 1);
		if (byte == '\n')
			break;
		if (length < LINE_MAX_BYTES - 1)
			line[length++] = byte;
	}
	line[length] = '\0';
}

static int64_t now_msec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static pid_t start_shell(const char *command, int *output_fd)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDONLY);

		setsid();
		setpriority(PRIO_PROCESS, 0, 0);
		signal(SIGCHLD, SIG_DFL);
		signal(SIGPIPE, SIG_DFL);
		dup2(null, 0);
		dup2(fds[1], 1);
		dup2(fds[1], 2);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	*output_fd = fds[0];
	return pid;
}

/* Takes what the pipe has; what is past the cap is read and dropped. Returns false at its end. */
static bool drain(int fd)
{
	static char dropped[4096];

	for (;;) {
		bool room = output_length < OUTPUT_MAX_BYTES;
		ssize_t count = room ? read(fd, output + output_length,
					    OUTPUT_MAX_BYTES - output_length)
				     : read(fd, dropped, sizeof(dropped));

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			return count < 0 && errno == EAGAIN;
		if (room)
			output_length += count;
	}
}

static int shell_status(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int run(const char *command, int64_t timeout_msec)
{
	int64_t deadline = now_msec() + timeout_msec;
	int fd = -1, status = 0;
	pid_t pid = start_shell(command, &fd);
	bool open = true;

	if (pid < 0) {
		say("hvp_channel: cannot fork: %s\n", strerror(errno));
		return 126;
	}
	while (waitpid(pid, &status, WNOHANG) == 0) {
		struct pollfd wait[2] = {
			{ .fd = child_pipe[0], .events = POLLIN },
			{ .fd = open ? fd : -1, .events = POLLIN },
		};
		int64_t left = deadline - now_msec();
		char news[64];

		if (left <= 0) {
			kill(-pid, SIGKILL);
			waitpid(pid, &status, 0);
			drain(fd);
			close(fd);
			return STATUS_TIMED_OUT;
		}
		poll(wait, 2, left < 1000 ? left : 1000);
		if (wait[0].revents && read(child_pipe[0], news, sizeof(news)) < 0) {
			/* Another wake-up took it. */
		}
		if (wait[1].revents)
			open = drain(fd);
	}
	drain(fd);
	close(fd);
	return shell_status(status);
}

static int put(char *bytes, size_t length, int flags)
{
	char *end = memchr(bytes, '\n', length);
	size_t left;
	int fd;

	if (!end)
		return 2;
	*end = '\0';
	fd = open(bytes, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0755);
	if (fd < 0) {
		say("%s: %s\n", bytes, strerror(errno));
		return 1;
	}
	left = length - (end + 1 - bytes);
	for (const char *next = end + 1; left > 0;) {
		ssize_t count = write(fd, next, left);

		if (count <= 0) {
			say("%s: %s\n", bytes, strerror(errno));
			close(fd);
			return 1;
		}
		next += count;
		left -= count;
	}
	return close(fd) < 0;
}

static int get(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		say("%s: %s\n", path, strerror(errno));
		return 1;
	}
	drain(fd);
	close(fd);
	return 0;
}

/* One read is one record; EPIPE says that records were overwritten meanwhile. */
static int kmsg(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	while (fd >= 0 && OUTPUT_MAX_BYTES - output_length > 8192) {
		ssize_t count = read(fd, output + output_length, 8192);

		if (count < 0 && (errno == EINTR || errno == EPIPE))
			continue;
		if (count <= 0)
			break;
		output_length += count;
	}
	close(fd);
	return fd < 0;
}

static int serve(const char *verb, long timeout_msec, size_t length)
{
	if (!strcmp(verb, "run"))
		return run(request, timeout_msec);
	if (!strcmp(verb, "put"))
		return put(request, length, O_TRUNC);
	if (!strcmp(verb, "add"))
		return put(request, length, O_APPEND);
	if (!strcmp(verb, "get"))
		return get(request);
	if (!strcmp(verb, "kmsg"))
		return kmsg();
	return 2;
}

static void open_line(const char *path)
{
	struct termios settings;

	line_fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (line_fd < 0 || tcgetattr(line_fd, &settings) < 0)
		exit(1);
	cfmakeraw(&settings);
	settings.c_cflag |= CLOCAL;
	cfsetspeed(&settings, B115200);
	tcsetattr(line_fd, TCSANOW, &settings);
}

int main(int count, char **arguments)
{
	struct sigaction action = { .sa_handler = child_ended, .sa_flags = SA_RESTART };

	if (count != 2)
		return 2;
	open_line(arguments[1]);
	if (pipe2(child_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return 1;
	sigaction(SIGCHLD, &action, NULL);
	/* Load that a test makes must not keep the test from being heard. */
	setpriority(PRIO_PROCESS, 0, -10);
	reply(0, 0);
	for (;;) {
		char line[LINE_MAX_BYTES], verb[16];
		unsigned long id, length;
		long timeout_msec;

		read_line(line);
		if (sscanf(line, "HVP %lu %15s %ld %lu", &id, verb, &timeout_msec, &length) != 4 ||
		    length > REQUEST_MAX_BYTES)
			continue;
		read_exactly(request, length);
		request[length] = '\0';
		output_length = 0;
		reply(id, serve(verb, timeout_msec, length));
	}
}
