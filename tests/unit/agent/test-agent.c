/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A peer that gets in step and says what it is like any agent, and then misbehaves at the first
 * "ask" in one way. What the client makes of it has to come within the deadline, and
 * the second "ask" has to be answered, as far as the peer still lives.
 */
#include "agent/agent.h"

#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/json-text.h"

#define SHORT_USEC (150 * 1000)
#define LONG_USEC (20 * G_USEC_PER_SEC)
/* What a loaded machine may add to a deadline. */
#define SLACK_USEC (15 * G_USEC_PER_SEC)
#define DRIP_USEC (20 * 1000)
#define MAX_GROWTH_BYTES (16L << 20)
#define INFO                                                           \
	"{\"version\":\"1.0\",\"protocol\":1,\"supported_commands\":[" \
	"{\"name\":\"ask\",\"enabled\":true},{\"name\":\"off\",\"enabled\":false}]}"

#if defined(__SANITIZE_ADDRESS__)
static const bool is_sanitized = true;
#elif defined(__has_feature)
static const bool is_sanitized = __has_feature(address_sanitizer);
#else
static const bool is_sanitized = false;
#endif

typedef struct Peer Peer;
typedef void (*Misbehaviour)(Peer *self, gint64 id);

struct Peer {
	int fd;
	const char *info;
	Misbehaviour misbehave;
	guint asked;
	bool is_gone;
	GThread *thread;
};

/* --- the peer --------------------------------------------------------------- */

static bool say_bytes(Peer *self, const void *bytes, gsize length_bytes)
{
	const char *at = bytes;

	while (!self->is_gone && length_bytes > 0) {
		ssize_t sent = send(self->fd, at, length_bytes, MSG_NOSIGNAL);

		if (sent <= 0) {
			self->is_gone = true;
			break;
		}
		at += sent;
		length_bytes -= (gsize)sent;
	}
	return !self->is_gone;
}

static bool say(Peer *self, const char *text)
{
	return say_bytes(self, text, strlen(text));
}

static void answer(Peer *self, const char *value, gint64 id)
{
	g_autofree char *text = g_strdup_printf("{\"return\":%s,\"id\":%" G_GINT64_FORMAT "}\n",
						value, id);

	say(self, text);
}

static gint64 int_member(JsonObject *object, const char *name)
{
	JsonNode *node = hvp_json_text_typed_member(object, name, G_TYPE_INT64);

	g_assert_nonnull(node);
	return json_node_get_int(node);
}

static void serve(Peer *self, const char *line, bool is_marked)
{
	g_autoptr(JsonNode)
		node = hvp_json_text_parse_object(line, strlen(line), 16, 512, "request", NULL);
	JsonObject *object = node ? json_node_get_object(node) : NULL;
	const char *command = object ? json_object_get_string_member(object, "execute") : NULL;

	g_assert_nonnull(command);
	if (strcmp(command, "guest-sync-delimited") == 0) {
		gint64 id = int_member(json_object_get_object_member(object, "arguments"), "id");
		g_autofree char *text = g_strdup_printf("{\"return\":%" G_GINT64_FORMAT "}\n", id);

		g_assert_true(is_marked);
		say_bytes(self, "\xff", 1);
		say(self, text);
	} else if (strcmp(command, "guest-info") == 0) {
		answer(self, self->info, int_member(object, "id"));
	} else {
		g_assert_cmpstr(command, ==, "ask");
		if (self->asked++ == 0)
			self->misbehave(self, int_member(object, "id"));
		else
			answer(self, "2", int_member(object, "id"));
	}
}

static gpointer run(gpointer data)
{
	Peer *self = data;
	g_autoptr(GString) line = g_string_new(NULL);
	bool is_marked = false;
	guint8 byte;

	while (!self->is_gone && read(self->fd, &byte, 1) == 1) {
		if (byte == 0xff) {
			g_string_truncate(line, 0);
			is_marked = true;
		} else if (byte != '\n') {
			g_string_append_c(line, (char)byte);
		} else {
			serve(self, line->str, is_marked);
			g_string_truncate(line, 0);
			is_marked = false;
		}
	}
	close(self->fd);
	return NULL;
}

static HvpAgent *start(Peer *self, Misbehaviour misbehave, const char *info, HvpDeadline deadline,
		       GError **error)
{
	int fds[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	*self = (Peer){ .fd = fds[1], .info = info, .misbehave = misbehave };
	self->thread = g_thread_new("peer", run, self);
	return hvp_agent_new_from_fd(fds[0], deadline, error);
}

/* --- what it may do ------------------------------------------------------------ */

static void be_good(Peer *self, gint64 id)
{
	answer(self, "1", id);
}

static void be_silent(Peer *self, gint64 id)
{
	(void)self;
	(void)id;
}

static void be_slow(Peer *self, gint64 id)
{
	g_autofree char *text = g_strdup_printf("{\"return\":1,\"id\":%" G_GINT64_FORMAT "}\n", id);

	for (const char *at = text; *at != 0 && say_bytes(self, at, 1); at++)
		g_usleep(DRIP_USEC);
}

static void be_late(Peer *self, gint64 id)
{
	g_usleep(SHORT_USEC * 2);
	answer(self, "1", id);
}

static void die_in_the_middle(Peer *self, gint64 id)
{
	(void)id;
	say(self, "{\"return\":{\"kthre");
	self->is_gone = true;
}

static void flood_with_events(Peer *self, gint64 id)
{
	gint64 end = g_get_monotonic_time() + SHORT_USEC * 2;

	(void)id;
	while (g_get_monotonic_time() < end &&
	       say(self, "{\"event\":\"HVPATCH_KTHREADS\",\"data\":{\"kthreads\":[]}}\n"))
		;
}

static void flood_with_one_line(Peer *self, gint64 id)
{
	g_autofree char *text = g_strnfill(1U << 20, '[');

	(void)id;
	for (guint i = 0; i < 64 && say(self, text); i++)
		;
	say(self, "\n");
}

static void flood_with_marks(Peer *self, gint64 id)
{
	g_autofree char *text = g_strnfill(1U << 20, (char)0xff);

	for (guint i = 0; i < 16 && say_bytes(self, text, 1U << 20); i++)
		;
	answer(self, "1", id);
}

static void say_too_much(Peer *self, gint64 id)
{
	g_autofree char *blanks = g_strnfill(HVP_AGENT_MAX_LINE_BYTES, ' ');

	say(self, blanks);
	answer(self, "1", id);
}

static void say_as_much_as_may_be(Peer *self, gint64 id)
{
	g_autofree char *text = g_strdup_printf("{\"return\":1,\"id\":%" G_GINT64_FORMAT "}", id);
	g_autofree char *blanks = g_strnfill(HVP_AGENT_MAX_LINE_BYTES - strlen(text), ' ');

	say(self, blanks);
	say(self, text);
	say(self, "\n");
}

static void nest(Peer *self, gint64 id)
{
	g_autofree char *opened = g_strnfill(30000, '[');
	g_autofree char *closed = g_strnfill(30000, ']');
	g_autofree char *value = g_strconcat(opened, closed, NULL);

	answer(self, value, id);
}

static void give_many_values(Peer *self, gint64 id)
{
	g_autoptr(GString) value = g_string_new("[1");

	for (guint i = 0; i < HVP_AGENT_MAX_VALUES; i++)
		g_string_append(value, ",1");
	g_string_append_c(value, ']');
	answer(self, value->str, id);
}

static void mistake_the_id(Peer *self, gint64 id)
{
	answer(self, "1", id + 1);
	answer(self, "1", id - 1);
	say(self, "{\"return\":1}\n{\"return\":1,\"id\":null}\n{\"return\":1,\"id\":\"x\"}\n");
}

/* Two agents: the other one answers as well, and each time. */
static void answer_twice(Peer *self, gint64 id)
{
	answer(self, "1", id);
	answer(self, "3", id);
}

static void say_other_bytes(Peer *self, gint64 id)
{
	g_autofree char *text = g_strdup_printf(
		"{\"return\":\"\xc3\x28\",\"id\":%" G_GINT64_FORMAT "}\n", id);

	say(self, text);
}

static void say_nul(Peer *self, gint64 id)
{
	g_autofree char *text = g_strdup_printf("{\"return\":1,\"id\":%" G_GINT64_FORMAT "}", id);

	say_bytes(self, "\0", 1);
	say(self, text);
	say(self, "\n");
}

static void say_no_json(Peer *self, gint64 id)
{
	(void)id;
	say(self, "{\"return\":\n");
}

static void say_nan(Peer *self, gint64 id)
{
	answer(self, "NaN", id);
}

static void say_an_array(Peer *self, gint64 id)
{
	(void)id;
	say(self, "[1,2]\n");
}

static void say_neither(Peer *self, gint64 id)
{
	g_autofree char *text = g_strdup_printf("{\"error\":[],\"id\":%" G_GINT64_FORMAT "}\n", id);

	say(self, text);
}

static void not_know_it(Peer *self, gint64 id)
{
	g_autofree char *text = g_strdup_printf(
		"{\"error\":{\"class\":\"CommandNotFound\",\"desc\":"
		"\"no\\u001b[2J\"},\"id\":%" G_GINT64_FORMAT "}\n",
		id);

	say(self, text);
}

static void not_understand_it(Peer *self, gint64 id)
{
	(void)id;
	say(self, "{\"error\":{\"class\":\"GenericError\",\"desc\":\"what?\"}}\n");
}

static void tell_events(Peer *self, gint64 id)
{
	for (guint i = 0; i < HVP_AGENT_MAX_EVENTS + 4; i++) {
		g_autofree char *text = g_strdup_printf(
			"{\"event\":\"E\",\"data\":{\"n\":%u}}\n{\"event\":\"OTHER\"}\n", i);

		say(self, text);
	}
	answer(self, "1", id);
}

/* --- the cases ------------------------------------------------------------------- */

static long resident_bytes(void)
{
	g_autofree char *text = NULL;

	g_assert_true(g_file_get_contents("/proc/self/statm", &text, NULL, NULL));
	return atol(strchr(text, ' ')) * sysconf(_SC_PAGESIZE);
}

static gint64 value_of(JsonNode *node)
{
	return JSON_NODE_HOLDS_VALUE(node) ? json_node_get_int(node) : -1;
}

typedef struct {
	const char *name;
	Misbehaviour misbehave;
	gint code; /* of the error; -1: none */
	bool ends; /* the connection */
	gint64 usec;
} Case;

static const Case cases[] = {
	{ "good-ANSWER", be_good, -1, false, LONG_USEC },
	{ "silent-TIMED-OUT", be_silent, HVP_ERROR_TIMED_OUT, false, SHORT_USEC },
	{ "slow-TIMED-OUT", be_slow, HVP_ERROR_TIMED_OUT, false, SHORT_USEC },
	{ "late-TIMED-OUT", be_late, HVP_ERROR_TIMED_OUT, false, SHORT_USEC },
	{ "dies-in-mid-reply-VM-GONE", die_in_the_middle, HVP_ERROR_VM_GONE, true, LONG_USEC },
	{ "flood-of-events-TIMED-OUT", flood_with_events, HVP_ERROR_TIMED_OUT, false, SHORT_USEC },
	{ "endless-line-BAD-DATA", flood_with_one_line, HVP_ERROR_BAD_DATA, false, LONG_USEC },
	{ "flood-of-marks-ANSWER", flood_with_marks, -1, false, LONG_USEC },
	{ "oversize-BAD-DATA", say_too_much, HVP_ERROR_BAD_DATA, false, LONG_USEC },
	{ "largest-line-ANSWER", say_as_much_as_may_be, -1, false, LONG_USEC },
	{ "deep-BAD-DATA", nest, HVP_ERROR_BAD_DATA, false, LONG_USEC },
	{ "many-values-BAD-DATA", give_many_values, HVP_ERROR_BAD_DATA, false, LONG_USEC },
	{ "wrong-ids-TIMED-OUT", mistake_the_id, HVP_ERROR_TIMED_OUT, false, SHORT_USEC },
	{ "two-agents-ANSWER", answer_twice, -1, false, LONG_USEC },
	{ "not-utf8-BAD-DATA", say_other_bytes, HVP_ERROR_BAD_DATA, false, LONG_USEC },
	{ "nul-BAD-DATA", say_nul, HVP_ERROR_BAD_DATA, false, LONG_USEC },
	{ "not-json-BAD-DATA", say_no_json, HVP_ERROR_BAD_DATA, false, LONG_USEC },
	{ "nan-BAD-DATA", say_nan, HVP_ERROR_BAD_DATA, false, LONG_USEC },
	{ "array-BAD-DATA", say_an_array, HVP_ERROR_BAD_DATA, false, LONG_USEC },
	{ "neither-value-nor-error-BAD-DATA", say_neither, HVP_ERROR_BAD_DATA, false, LONG_USEC },
	{ "unknown-command-NOT-FOUND", not_know_it, HVP_ERROR_NOT_FOUND, false, LONG_USEC },
	{ "not-understood-CONFLICT", not_understand_it, HVP_ERROR_CONFLICT, false, LONG_USEC },
};

static void test_case(gconstpointer data)
{
	const Case *self = data;
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) first = NULL, second = NULL;
	Peer peer;
	HvpAgent *agent = start(&peer, self->misbehave, INFO, hvp_deadline_in(LONG_USEC), &error);
	long before = resident_bytes();
	gint64 started;

	g_assert_no_error(error);
	started = g_get_monotonic_time();
	first = hvp_agent_execute(agent, "ask", NULL, hvp_deadline_in(self->usec), &error);
	g_assert_cmpint(g_get_monotonic_time() - started, <,
			MIN(self->usec, LONG_USEC) + SLACK_USEC);
	if (self->code < 0) {
		g_assert_no_error(error);
		g_assert_cmpint(value_of(first), ==, 1);
	} else {
		g_assert_error(error, HVP_ERROR, self->code);
		g_assert_null(strchr(error->message, '\x1b'));
	}
	g_clear_error(&error);
	second = hvp_agent_execute(agent, "ask", NULL, hvp_deadline_in(LONG_USEC), &error);
	if (self->ends)
		g_assert_error(error, HVP_ERROR, HVP_ERROR_VM_GONE);
	else
		g_assert_cmpint(value_of(second), ==, 2);
	/* A sanitizer keeps what was freed. */
	if (!is_sanitized)
		g_assert_cmpint(resident_bytes() - before, <, MAX_GROWTH_BYTES);
	hvp_agent_free(agent);
	g_thread_join(peer.thread);
}

static void test_offers(void)
{
	g_autoptr(GError) error = NULL;
	Peer peer;
	HvpAgent *agent = start(&peer, be_good, INFO, hvp_deadline_in(LONG_USEC), &error);

	g_assert_no_error(error);
	g_assert_cmpstr(hvp_agent_get_version(agent), ==, "1.0");
	g_assert_true(hvp_agent_offers(agent, "ask"));
	g_assert_false(hvp_agent_offers(agent, "off") || hvp_agent_offers(agent, "other"));
	hvp_agent_free(agent);
	g_thread_join(peer.thread);
}

static void test_other_versions(void)
{
	static const struct {
		const char *info;
		HvpErrorCode code;
	} infos[] = {
		{ "{\"version\":\"7.2\",\"supported_commands\":[]}", HVP_ERROR_UNSUPPORTED },
		{ "{\"version\":\"2\",\"protocol\":2,\"supported_commands\":[]}",
		  HVP_ERROR_UNSUPPORTED },
		{ "{\"version\":\"0\",\"protocol\":\"1\"}", HVP_ERROR_UNSUPPORTED },
		{ "[]", HVP_ERROR_UNSUPPORTED },
		{ "{\"protocol\":1,\"supported_commands\":[]}", HVP_ERROR_BAD_DATA },
		{ "{\"version\":\"1\",\"protocol\":1}", HVP_ERROR_BAD_DATA },
		{ "{\"version\":\"1\",\"protocol\":1,\"supported_commands\":[\"ask\"]}",
		  HVP_ERROR_BAD_DATA },
	};

	for (guint i = 0; i < G_N_ELEMENTS(infos); i++) {
		g_autoptr(GError) error = NULL;
		Peer peer;

		g_assert_null(
			start(&peer, be_good, infos[i].info, hvp_deadline_in(LONG_USEC), &error));
		g_assert_error(error, HVP_ERROR, (int)infos[i].code);
		g_thread_join(peer.thread);
	}
}

static gint64 event_number(HvpAgent *agent)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode)
		data = hvp_agent_wait_event(agent, "E", hvp_deadline_in(LONG_USEC), &error);

	g_assert_no_error(error);
	return json_object_get_int_member(json_node_get_object(data), "n");
}

/* The oldest went; then nothing comes, which is no failure. */
static void test_events(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) first = NULL, none = NULL, second = NULL;
	Peer peer;
	HvpAgent *agent = start(&peer, tell_events, INFO, hvp_deadline_in(LONG_USEC), &error);
	guint kept = HVP_AGENT_MAX_EVENTS / 2;

	first = hvp_agent_execute(agent, "ask", NULL, hvp_deadline_in(LONG_USEC), &error);
	g_assert_no_error(error);
	for (guint i = 0; i < kept; i++)
		g_assert_cmpint(event_number(agent), ==, HVP_AGENT_MAX_EVENTS + 4 - kept + i);
	none = hvp_agent_wait_event(agent, "E", hvp_deadline_in(SHORT_USEC), &error);
	g_assert_null(none);
	g_assert_error(error, HVP_ERROR, HVP_ERROR_TIMED_OUT);
	g_clear_error(&error);
	second = hvp_agent_execute(agent, "ask", NULL, hvp_deadline_in(LONG_USEC), &error);
	g_assert_cmpint(value_of(second), ==, 2);
	hvp_agent_free(agent);
	g_thread_join(peer.thread);
}

static void assert_connect_fails(const char *path, HvpErrorCode code)
{
	g_autoptr(GError) error = NULL;
	gint64 started = g_get_monotonic_time();

	g_assert_null(hvp_agent_connect(path, hvp_deadline_in(SHORT_USEC), &error));
	g_assert_error(error, HVP_ERROR, (int)code);
	g_assert_cmpint(g_get_monotonic_time() - started, <, SHORT_USEC + SLACK_USEC);
}

static void test_connect(void)
{
	g_autofree char *folder = g_dir_make_tmp("hvpatch-test-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(folder, "agent", NULL);
	g_autofree char *long_path = g_strnfill(200, 'x');
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_connect_fails(long_path, HVP_ERROR_INVALID_ARGUMENT);
	assert_connect_fails(path, HVP_ERROR_NOT_FOUND);
	g_strlcpy(address.sun_path, path, sizeof address.sun_path);
	g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
	assert_connect_fails(path, HVP_ERROR_VM_GONE);
	/* Somebody else has the port: QEMU takes one client, and the next one waits. */
	g_assert_cmpint(listen(fd, 1), ==, 0);
	assert_connect_fails(path, HVP_ERROR_TIMED_OUT);
	close(fd);
	assert_connect_fails(path, HVP_ERROR_VM_GONE);
	unlink(path);
	g_assert_true(g_file_set_contents(path, "x", 1, NULL));
	assert_connect_fails(path, HVP_ERROR_INVALID_ARGUMENT);
	unlink(path);
	rmdir(folder);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/agent/offers-READ", test_offers);
	g_test_add_func("/agent/other-versions-REFUSED", test_other_versions);
	g_test_add_func("/agent/events-KEPT", test_events);
	g_test_add_func("/agent/connect-REFUSED", test_connect);
	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *path = g_strconcat("/agent/", cases[i].name, NULL);

		g_test_add_data_func(path, &cases[i], test_case);
	}
	return g_test_run();
}
