/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QMP server that follows a script: it asserts each request to the byte, sends
 * the scripted answer, and fails on any request that is not in the script.
 */
#pragma once

#include <glib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SCRIPTED_GREETING "{\"QMP\":{\"version\":{},\"capabilities\":[\"oob\"]}}\r\n"
#define SCRIPTED_NEGOTIATE                                                                         \
	{                                                                                          \
		"\"execute\":\"qmp_capabilities\"", "{\"return\":{},\"id\":@ID@}\r\n"              \
	}

typedef struct {
	/* The request without its braces and id. */
	const char *request;
	/* What to send for it, @ID@ replaced; NULL: nothing. */
	const char *answer;
} ScriptedStep;

typedef struct {
	const ScriptedStep *steps;
	gsize step_count;
	int fd;	       /* the server's end */
	int listen_fd; /* accepted from first, when not -1 */
	GThread *thread;
} ScriptedQmp;

static inline void scripted_send(int fd, const char *text, gsize length_bytes)
{
	while (length_bytes > 0) {
		ssize_t sent = send(fd, text, length_bytes, MSG_NOSIGNAL);

		if (sent < 0)
			return;
		text += sent;
		length_bytes -= (gsize)sent;
	}
}

/* One line without its newline; NULL at the end. */
static inline char *scripted_read_line(int fd)
{
	g_autoptr(GString) line = g_string_new(NULL);
	char byte;

	while (read(fd, &byte, 1) == 1) {
		if (byte == '\n')
			return g_strdup(line->str);
		g_string_append_c(line, byte);
	}
	g_assert_cmpstr(line->str, ==, "");
	return NULL;
}

static inline void scripted_serve(const ScriptedQmp *self)
{
	for (gsize i = 0; i < self->step_count; i++) {
		g_autofree char *id = g_strdup_printf("\"hvpatch-%d-%zu\"", (int)getpid(), i + 1);
		g_autofree char *expected =
			g_strdup_printf("{%s,\"id\":%s}", self->steps[i].request, id);
		g_autofree char *request = scripted_read_line(self->fd);
		g_autoptr(GString) answer = NULL;

		g_assert_cmpstr(request, ==, expected);
		if (self->steps[i].answer == NULL)
			continue;
		answer = g_string_new(self->steps[i].answer);
		g_string_replace(answer, "@ID@", id, 0);
		scripted_send(self->fd, answer->str, answer->len);
	}
}

static inline gpointer scripted_run(gpointer data)
{
	ScriptedQmp *self = data;
	g_autofree char *extra = NULL;

	if (self->listen_fd >= 0) {
		self->fd = accept(self->listen_fd, NULL, NULL);
		g_assert_cmpint(self->fd, >=, 0);
		scripted_send(self->fd, SCRIPTED_GREETING, strlen(SCRIPTED_GREETING));
	}
	scripted_serve(self);
	extra = scripted_read_line(self->fd);
	g_assert_cmpstr(extra, ==, NULL);
	return NULL;
}

/* Starts the server; returns the client's end, on which negotiation is done. */
static inline int scripted_start(ScriptedQmp *self, const ScriptedStep *steps, gsize step_count)
{
	int fds[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	*self = (ScriptedQmp){steps, step_count, fds[1], -1, NULL};
	self->thread = g_thread_new("scripted-qmp", scripted_run, self);
	return fds[0];
}

static inline int scripted_listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_strlcpy(address.sun_path, path, sizeof address.sun_path);
	g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
	g_assert_cmpint(listen(fd, 1), ==, 0);
	return fd;
}

/* Starts a server at @path that greets the one client it accepts. */
static inline void scripted_listen(ScriptedQmp *self, const char *path, const ScriptedStep *steps,
				   gsize step_count)
{
	*self = (ScriptedQmp){steps, step_count, -1, scripted_listen_at(path), NULL};
	self->thread = g_thread_new("scripted-qmp", scripted_run, self);
}

/* Call once the client is closed: waits for the server and that nothing more was asked. */
static inline void scripted_finish(ScriptedQmp *self)
{
	g_thread_join(self->thread);
	close(self->fd);
	if (self->listen_fd >= 0)
		close(self->listen_fd);
}
