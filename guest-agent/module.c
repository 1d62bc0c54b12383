/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "module.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A module's name has up to 55 bytes, the names of its users may be many. */
#define LINE_CAPACITY 4096
#define READ_BYTES 4096
#define MAX_MODULES 65536
/* For "next", after the list. */
#define TAIL_BYTES 64

/* The lines of a file, one after the other: /proc/modules may be long. */
typedef struct {
	int fd;
	char bytes[READ_BYTES];
	size_t at, used_bytes;
} Lines;

/* Takes a line, cut to what fits. False: no more, errno 0 at the end of the file. */
static bool take_line(Lines *self, char *ret_line)
{
	size_t length = 0;

	for (;;) {
		if (self->at == self->used_bytes) {
			ssize_t got = read(self->fd, self->bytes, sizeof self->bytes);

			if (got <= 0) {
				errno = got == 0 ? 0 : errno;
				return false;
			}
			self->at = 0;
			self->used_bytes = (size_t)got;
		}
		if (self->bytes[self->at] == '\n')
			break;
		if (length < LINE_CAPACITY - 1)
			ret_line[length++] = self->bytes[self->at];
		self->at++;
	}
	self->at++;
	ret_line[length] = '\0';
	return true;
}

void agent_module_write_line(const char *line, AgentWriter *writer)
{
	char name[64], count[24], state[16], taint[32] = "";
	const char *paren = strrchr(line, '(');
	int64_t size_bytes, refcount;

	/* name size refcount users state address (taint); the users are one word without blanks */
	if (sscanf(line, "%63s %" SCNd64 " %23s %*s %15s", name, &size_bytes, count, state) != 4)
		return;
	if (sscanf(count, "%" SCNd64, &refcount) != 1)
		refcount = -1;
	if (paren != NULL)
		sscanf(paren, "(%31[^)]", taint);
	agent_writer_open(writer, '{');
	agent_writer_name(writer, "name");
	agent_writer_string(writer, name);
	agent_writer_name(writer, "size");
	agent_writer_integer(writer, size_bytes);
	agent_writer_name(writer, "refcount");
	agent_writer_integer(writer, refcount);
	agent_writer_name(writer, "state");
	agent_writer_string(writer, state);
	agent_writer_name(writer, "taint");
	agent_writer_string(writer, taint);
	agent_writer_close(writer, '}');
}

/* Returns the number of the first that did not fit, 0 if all did. */
static int64_t write_lines(Lines *lines, int64_t start, AgentWriter *writer)
{
	char line[LINE_CAPACITY];

	for (int64_t number = 0; number < MAX_MODULES && take_line(lines, line); number++) {
		AgentWriterMark mark = agent_writer_mark(writer);

		if (number < start)
			continue;
		agent_module_write_line(line, writer);
		if (writer->overflow) {
			agent_writer_go_back(writer, mark);
			return number;
		}
	}
	return 0;
}

bool agent_module_write(const AgentProc *proc, int64_t start, AgentWriter *writer)
{
	Lines lines = { .fd = openat(proc->root_fd, "modules", O_RDONLY | O_CLOEXEC) };
	int64_t next;
	int error;

	if (lines.fd < 0)
		return false;
	agent_writer_name(writer, "modules");
	agent_writer_open(writer, '[');
	writer->capacity_bytes -= TAIL_BYTES;
	errno = 0;
	next = write_lines(&lines, start, writer);
	error = errno;
	writer->capacity_bytes += TAIL_BYTES;
	agent_writer_close(writer, ']');
	if (next > 0) {
		agent_writer_name(writer, "next");
		agent_writer_integer(writer, next);
	}
	close(lines.fd);
	errno = error;
	return error == 0;
}
