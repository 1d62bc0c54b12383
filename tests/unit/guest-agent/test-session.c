/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "fake-proc.h"

#define PING "{\"execute\":\"guest-ping\",\"id\":%u}\n"
#define WATCH_ALL                                                                       \
	"{\"execute\":\"guest-hvpatch-watch-kthreads\",\"arguments\":{\"enable\":true," \
	"\"interval_ms\":10}}\n"

static AgentSession session;

typedef struct {
	char *root;
	int agent, host;
	GString *heard;
	bool gone;
} Fixture;

static void set_up(Fixture *self, gconstpointer unused)
{
	int ends[2];

	(void)unused;
	self->root = fake_proc_new();
	fake_proc_put_task(self->root, &fake_kthreadd);
	g_assert_true(agent_protocol_start(&session.protocol, self->root));
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), ==, 0);
	self->agent = ends[0];
	self->host = ends[1];
	self->heard = g_string_new(NULL);
	self->gone = false;
	agent_session_begin(&session);
}

static void tear_down(Fixture *self, gconstpointer unused)
{
	(void)unused;
	close(session.protocol.proc.root_fd);
	close(self->agent);
	if (self->host >= 0)
		close(self->host);
	fake_proc_remove(self->root);
	g_free(self->root);
	g_string_free(self->heard, TRUE);
}

/* One round of main.c's loop, which waits @msec at most. */
static void turn(Fixture *self, int msec)
{
	gint64 now_nsec = agent_clock_nsec(CLOCK_MONOTONIC);
	struct pollfd pollfd = { .fd = self->agent,
				 .events = agent_session_events(&session, now_nsec) };
	int timeout_msec = agent_session_timeout_msec(&session, now_nsec);

	if (timeout_msec < 0 || timeout_msec > msec)
		timeout_msec = msec;
	g_assert_cmpint(poll(&pollfd, 1, timeout_msec), >=, 0);
	self->gone = !agent_session_turn(&session, self->agent, pollfd.revents);
}

static void listen_once(Fixture *self)
{
	char bytes[65536];
	ssize_t got = recv(self->host, bytes, sizeof bytes, 0);

	if (got > 0)
		g_string_append_len(self->heard, bytes, got);
}

static void say(Fixture *self, const char *bytes, gsize size_bytes)
{
	while (size_bytes > 0) {
		ssize_t sent = send(self->host, bytes, size_bytes, MSG_NOSIGNAL);

		g_assert_true(sent > 0 || errno == EAGAIN);
		if (sent > 0) {
			bytes += sent;
			size_bytes -= (gsize)sent;
		}
		turn(self, 0);
		listen_once(self);
	}
}

static guint lines_heard(const Fixture *self)
{
	guint count = 0;

	for (gsize i = 0; i < self->heard->len; i++)
		count += self->heard->str[i] == '\n';
	return count;
}

/* At least. */
static void hear_lines(Fixture *self, guint count)
{
	gint64 end_nsec = agent_clock_nsec(CLOCK_MONOTONIC) + 20 * AGENT_NSEC_PER_SEC;

	while (lines_heard(self) < count) {
		g_assert_cmpint(agent_clock_nsec(CLOCK_MONOTONIC), <, end_nsec);
		turn(self, 5);
		g_assert_false(self->gone);
		listen_once(self);
	}
}

static void test_pipelined(Fixture *fixture, gconstpointer unused)
{
	GString *requests = g_string_new(NULL), *expected = g_string_new(NULL);

	(void)unused;
	for (guint i = 0; i < 5000; i++) {
		g_string_append_printf(requests, PING, i);
		g_string_append_printf(expected, "{\"return\":{},\"id\":%u}\n", i);
	}
	say(fixture, requests->str, requests->len);
	hear_lines(fixture, 5000);
	g_assert_cmpstr(fixture->heard->str, ==, expected->str);
	g_string_free(requests, TRUE);
	g_string_free(expected, TRUE);
}

static void test_byte_by_byte(Fixture *fixture, gconstpointer unused)
{
	static const char request[] = "{\"execute\":\"guest-pi\xff{\"execute\":\"guest-ping\"}\n";

	(void)unused;
	for (gsize i = 0; i < sizeof request - 1; i++)
		say(fixture, request + i, 1);
	hear_lines(fixture, 1);
	g_assert_cmpstr(fixture->heard->str, ==, "{\"return\":{}}\n");
}

/* Garbage of all kinds, and after it the sync finds its way. */
static void test_garbage(Fixture *fixture, gconstpointer unused)
{
	static const char sync[] =
		"\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":42}}\n";
	static const char expected[] = "\xff{\"return\":42}\n";
	g_autofree char *deep = g_strnfill(50000, '[');
	g_autofree char *oversize = g_strnfill(300000, 'x');
	g_autofree char *storm = g_strnfill(300000, '\xff');
	g_autoptr(GRand) random = g_rand_new_with_seed(7);
	char noise[20000];

	(void)unused;
	for (gsize i = 0; i < sizeof noise; i++)
		noise[i] = (char)g_rand_int(random);
	say(fixture, deep, strlen(deep));
	say(fixture, "\n", 1);
	say(fixture, oversize, strlen(oversize));
	say(fixture, storm, strlen(storm));
	say(fixture, noise, sizeof noise);
	say(fixture, sync, sizeof sync - 1);
	for (guint i = 0; i < 4000 && !g_str_has_suffix(fixture->heard->str, expected); i++) {
		turn(fixture, 5);
		listen_once(fixture);
	}
	g_assert_true(g_str_has_suffix(fixture->heard->str, expected));
	g_assert_nonnull(strstr(fixture->heard->str, "too deep"));
	g_assert_nonnull(strstr(fixture->heard->str, "too long"));
}

/* CPU time of this thread while the session has @msec to itself. */
static gint64 cost_of(Fixture *self, gint64 msec)
{
	gint64 start_nsec = agent_clock_nsec(CLOCK_THREAD_CPUTIME_ID);
	gint64 end_nsec = agent_clock_nsec(CLOCK_MONOTONIC) + msec * AGENT_NSEC_PER_MSEC;

	while (agent_clock_nsec(CLOCK_MONOTONIC) < end_nsec)
		turn(self, 50);
	return (agent_clock_nsec(CLOCK_THREAD_CPUTIME_ID) - start_nsec) / AGENT_NSEC_PER_MSEC;
}

/* A host that asks and does not read: the agent waits, and costs nothing. */
static void test_deaf_host(Fixture *fixture, gconstpointer unused)
{
	gsize before;

	(void)unused;
	say(fixture, WATCH_ALL, strlen(WATCH_ALL));
	for (guint i = 0; i < 100000; i++) {
		char request[64];

		g_snprintf(request, sizeof request, PING, i);
		if (send(fixture->host, request, strlen(request), MSG_NOSIGNAL) < 0)
			break;
		turn(fixture, 0);
	}
	for (guint i = 0; i < 2000 && session.sent_bytes == session.writer.used_bytes; i++)
		turn(fixture, 5);
	g_assert_cmpint(agent_session_events(&session, 0), ==, POLLOUT);
	g_assert_cmpint(agent_session_timeout_msec(&session, 0), ==, -1);
	g_assert_cmpint(cost_of(fixture, 300), <, 30);
	before = fixture->heard->len;
	hear_lines(fixture, lines_heard(fixture) + 1);
	g_assert_cmpuint(fixture->heard->len, >, before);
}

/* Half of a CPU at most, whatever it is asked. */
static void test_flood(Fixture *fixture, gconstpointer unused)
{
	static const char request[] = "{\"execute\":\"guest-hvpatch-get-kthreads\"}\n";
	gint64 worked_nsec = 0, start_nsec = agent_clock_nsec(CLOCK_MONOTONIC), took_nsec;

	(void)unused;
	do {
		gint64 before_nsec;

		(void)!send(fixture->host, request, sizeof request - 1, MSG_NOSIGNAL);
		before_nsec = agent_clock_nsec(CLOCK_THREAD_CPUTIME_ID);
		turn(fixture, 1);
		worked_nsec += agent_clock_nsec(CLOCK_THREAD_CPUTIME_ID) - before_nsec;
		listen_once(fixture);
		took_nsec = agent_clock_nsec(CLOCK_MONOTONIC) - start_nsec;
	} while (took_nsec < AGENT_NSEC_PER_SEC / 2);
	g_assert_cmpuint(lines_heard(fixture), >, 5);
	g_assert_cmpint(worked_nsec * 100 / took_nsec, <=, 60);
}

static void test_host_goes(Fixture *fixture, gconstpointer unused)
{
	(void)unused;
	say(fixture, WATCH_ALL, strlen(WATCH_ALL));
	close(fixture->host);
	fixture->host = -1;
	for (guint i = 0; i < 2000 && !fixture->gone; i++)
		turn(fixture, 5);
	g_assert_true(fixture->gone);
	agent_session_begin(&session);
	g_assert_false(session.protocol.watch.enabled);
	g_assert_cmpint(agent_session_timeout_msec(&session, G_MAXINT64), ==, -1);
}

/* Under a watch at its shortest interval events come, and answers in between. */
static void test_watch_and_ask(Fixture *fixture, gconstpointer unused)
{
	FakeTask task = fake_kthreadd;
	g_auto(GStrv) lines = NULL;
	guint events = 0, answers = 0;

	(void)unused;
	say(fixture, WATCH_ALL, strlen(WATCH_ALL));
	for (guint i = 0; i < 20; i++) {
		char request[64];

		task.voluntary++;
		fake_proc_put_task(fixture->root, &task);
		g_snprintf(request, sizeof request, PING, i);
		say(fixture, request, strlen(request));
		cost_of(fixture, 30);
		listen_once(fixture);
	}
	lines = g_strsplit(fixture->heard->str, "\n", -1);
	for (guint i = 0; lines[i] != NULL; i++) {
		events += g_str_has_prefix(lines[i], "{\"event\":\"HVPATCH_KTHREADS\"");
		answers += g_str_has_prefix(lines[i], "{\"return\":{}");
	}
	g_assert_cmpuint(answers, ==, 21);
	g_assert_cmpuint(events, >=, 10);
	g_assert_cmpuint(events, <=, 60);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(Fixture *fixture, gconstpointer unused);
	} cases[] = {
		{ "/session/pipelined", test_pipelined },
		{ "/session/byte-by-byte", test_byte_by_byte },
		{ "/session/garbage-then-sync", test_garbage },
		{ "/session/deaf-host-COSTS-NOTHING", test_deaf_host },
		{ "/session/flood-HALF-A-CPU", test_flood },
		{ "/session/host-goes", test_host_goes },
		{ "/session/watch-and-ask", test_watch_and_ask },
	};

	g_test_init(&argc, &argv, NULL);
	signal(SIGPIPE, SIG_IGN);
	for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
		g_test_add(cases[i].name, Fixture, NULL, set_up, cases[i].run, tear_down);
	return g_test_run();
}
