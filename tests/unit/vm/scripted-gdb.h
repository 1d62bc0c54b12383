/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A gdb stub that plays a script in a thread of its own: what it expects to be sent,
 * byte for byte, and what it answers. Anything else, or anything more, fails.
 */
#pragma once

#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Long enough for a sanitizer, short enough for silence to be tested. */
#define GDB_TIMEOUT_USEC (2 * G_USEC_PER_SEC)

typedef struct {
	const char *expect; /* raw bytes; NULL: nothing, answer at once */
	const char *answer; /* raw bytes; NULL: nothing */
} GdbTurn;

typedef struct {
	int ours;
	int theirs;
	const GdbTurn *turns;
	bool closes; /* after the last turn; else waits for the other end to */
	GThread *thread;
} ScriptedGdb;

static inline void scripted_gdb_expect(ScriptedGdb *self, const char *expect)
{
	gsize length_bytes = strlen(expect), got = 0;
	g_autofree char *bytes = g_malloc0(length_bytes + 1);

	while (got < length_bytes) {
		ssize_t count = recv(self->theirs, bytes + got, length_bytes - got, 0);

		if (count <= 0)
			g_error("expected %s, got %s and then the end", expect, bytes);
		got += (gsize)count;
	}
	g_assert_cmpstr(bytes, ==, expect);
}

static inline gpointer scripted_gdb_play(gpointer data)
{
	ScriptedGdb *self = data;
	char more[64];
	ssize_t count;

	for (const GdbTurn *turn = self->turns; turn->expect || turn->answer; turn++) {
		if (turn->expect != NULL)
			scripted_gdb_expect(self, turn->expect);
		if (turn->answer != NULL)
			g_assert_cmpint(send(self->theirs, turn->answer, strlen(turn->answer),
					     MSG_NOSIGNAL),
					==, (ssize_t)strlen(turn->answer));
	}
	if (self->closes) {
		shutdown(self->theirs, SHUT_RDWR);
		return NULL;
	}
	count = recv(self->theirs, more, sizeof more - 1, 0);
	if (count > 0)
		g_error("not in the script: %.*s", (int)count, more);
	return NULL;
}

/* Starts; the client takes `ours`. @turns ends with one of two NULLs. */
static inline void scripted_gdb_start(ScriptedGdb *self, const GdbTurn *turns, bool closes)
{
	int ends[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), ==, 0);
	*self = (ScriptedGdb){ .ours = ends[0], .theirs = ends[1], .turns = turns,
			       .closes = closes };
	self->thread = g_thread_new("gdb", scripted_gdb_play, self);
}

/* After the client has closed its end. */
static inline void scripted_gdb_end(ScriptedGdb *self)
{
	g_thread_join(self->thread);
	close(self->theirs);
}
