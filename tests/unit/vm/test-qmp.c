/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#include "scripted-qmp.h"

#define SHORT_USEC 50000
#define LONG_USEC (10 * G_USEC_PER_SEC)
#define ASK_STATUS "\"execute\":\"query-status\""
#define RUNNING "{\"return\":{\"status\":\"running\",\"running\":true},\"id\":@ID@}\r\n"

static HvpDeadline shortly(void)
{
	return hvp_deadline_in(SHORT_USEC);
}

static HvpDeadline later(void)
{
	return hvp_deadline_in(LONG_USEC);
}

/* A folder for sockets, removed with what is in it. */
static char *make_folder(void)
{
	char *folder = g_dir_make_tmp("hvpatch-test-XXXXXX", NULL);

	g_assert_nonnull(folder);
	return folder;
}

static void remove_folder(char *folder, const char *path)
{
	g_unlink(path);
	g_rmdir(folder);
}

static void assert_connect_fails(const char *path, HvpErrorCode code, const char *words)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpQmp) qmp = hvp_qmp_connect(path, shortly(), &error);

	g_assert_null(qmp);
	g_assert_error(error, HVP_ERROR, (int)code);
	g_assert_nonnull(strstr(error->message, words));
}

static void test_connect_missing(void)
{
	assert_connect_fails("/nonexistent/qmp", HVP_ERROR_NOT_FOUND, "/nonexistent/qmp");
}

static void test_connect_too_long(void)
{
	g_autofree char *path = g_strnfill(200, 'x');

	assert_connect_fails(path, HVP_ERROR_INVALID_ARGUMENT, "too long");
}

static void test_connect_regular_file(void)
{
	g_autofree char *folder = make_folder();
	g_autofree char *path = g_build_filename(folder, "file", NULL);

	g_assert_true(g_file_set_contents(path, "x", 1, NULL));
	assert_connect_fails(path, HVP_ERROR_INVALID_ARGUMENT, "not a socket");
	remove_folder(folder, path);
}

static void test_connect_nobody_listens(void)
{
	g_autofree char *folder = make_folder();
	g_autofree char *path = g_build_filename(folder, "qmp", NULL);

	close(scripted_listen_at(path));
	assert_connect_fails(path, HVP_ERROR_VM_GONE, "nobody listens");
	remove_folder(folder, path);
}

static void test_connect_forbidden(void)
{
	g_autofree char *folder = make_folder();
	g_autofree char *path = g_build_filename(folder, "qmp", NULL);
	int fd = scripted_listen_at(path);

	g_assert_cmpint(g_chmod(path, 0), ==, 0);
	g_assert_cmpint(g_chmod(folder, 0755), ==, 0);
	if (geteuid() == 0)
		g_assert_cmpint(seteuid(65534), ==, 0);
	assert_connect_fails(path, HVP_ERROR_PERMISSION, path);
	if (getuid() == 0)
		g_assert_cmpint(seteuid(0), ==, 0);
	close(fd);
	remove_folder(folder, path);
}

/* What QEMU does with a second client: the connection is queued, nobody greets. */
static void test_connect_held_by_other(void)
{
	g_autofree char *folder = make_folder();
	g_autofree char *path = g_build_filename(folder, "qmp", NULL);
	int fd = scripted_listen_at(path);

	assert_connect_fails(path, HVP_ERROR_BUSY, "another client holds the monitor");
	close(fd);
	remove_folder(folder, path);
}

static void test_connect_queue_full(void)
{
	g_autofree char *folder = make_folder();
	g_autofree char *path = g_build_filename(folder, "qmp", NULL);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = scripted_listen_at(path);
	int clients[8];

	g_strlcpy(address.sun_path, path, sizeof address.sun_path);
	for (gsize i = 0; i < G_N_ELEMENTS(clients); i++) {
		clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (connect(clients[i], (struct sockaddr *)&address, sizeof address) < 0)
			g_assert_cmpint(errno, ==, EAGAIN);
	}
	assert_connect_fails(path, HVP_ERROR_BUSY, "another client holds the monitor");
	for (gsize i = 0; i < G_N_ELEMENTS(clients); i++)
		close(clients[i]);
	close(fd);
	remove_folder(folder, path);
}

static void test_connect_negotiates(void)
{
	static const ScriptedStep steps[] = {SCRIPTED_NEGOTIATE, {ASK_STATUS, RUNNING}};
	g_autofree char *folder = make_folder();
	g_autofree char *path = g_build_filename(folder, "qmp", NULL);
	g_autoptr(GError) error = NULL;
	g_autofree char *status = NULL;
	bool running = false;
	ScriptedQmp server;
	HvpQmp *qmp;

	scripted_listen(&server, path, steps, G_N_ELEMENTS(steps));
	qmp = hvp_qmp_connect(path, later(), &error);
	g_assert_no_error(error);
	g_assert_true(hvp_qmp_query_status(qmp, later(), &running, &status, &error));
	g_assert_true(running);
	g_assert_cmpstr(status, ==, "running");
	hvp_qmp_free(qmp);
	scripted_finish(&server);
	remove_folder(folder, path);
}

typedef struct {
	int listen_fd;
	const char *text;
} Greeter;

static gpointer greet(gpointer data)
{
	const Greeter *greeter = data;
	int fd = accept(greeter->listen_fd, NULL, NULL);

	scripted_send(fd, greeter->text, strlen(greeter->text));
	close(fd);
	return NULL;
}

static void assert_greeting_fails(const char *text, HvpErrorCode code, const char *words)
{
	g_autofree char *folder = make_folder();
	g_autofree char *path = g_build_filename(folder, "qmp", NULL);
	Greeter greeter = {scripted_listen_at(path), text};
	GThread *thread = g_thread_new("greeter", greet, &greeter);

	assert_connect_fails(path, code, words);
	g_thread_join(thread);
	close(greeter.listen_fd);
	remove_folder(folder, path);
}

static void test_connect_closes_early(void)
{
	assert_greeting_fails("", HVP_ERROR_VM_GONE, "closed");
	assert_greeting_fails("{\"QMP\"", HVP_ERROR_VM_GONE, "closed");
}

static void test_connect_other_protocol(void)
{
	assert_greeting_fails("SSH-2.0-OpenSSH\r\n", HVP_ERROR_BAD_DATA, "not JSON");
	assert_greeting_fails("{\"return\":{}}\n", HVP_ERROR_BAD_DATA, "no greeting");
	assert_greeting_fails("[]\n", HVP_ERROR_BAD_DATA, "not an object");
}

/* Asks once against @answer, which must fail so; returns the client and the server. */
static HvpQmp *assert_answer_fails(ScriptedQmp *server, const char *answer, HvpErrorCode code,
				   const char *words)
{
	ScriptedStep *steps = g_new0(ScriptedStep, 1);
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) node = NULL;
	HvpQmp *qmp;

	steps[0] = (ScriptedStep){ASK_STATUS, answer};
	qmp = hvp_qmp_new_from_fd(scripted_start(server, steps, 1));
	node = hvp_qmp_execute(qmp, "query-status", NULL,
			       code == HVP_ERROR_TIMED_OUT ? shortly() : later(), &error);
	g_assert_null(node);
	g_assert_error(error, HVP_ERROR, (int)code);
	g_assert_nonnull(strstr(error->message, words));
	return qmp;
}

static void assert_answer(const char *answer, HvpErrorCode code, const char *words)
{
	ScriptedQmp server;

	hvp_qmp_free(assert_answer_fails(&server, answer, code, words));
	scripted_finish(&server);
	g_free((gpointer)server.steps);
}

/* As above, and the connection must refuse all that follows. */
static void assert_answer_breaks(const char *answer, const char *words)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) node = NULL;
	ScriptedQmp server;
	HvpQmp *qmp = assert_answer_fails(&server, answer, HVP_ERROR_BAD_DATA, words);

	node = hvp_qmp_execute(qmp, "query-status", NULL, shortly(), &error);
	g_assert_error(error, HVP_ERROR, HVP_ERROR_VM_GONE);
	g_clear_error(&error);
	g_assert_false(hvp_qmp_drain_events(qmp, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_VM_GONE);
	hvp_qmp_free(qmp);
	scripted_finish(&server);
	g_free((gpointer)server.steps);
}

static void test_execute_refused(void)
{
	assert_answer("{\"error\":{\"class\":\"GenericError\",\"desc\":\"a\\u001b[31mred\"},"
		      "\"id\":@ID@}\n",
		      HVP_ERROR_CONFLICT, "QEMU refused query-status: a\\x1b[31mred");
	assert_answer("{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"no\"},\"id\":@ID@}\n",
		      HVP_ERROR_NOT_FOUND, "refused query-status: no");
	assert_answer("{\"error\":{\"class\":\"GenericError\",\"desc\":\"what\"}}\n",
		      HVP_ERROR_CONFLICT, "what");
	assert_answer("{\"error\":7,\"id\":@ID@}\n", HVP_ERROR_BAD_DATA, "not an object");
	assert_answer("{\"error\":{},\"id\":@ID@}\n", HVP_ERROR_BAD_DATA, "class");
}

static void test_execute_silence(void)
{
	gint64 start = g_get_monotonic_time();

	assert_answer(NULL, HVP_ERROR_TIMED_OUT, "in time");
	assert_answer("{\"return\"", HVP_ERROR_TIMED_OUT, "in time");
	/* An answer to somebody else, or with an id of another type, is none. */
	assert_answer("{\"return\":{},\"id\":\"other\"}\n", HVP_ERROR_TIMED_OUT, "in time");
	assert_answer("{\"return\":{},\"id\":1}\n", HVP_ERROR_TIMED_OUT, "in time");
	assert_answer("{\"return\":{}}\n", HVP_ERROR_TIMED_OUT, "in time");
	g_assert_cmpint(g_get_monotonic_time() - start, <, LONG_USEC);
}

static void test_execute_junk(void)
{
	assert_answer_breaks("hello\n", "not JSON");
	assert_answer_breaks("\n", "not an object");
	assert_answer_breaks("[]\n", "not an object");
	assert_answer_breaks("{\"id\":@ID@}\n", "neither");
	assert_answer_breaks("{\"a\":\"\xff\"}\n", "not UTF-8");
}

static void test_execute_deep_nesting(void)
{
	g_autofree char *deep = g_strnfill(100000, '[');
	g_autofree char *line = g_strconcat(deep, "\n", NULL);

	assert_answer_breaks(line, "nested too deeply");
	/* Brackets inside a string do not count, an escaped quote does not end it. */
	g_clear_pointer(&line, g_free);
	line = g_strconcat("{\"error\":{\"class\":\"x\",\"desc\":\"\\\"", deep,
			   "\"},\"id\":@ID@}\n", NULL);
	assert_answer(line, HVP_ERROR_CONFLICT, "[[[[");
}

static void test_execute_many_values(void)
{
	g_autofree char *commas = g_strnfill(HVP_QMP_MAX_VALUES + 1, ',');
	g_autofree char *line = g_strconcat("[", commas, "]\n", NULL);

	assert_answer_breaks(line, "too many values");
}

static void test_execute_endless_line(void)
{
	g_autofree char *line = g_strnfill(HVP_QMP_MAX_LINE_BYTES + 100000, 'x');
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) node = NULL;
	const ScriptedStep steps[] = {{ASK_STATUS, line}};
	ScriptedQmp server;
	HvpQmp *qmp = hvp_qmp_new_from_fd(scripted_start(&server, steps, 1));

	node = hvp_qmp_execute(qmp, "query-status", NULL, later(), &error);
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	g_assert_nonnull(strstr(error->message, "endless line"));
	hvp_qmp_free(qmp);
	scripted_finish(&server);
}

/* A peer of its own behaviour at @fd. */
static gpointer flood(gpointer data)
{
	int fd = GPOINTER_TO_INT(data);
	static const char event[] = "{\"event\":\"NOISE\"}\n";

	while (send(fd, event, sizeof event - 1, MSG_NOSIGNAL) > 0)
		;
	close(fd);
	return NULL;
}

static gpointer drip(gpointer data)
{
	int fd = GPOINTER_TO_INT(data);

	while (send(fd, "x", 1, MSG_NOSIGNAL) > 0)
		g_usleep(10000);
	close(fd);
	return NULL;
}

static gpointer close_at_once(gpointer data)
{
	close(GPOINTER_TO_INT(data));
	return NULL;
}

static void assert_peer_fails(GThreadFunc behaviour, HvpErrorCode code)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) node = NULL;
	gint64 start = g_get_monotonic_time();
	GThread *thread;
	HvpQmp *qmp;
	int fds[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	thread = g_thread_new("peer", behaviour, GINT_TO_POINTER(fds[1]));
	qmp = hvp_qmp_new_from_fd(fds[0]);
	node = hvp_qmp_execute(qmp, "query-status", NULL, shortly(), &error);
	g_assert_error(error, HVP_ERROR, (int)code);
	g_assert_cmpint(g_get_monotonic_time() - start, <, LONG_USEC);
	hvp_qmp_free(qmp);
	g_thread_join(thread);
}

static void test_execute_event_flood(void)
{
	assert_peer_fails(flood, HVP_ERROR_TIMED_OUT);
}

static void test_execute_drip(void)
{
	assert_peer_fails(drip, HVP_ERROR_TIMED_OUT);
}

static void test_execute_closed(void)
{
	assert_peer_fails(close_at_once, HVP_ERROR_VM_GONE);
}

/* A peer that reads nothing: the request fills the socket's buffer, then waits. */
static void test_execute_never_read(void)
{
	g_autofree char *text = g_strnfill(8 << 20, 'x');
	g_autoptr(JsonObject) arguments = json_object_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) node = NULL;
	HvpQmp *qmp;
	int fds[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	qmp = hvp_qmp_new_from_fd(fds[0]);
	json_object_set_string_member(arguments, "text", text);
	node = hvp_qmp_execute(qmp, "x", arguments, shortly(), &error);
	g_assert_error(error, HVP_ERROR, HVP_ERROR_TIMED_OUT);
	g_clear_error(&error);
	/* Half a request lies there: nothing more can be said. */
	g_assert_null(hvp_qmp_execute(qmp, "x", NULL, shortly(), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_VM_GONE);
	hvp_qmp_free(qmp);
	close(fds[1]);
}

static void test_execute_late_answer(void)
{
	g_autofree char *late =
		g_strdup_printf("{\"return\":{\"status\":\"paused\",\"running\":false},"
				"\"id\":\"hvpatch-%d-1\"}\n" RUNNING,
				(int)getpid());
	const ScriptedStep steps[] = {{ASK_STATUS, NULL}, {ASK_STATUS, late}};
	g_autoptr(GError) error = NULL;
	bool running = false;
	ScriptedQmp server;
	HvpQmp *qmp = hvp_qmp_new_from_fd(scripted_start(&server, steps, 2));

	g_assert_false(hvp_qmp_query_status(qmp, shortly(), &running, NULL, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_TIMED_OUT);
	g_clear_error(&error);
	g_assert_true(hvp_qmp_query_status(qmp, later(), &running, NULL, &error));
	g_assert_no_error(error);
	g_assert_true(running);
	hvp_qmp_free(qmp);
	scripted_finish(&server);
}

static void test_execute_events(void)
{
	static const ScriptedStep steps[] = {
		{ASK_STATUS, "{\"event\":\"STOP\"}\n{\"event\":\"RESUME\",\"data\":{}}\n"
			     "{\"event\":\"STOP\"}\n{\"event\":7}\n{\"event\":\"RTC_CHANGE\"}\n"
			     "{\"event\":\"RESET\"}\n" RUNNING "{\"event\":\"SHUTDOWN\"}\n"},
	};
	static const guint64 expected[HVP_QMP_EVENT_COUNT] = {2, 1, 1, 0, 2};
	g_autoptr(GError) error = NULL;
	bool running = false;
	ScriptedQmp server;
	HvpQmp *qmp = hvp_qmp_new_from_fd(scripted_start(&server, steps, 1));

	g_assert_true(hvp_qmp_query_status(qmp, later(), &running, NULL, &error));
	for (int event = 0; event < HVP_QMP_EVENT_COUNT; event++)
		g_assert_cmpuint(hvp_qmp_get_event_count(qmp, event), ==, expected[event]);
	g_assert_true(hvp_qmp_drain_events(qmp, &error));
	g_assert_cmpuint(hvp_qmp_get_event_count(qmp, HVP_QMP_EVENT_SHUTDOWN), ==, 1);
	hvp_qmp_free(qmp);
	scripted_finish(&server);
}

static void test_execute_arguments(void)
{
	static const ScriptedStep steps[] = {
		{"\"execute\":\"stop-\\\"it\",\"arguments\":{\"a\":1,\"b\":\"x\\ny\"}",
		 "{\"return\":[1,2],\"id\":@ID@}\n"},
	};
	g_autoptr(JsonObject) arguments = json_object_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) node = NULL;
	ScriptedQmp server;
	HvpQmp *qmp = hvp_qmp_new_from_fd(scripted_start(&server, steps, 1));

	json_object_set_int_member(arguments, "a", 1);
	json_object_set_string_member(arguments, "b", "x\ny");
	node = hvp_qmp_execute(qmp, "stop-\"it", arguments, later(), &error);
	g_assert_no_error(error);
	hvp_qmp_free(qmp);
	scripted_finish(&server);
	g_assert_cmpuint(json_array_get_length(json_node_get_array(node)), ==, 2);
	g_assert_cmpint(json_object_get_int_member(arguments, "a"), ==, 1);
}

static void test_monitor_command(void)
{
	static const ScriptedStep steps[] = {
		{"\"execute\":\"human-monitor-command\","
		 "\"arguments\":{\"command-line\":\"info x\"}",
		 "{\"return\":\"a\\r\\nb\\r\\n\",\"id\":@ID@}\n"},
		{"\"execute\":\"human-monitor-command\","
		 "\"arguments\":{\"command-line\":\"info x\"}",
		 "{\"return\":{},\"id\":@ID@}\n"},
	};
	g_autoptr(GError) error = NULL;
	g_autofree char *text = NULL;
	ScriptedQmp server;
	HvpQmp *qmp = hvp_qmp_new_from_fd(scripted_start(&server, steps, 2));

	text = hvp_qmp_monitor_command(qmp, "info x", later(), &error);
	g_assert_cmpstr(text, ==, "a\r\nb\r\n");
	g_assert_null(hvp_qmp_monitor_command(qmp, "info x", later(), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	hvp_qmp_free(qmp);
	scripted_finish(&server);
}

/* Takes one request and the descriptor that comes with it, which it returns. */
static gpointer receive_descriptor(gpointer data)
{
	int fd = GPOINTER_TO_INT(data);
	char text[256] = {0};
	struct iovec iovec = {text, sizeof text - 1};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr message = {.msg_iov = &iovec,
				 .msg_iovlen = 1,
				 .msg_control = control.space,
				 .msg_controllen = sizeof control.space};
	g_autofree char *answer =
		g_strdup_printf("{\"return\":{},\"id\":\"hvpatch-%d-1\"}\n", (int)getpid());
	int received;

	g_assert_cmpint(recvmsg(fd, &message, 0), >, 0);
	g_assert_true(g_str_has_suffix(text, "}\n"));
	g_assert_cmpint(control.header.cmsg_type, ==, SCM_RIGHTS);
	g_assert_cmpint(control.header.cmsg_len, ==, CMSG_LEN(sizeof(int)));
	memcpy(&received, CMSG_DATA(&control.header), sizeof received);
	scripted_send(fd, answer, strlen(answer));
	return GINT_TO_POINTER(received);
}

static void test_execute_with_fd(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) node = NULL;
	struct stat sent, received;
	int pipe_fds[2], fds[2], fd;
	GThread *thread;
	HvpQmp *qmp;

	g_assert_cmpint(pipe(pipe_fds), ==, 0);
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	thread = g_thread_new("peer", receive_descriptor, GINT_TO_POINTER(fds[1]));
	qmp = hvp_qmp_new_from_fd(fds[0]);
	node = hvp_qmp_execute_with_fd(qmp, "getfd", NULL, pipe_fds[0], later(), &error);
	g_assert_no_error(error);
	fd = GPOINTER_TO_INT(g_thread_join(thread));
	g_assert_cmpint(fstat(pipe_fds[0], &sent), ==, 0);
	g_assert_cmpint(fstat(fd, &received), ==, 0);
	g_assert_cmpuint(sent.st_ino, ==, received.st_ino);
	hvp_qmp_free(qmp);
	close(fd);
	close(fds[1]);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

/* The rest of a line that comes a little later. */
static gpointer finish_line(gpointer data)
{
	g_usleep(SHORT_USEC / 2);
	scripted_send(GPOINTER_TO_INT(data), "STOP\"}\n", 7);
	return NULL;
}

static void test_steal_in_mid_line(void)
{
	g_autoptr(GError) error = NULL;
	GThread *thread;
	HvpQmp *qmp;
	int fds[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	qmp = hvp_qmp_new_from_fd(fds[0]);
	scripted_send(fds[1], "{\"event\":\"", 10);
	g_assert_true(hvp_qmp_drain_events(qmp, &error));
	thread = g_thread_new("peer", finish_line, GINT_TO_POINTER(fds[1]));
	g_assert_cmpint(hvp_qmp_steal_fd(qmp), ==, fds[0]);
	g_thread_join(thread);
	g_assert_cmpuint(hvp_qmp_get_event_count(qmp, HVP_QMP_EVENT_STOP), ==, 1);
	g_assert_cmpint(hvp_qmp_get_fd(qmp), ==, -1);
	g_assert_null(hvp_qmp_execute(qmp, "x", NULL, shortly(), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	hvp_qmp_free(qmp);
	close(fds[0]);
	close(fds[1]);
}

static void test_members(void)
{
	g_autoptr(JsonNode) node = json_from_string(
		"{\"s\":\"x\",\"i\":5,\"b\":true,\"n\":null,\"d\":1.5,\"o\":{}}", NULL);
	JsonObject *object = hvp_qmp_as_object(node, "x", NULL);
	static const char *const names[] = {"missing", "n", "d", "o"};
	const char *text;
	gint64 number;
	bool yes;

	g_assert_true(hvp_qmp_member_string(object, "s", &text, NULL));
	g_assert_cmpstr(text, ==, "x");
	g_assert_true(hvp_qmp_member_int(object, "i", &number, NULL));
	g_assert_cmpint(number, ==, 5);
	g_assert_true(hvp_qmp_member_bool(object, "b", &yes, NULL));
	g_assert_true(yes);
	for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_false(hvp_qmp_member_string(object, names[i], &text, NULL));
		g_assert_false(hvp_qmp_member_bool(object, names[i], &yes, NULL));
		g_assert_false(hvp_qmp_member_int(object, names[i], &number, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
	g_assert_null(hvp_qmp_as_array(node, "x", NULL));
	g_assert_null(hvp_qmp_as_object(NULL, "x", NULL));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/qmp/connect/missing-NOT_FOUND", test_connect_missing);
	g_test_add_func("/qmp/connect/long-path-INVALID_ARGUMENT", test_connect_too_long);
	g_test_add_func("/qmp/connect/regular-file-INVALID_ARGUMENT", test_connect_regular_file);
	g_test_add_func("/qmp/connect/nobody-listens-VM_GONE", test_connect_nobody_listens);
	g_test_add_func("/qmp/connect/forbidden-PERMISSION", test_connect_forbidden);
	g_test_add_func("/qmp/connect/held-by-other-BUSY", test_connect_held_by_other);
	g_test_add_func("/qmp/connect/queue-full-BUSY", test_connect_queue_full);
	g_test_add_func("/qmp/connect/negotiates", test_connect_negotiates);
	g_test_add_func("/qmp/connect/closes-early-VM_GONE", test_connect_closes_early);
	g_test_add_func("/qmp/connect/other-protocol-BAD_DATA", test_connect_other_protocol);
	g_test_add_func("/qmp/execute/refused-CONFLICT", test_execute_refused);
	g_test_add_func("/qmp/execute/silence-TIMED_OUT", test_execute_silence);
	g_test_add_func("/qmp/execute/junk-BAD_DATA", test_execute_junk);
	g_test_add_func("/qmp/execute/deep-nesting-BAD_DATA", test_execute_deep_nesting);
	g_test_add_func("/qmp/execute/many-values-BAD_DATA", test_execute_many_values);
	g_test_add_func("/qmp/execute/endless-line-BAD_DATA", test_execute_endless_line);
	g_test_add_func("/qmp/execute/event-flood-TIMED_OUT", test_execute_event_flood);
	g_test_add_func("/qmp/execute/drip-TIMED_OUT", test_execute_drip);
	g_test_add_func("/qmp/execute/closed-VM_GONE", test_execute_closed);
	g_test_add_func("/qmp/execute/never-read-TIMED_OUT", test_execute_never_read);
	g_test_add_func("/qmp/execute/late-answer-skipped", test_execute_late_answer);
	g_test_add_func("/qmp/execute/events-counted", test_execute_events);
	g_test_add_func("/qmp/execute/arguments", test_execute_arguments);
	g_test_add_func("/qmp/execute/with-fd", test_execute_with_fd);
	g_test_add_func("/qmp/monitor-command", test_monitor_command);
	g_test_add_func("/qmp/steal-in-mid-line", test_steal_in_mid_line);
	g_test_add_func("/qmp/members", test_members);
	return g_test_run();
}
