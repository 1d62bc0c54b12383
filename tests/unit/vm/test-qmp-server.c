/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The server's side of QMP, with hvpatch's own client and a script in place of libvirt. */
#include "vm/qmp-server.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vm/qmp.h"

#define WAIT_USEC (10 * G_USEC_PER_SEC)

/* One command that is to come, and what is said to it. */
typedef struct {
	const char *command;
	const char *answer; /* NULL: fails with @code */
	HvpErrorCode code;
	bool has_fd;
	const char *event; /* sent before the answer */
} Step;

typedef struct {
	const Step *steps;
	gsize step_count, next;
	HvpQmpServer *server;
	int fd; /* the server's end, borrowed */
	const char *refusal;
	HvpErrorCode ended; /* how the server ended */
	GThread *thread;
} Stage;

static char *run_step(gpointer data, const char *command, int fd, GError **error)
{
	Stage *self = data;
	const Step *step = &self->steps[self->next];

	g_assert_cmpuint(self->next, <, self->step_count);
	self->next++;
	g_assert_cmpstr(command, ==, step->command);
	g_assert_cmpint(fd >= 0, ==, step->has_fd);
	if (fd >= 0)
		g_assert_cmpint(write(fd, "x", 1), ==, 1);
	if (step->event != NULL)
		g_assert_true(hvp_qmp_server_send_event(self->server, step->event, 1, 2,
							"{\"guest\":true}", NULL));
	if (step->answer != NULL)
		return g_strdup(step->answer);
	hvp_error_set(error, step->code, "no \"answer\"");
	return NULL;
}

static bool serve(Stage *self, GError **error)
{
	struct pollfd pollfd = { .fd = self->fd, .events = POLLIN };

	g_assert_cmpint(poll(&pollfd, 1, (int)(WAIT_USEC / 1000)), ==, 1);
	if (!hvp_qmp_server_receive(self->server, error))
		return false;
	while (hvp_qmp_server_has_request(self->server))
		if (!hvp_qmp_server_serve(self->server, error))
			return false;
	return true;
}

static gpointer run_server(gpointer data)
{
	Stage *self = data;
	g_autoptr(GError) error = NULL;

	if (self->refusal != NULL) {
		g_autoptr(GError)
			reason = g_error_new_literal(HVP_ERROR, HVP_ERROR_FAULT, self->refusal);

		g_assert_true(hvp_qmp_server_refuse(self->server, reason, NULL));
	} else {
		g_assert_true(hvp_qmp_server_greet(self->server, NULL));
	}
	while (serve(self, &error))
		;
	self->ended = (HvpErrorCode)error->code;
	hvp_qmp_server_free(self->server);
	return NULL;
}

/* Starts the server; returns the client's end. */
static int start(Stage *self, const Step *steps, gsize step_count)
{
	int ends[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), ==, 0);
	self->steps = steps;
	self->step_count = step_count;
	self->fd = ends[1];
	self->server = hvp_qmp_server_new(ends[1], run_step, self);
	self->thread = g_thread_new("qmp-server", run_server, self);
	return ends[0];
}

static void finish(Stage *self, HvpErrorCode ended)
{
	g_thread_join(self->thread);
	g_assert_cmpint(self->ended, ==, ended);
	g_assert_cmpuint(self->next, ==, self->step_count);
}

static HvpDeadline soon(void)
{
	return hvp_deadline_in(WAIT_USEC);
}

static HvpQmp *negotiate(int fd)
{
	g_autoptr(GError) error = NULL;
	HvpQmp *qmp = hvp_qmp_negotiate(fd, "domain test", soon(), &error);

	g_assert_no_error(error);
	return qmp;
}

static void test_commands(void)
{
	static const Step steps[] = {
		{ .command = "{\"execute\":\"query-status\"}",
		  .answer = "{\"return\":{\"status\":\"running\",\"running\":true},"
			    "\"id\":\"libvirt-7\"}" },
		{ .command = "{\"execute\":\"human-monitor-command\","
			     "\"arguments\":{\"command-line\":\"info\"}}",
		  .answer = "{\"return\":\"text\\r\\n\"}",
		  .event = "RESET" },
		{ .command = "{\"execute\":\"nonsense\"}",
		  .answer = "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"what?\"}}" },
		{ .command = "{\"execute\":\"cont\"}", .code = HVP_ERROR_BUSY },
	};
	Stage stage = { 0 };
	g_autoptr(HvpQmp) qmp = negotiate(start(&stage, steps, G_N_ELEMENTS(steps)));
	g_autoptr(GError) error = NULL;
	g_autofree char *text = NULL;
	bool running;

	g_assert_true(hvp_qmp_query_status(qmp, soon(), &running, NULL, &error));
	g_assert_true(running);
	text = hvp_qmp_monitor_command(qmp, "info", soon(), &error);
	g_assert_cmpstr(text, ==, "text\r\n");
	g_assert_cmpuint(hvp_qmp_get_event_count(qmp, HVP_QMP_EVENT_RESET), ==, 1);
	g_assert_null(hvp_qmp_execute(qmp, "nonsense", NULL, soon(), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
	g_clear_error(&error);
	g_assert_null(hvp_qmp_execute(qmp, "cont", NULL, soon(), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	g_assert_nonnull(strstr(error->message, "no \"answer\""));
	g_clear_pointer(&qmp, hvp_qmp_free);
	finish(&stage, HVP_ERROR_VM_GONE);
}

static void test_descriptor(void)
{
	static const Step steps[] = {
		{ .command = "{\"execute\":\"getfd\"}",
		  .answer = "{\"return\":{}}",
		  .has_fd = true },
		{ .command = "{\"execute\":\"query-status\"}", .answer = "{\"return\":{}}" },
	};
	Stage stage = { 0 };
	g_autoptr(HvpQmp) qmp = negotiate(start(&stage, steps, G_N_ELEMENTS(steps)));
	g_autoptr(JsonNode) first = NULL;
	g_autoptr(JsonNode) second = NULL;
	int ends[2];
	char byte;

	g_assert_cmpint(pipe2(ends, O_CLOEXEC), ==, 0);
	first = hvp_qmp_execute_with_fd(qmp, "getfd", NULL, ends[1], soon(), NULL);
	second = hvp_qmp_execute(qmp, "query-status", NULL, soon(), NULL);
	g_assert_nonnull(first);
	g_assert_nonnull(second);
	close(ends[1]);
	g_assert_cmpint(read(ends[0], &byte, 1), ==, 1);
	/* The server has closed its copy. */
	g_assert_cmpint(read(ends[0], &byte, 1), ==, 0);
	close(ends[0]);
	g_clear_pointer(&qmp, hvp_qmp_free);
	finish(&stage, HVP_ERROR_VM_GONE);
}

static void test_gone(void)
{
	static const Step steps[] = { { .command = "{\"execute\":\"cont\"}",
					.code = HVP_ERROR_VM_GONE } };
	Stage stage = { 0 };
	g_autoptr(HvpQmp) qmp = negotiate(start(&stage, steps, G_N_ELEMENTS(steps)));
	g_autoptr(GError) error = NULL;

	g_assert_null(hvp_qmp_execute(qmp, "cont", NULL, soon(), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_VM_GONE);
	finish(&stage, HVP_ERROR_VM_GONE);
}

static void test_refusal(void)
{
	Stage stage = { .refusal = "no connection to libvirt" };
	int fd = start(&stage, NULL, 0);
	g_autoptr(GError) error = NULL;

	g_assert_null(hvp_qmp_negotiate(fd, "domain test", soon(), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	g_assert_nonnull(strstr(error->message, "no connection to libvirt"));
	finish(&stage, HVP_ERROR_VM_GONE);
}

/* --- clients that are not ours --- */

static void send_text(int fd, const char *text)
{
	g_assert_cmpint(send(fd, text, strlen(text), MSG_NOSIGNAL), ==, (gssize)strlen(text));
}

static void expect_line(int fd, const char *expected)
{
	g_autoptr(GString) line = g_string_new(NULL);
	char byte = 0;

	while (byte != '\n' && read(fd, &byte, 1) == 1)
		g_string_append_c(line, byte);
	g_assert_cmpstr(line->str, ==, expected);
}

#define GREETING "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\r\n"
#define FAILURE(class_name, text) "{\"error\":{\"class\":\"" class_name "\",\"desc\":\"" text "\"}"

static void test_garbage(void)
{
	static const Step steps[] = {
		{ .command = "{\"execute\":\"a\"}", .answer = "[]" },
		{ .command = "{\"execute\":\"b\"}", .answer = "{\"id\":1}" },
		{ .command = "{\"execute\":\"c\",\"arguments\":{\"d\":18}}",
		  .answer = "{\"return\":[1,2]}" },
	};
	Stage stage = { 0 };
	int fd = start(&stage, steps, G_N_ELEMENTS(steps));

	expect_line(fd, GREETING);
	send_text(fd, "{\"execute\":\"cont\",\"id\":7}\n");
	expect_line(fd, FAILURE("CommandNotFound",
				"expecting qmp_capabilities first") ",\"id\":7}\r\n");
	send_text(fd, "nonsense\n{}\n{\"execute\":1}\n");
	expect_line(fd, FAILURE("GenericError", "a request is not JSON") "}\r\n");
	expect_line(fd, FAILURE("GenericError", "a request without \\\"execute\\\"") "}\r\n");
	expect_line(fd, FAILURE("GenericError", "a request without \\\"execute\\\"") "}\r\n");
	send_text(fd, "{\"execute\":\"qmp_capabilities\"}\n");
	expect_line(fd, "{\"return\":{}}\r\n");
	/* Three at once are answered in their order, whatever the answers are worth. */
	send_text(fd, "{\"execute\":\"a\",\"id\":1}\n{\"execute\":\"b\",\"id\":{\"x\":2}}\n"
		      "{\"execute\":\"c\",\"arguments\":{\"d\":18},\"id\":\"3\"}\n");
	expect_line(fd, FAILURE("GenericError", "an answer is not an object") ",\"id\":1}\r\n");
	expect_line(fd,
		    FAILURE("GenericError",
			    "an answer with neither return nor error") ",\"id\":{\"x\":2}}\r\n");
	expect_line(fd, "{\"return\":[1,2],\"id\":\"3\"}\r\n");
	close(fd);
	finish(&stage, HVP_ERROR_VM_GONE);
}

static void test_endless_request(void)
{
	Stage stage = { 0 };
	int fd = start(&stage, NULL, 0);
	g_autofree char *much = g_strnfill(HVP_QMP_SERVER_MAX_REQUEST_BYTES, 'x');

	expect_line(fd, GREETING);
	for (gsize sent = 0; sent < 2 * HVP_QMP_SERVER_MAX_REQUEST_BYTES;) {
		ssize_t some = send(fd, much, HVP_QMP_SERVER_MAX_REQUEST_BYTES, MSG_NOSIGNAL);

		if (some <= 0)
			break;
		sent += (gsize)some;
	}
	finish(&stage, HVP_ERROR_BAD_DATA);
	close(fd);
}

static void test_huge_answer(void)
{
	g_autofree char *inside = g_strnfill(HVP_QMP_SERVER_MAX_ANSWER_BYTES, 'x');
	g_autofree char *answer = g_strdup_printf("{\"return\":\"%s\"}", inside);
	const Step steps[] = { { .command = "{\"execute\":\"query-all\"}", .answer = answer } };
	Stage stage = { 0 };
	g_autoptr(HvpQmp) qmp = negotiate(start(&stage, steps, G_N_ELEMENTS(steps)));
	g_autoptr(GError) error = NULL;

	g_assert_null(hvp_qmp_execute(qmp, "query-all", NULL, soon(), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	g_clear_pointer(&qmp, hvp_qmp_free);
	finish(&stage, HVP_ERROR_VM_GONE);
}

/* Not before the client has negotiated, for it would take an event for the greeting. */
static void test_early_event(void)
{
	int ends[2];
	HvpQmpServer *server;
	char byte;

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), ==, 0);
	server = hvp_qmp_server_new(ends[1], run_step, NULL);
	g_assert_true(hvp_qmp_server_send_event(server, "STOP", 1, 2, NULL, NULL));
	g_assert_cmpint(recv(ends[0], &byte, 1, MSG_DONTWAIT), ==, -1);
	hvp_qmp_server_free(server);
	close(ends[0]);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/qmp-server/commands-ANSWERED", test_commands);
	g_test_add_func("/qmp-server/descriptor-PASSED_ON_AND_CLOSED", test_descriptor);
	g_test_add_func("/qmp-server/domain-gone-CLOSED", test_gone);
	g_test_add_func("/qmp-server/no-libvirt-REFUSED", test_refusal);
	g_test_add_func("/qmp-server/garbage-ERROR", test_garbage);
	g_test_add_func("/qmp-server/endless-request-BAD_DATA", test_endless_request);
	g_test_add_func("/qmp-server/huge-answer-ERROR", test_huge_answer);
	g_test_add_func("/qmp-server/event-before-negotiation-HELD_BACK", test_early_event);
	return g_test_run();
}
