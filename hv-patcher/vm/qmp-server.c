/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/qmp-server.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/json-text.h"
#include "base/unix-message.h"
#include "vm/qmp.h"

#define RECEIVE_BYTES 65536
#define SEND_USEC (5 * G_USEC_PER_SEC)
#define MAX_REQUEST_VALUES 4096

struct HvpQmpServer {
	int fd;
	int attached_fd; /* came with what is pending; -1: none */
	bool negotiated;
	GByteArray *pending;
	HvpQmpServerRun run;
	gpointer data;
};

HvpQmpServer *hvp_qmp_server_new(int fd, HvpQmpServerRun run, gpointer data)
{
	HvpQmpServer *self = g_new0(HvpQmpServer, 1);

	self->fd = fd;
	self->attached_fd = -1;
	self->pending = g_byte_array_new();
	self->run = run;
	self->data = data;
	return self;
}

static void close_attached(HvpQmpServer *self)
{
	if (self->attached_fd >= 0)
		close(self->attached_fd);
	self->attached_fd = -1;
}

void hvp_qmp_server_free(HvpQmpServer *self)
{
	if (self == NULL)
		return;
	close_attached(self);
	close(self->fd);
	g_byte_array_unref(self->pending);
	g_free(self);
}

static bool set_gone(GError **error)
{
	return hvp_error_set(error, HVP_ERROR_VM_GONE, "the client has closed the connection");
}

/* --- sending --- */

static bool wait_writable(HvpQmpServer *self, HvpDeadline deadline, GError **error)
{
	struct pollfd pollfd = { .fd = self->fd, .events = POLLOUT };

	(void)poll(&pollfd, 1, hvp_deadline_left_msec(deadline));
	return !hvp_deadline_passed(deadline) ||
	       hvp_error_set(error, HVP_ERROR_VM_GONE, "the client does not read");
}

static bool send_line(HvpQmpServer *self, JsonObject *object, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(SEND_USEC);
	g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
	g_autofree char *text = NULL;
	g_autofree char *line = NULL;
	gsize length_bytes, sent_bytes = 0;

	json_node_set_object(root, object);
	text = json_to_string(root, FALSE);
	line = g_strconcat(text, "\r\n", NULL);
	length_bytes = strlen(line);
	while (sent_bytes < length_bytes) {
		ssize_t sent = send(self->fd, line + sent_bytes, length_bytes - sent_bytes,
				    MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent >= 0)
			sent_bytes += (gsize)sent;
		else if (errno != EAGAIN && errno != EINTR)
			return set_gone(error);
		else if (!wait_writable(self, deadline, error))
			return false;
	}
	return true;
}

static JsonObject *failure_new(const char *class_name, const char *description)
{
	JsonObject *failure = json_object_new();
	JsonObject *object = json_object_new();

	json_object_set_string_member(failure, "class", class_name);
	json_object_set_string_member(failure, "desc", description);
	json_object_set_object_member(object, "error", failure);
	return object;
}

bool hvp_qmp_server_refuse(HvpQmpServer *self, const GError *reason, GError **error)
{
	g_autoptr(JsonObject) object = failure_new("GenericError", reason->message);

	return send_line(self, object, error);
}

bool hvp_qmp_server_greet(HvpQmpServer *self, GError **error)
{
	g_autoptr(JsonObject) object = json_object_new();
	JsonObject *greeting = json_object_new();

	json_object_set_object_member(greeting, "version", json_object_new());
	json_object_set_array_member(greeting, "capabilities", json_array_new());
	json_object_set_object_member(object, "QMP", greeting);
	return send_line(self, object, error);
}

static JsonNode *parse(const char *text, const char *what, gsize max_values, GError **error)
{
	return hvp_json_text_parse_object(text, strlen(text), HVP_QMP_MAX_DEPTH, max_values, what,
					  error);
}

bool hvp_qmp_server_send_event(HvpQmpServer *self, const char *name, gint64 seconds,
			       guint microseconds, const char *data, GError **error)
{
	g_autoptr(JsonObject) object = json_object_new();
	g_autoptr(JsonNode) node = NULL;
	JsonObject *time = json_object_new();

	if (data != NULL && strlen(data) <= HVP_QMP_SERVER_MAX_REQUEST_BYTES)
		node = parse(data, "an event", MAX_REQUEST_VALUES, NULL);
	json_object_set_int_member(time, "seconds", seconds);
	json_object_set_int_member(time, "microseconds", microseconds);
	json_object_set_object_member(object, "timestamp", time);
	json_object_set_string_member(object, "event", name);
	if (node != NULL)
		json_object_set_member(object, "data", json_node_ref(node));
	return !self->negotiated || send_line(self, object, error);
}

/* --- receiving --- */

/* Keeps the first descriptor that came for a request. */
bool hvp_qmp_server_receive(HvpQmpServer *self, GError **error)
{
	guint8 chunk[RECEIVE_BYTES];
	int fd;
	ssize_t got = hvp_unix_message_receive(self->fd, chunk, sizeof chunk, MSG_DONTWAIT, &fd);

	if (got == 0 || (got < 0 && errno != EAGAIN))
		return set_gone(error);
	if (got > 0)
		g_byte_array_append(self->pending, chunk, (guint)got);
	if (fd >= 0 && self->attached_fd >= 0)
		close(fd);
	else if (fd >= 0)
		self->attached_fd = fd;
	return self->pending->len <= HVP_QMP_SERVER_MAX_REQUEST_BYTES ||
	       hvp_error_set(error, HVP_ERROR_BAD_DATA, "a request of more than %u bytes",
			     HVP_QMP_SERVER_MAX_REQUEST_BYTES);
}

bool hvp_qmp_server_has_request(const HvpQmpServer *self)
{
	return self->pending->len > 0 &&
	       memchr(self->pending->data, '\n', self->pending->len) != NULL;
}

/* The first whole request; there must be one. */
static char *take_line(HvpQmpServer *self)
{
	const guint8 *start = self->pending->data;
	const guint8 *newline = memchr(start, '\n', self->pending->len);
	gsize length_bytes = (gsize)(newline - start);
	char *line = g_strndup((const char *)start, length_bytes);

	g_byte_array_remove_range(self->pending, 0, (guint)length_bytes + 1);
	return line;
}

/* --- commands --- */

/* @request without its id, as text. */
static char *strip_id(JsonObject *request)
{
	g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
	JsonObject *command = json_object_new();
	JsonNode *arguments = json_object_get_member(request, "arguments");

	json_object_set_string_member(command, "execute",
				      json_object_get_string_member(request, "execute"));
	if (arguments != NULL)
		json_object_set_member(command, "arguments", json_node_ref(arguments));
	json_node_take_object(root, command);
	return json_to_string(root, FALSE);
}

/* What @answer says, without whatever else stands in it. */
static JsonObject *take_answer(const char *answer, GError **error)
{
	g_autoptr(JsonNode) node = NULL;
	JsonObject *object = json_object_new();

	if (strlen(answer) > HVP_QMP_SERVER_MAX_ANSWER_BYTES)
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "an answer of more than %u bytes",
			      HVP_QMP_SERVER_MAX_ANSWER_BYTES);
	else
		node = parse(answer, "an answer", HVP_QMP_MAX_VALUES, error);
	for (int i = 0; node != NULL && i < 2; i++) {
		const char *name = i == 0 ? "return" : "error";
		JsonNode *member = json_object_get_member(json_node_get_object(node), name);

		if (member == NULL)
			continue;
		json_object_set_member(object, name, json_node_ref(member));
		return object;
	}
	json_object_unref(object);
	if (node != NULL)
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "an answer with neither return nor error");
	return NULL;
}

/* Runs @request; NULL: an error that the client may be told. */
static JsonObject *run_command(HvpQmpServer *self, JsonObject *request, GError **error)
{
	g_autofree char *command = strip_id(request);
	g_autofree char *answer = self->run(self->data, command, self->attached_fd, error);

	return answer != NULL ? take_answer(answer, error) : NULL;
}

/* NULL: an error that the client may be told, VM_GONE: or not. */
static JsonObject *run_request(HvpQmpServer *self, JsonObject *request, GError **error)
{
	JsonNode *name = hvp_json_text_typed_member(request, "execute", G_TYPE_STRING);
	JsonObject *answer;

	if (name == NULL) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "a request without \"execute\"");
		return NULL;
	}
	if (strcmp(json_node_get_string(name), "qmp_capabilities") != 0)
		return self->negotiated
			       ? run_command(self, request, error)
			       : failure_new("CommandNotFound", "expecting qmp_capabilities first");
	self->negotiated = true;
	answer = json_object_new();
	json_object_set_object_member(answer, "return", json_object_new());
	return answer;
}

bool hvp_qmp_server_serve(HvpQmpServer *self, GError **error)
{
	g_autofree char *line = NULL;
	g_autoptr(JsonNode) request = NULL;
	g_autoptr(JsonObject) answer = NULL;
	g_autoptr(GError) reason = NULL;

	if (!hvp_qmp_server_has_request(self))
		return true;
	line = take_line(self);
	request = parse(line, "a request", MAX_REQUEST_VALUES, &reason);
	if (request != NULL)
		answer = run_request(self, json_node_get_object(request), &reason);
	close_attached(self);
	if (answer == NULL && g_error_matches(reason, HVP_ERROR, HVP_ERROR_VM_GONE)) {
		g_propagate_error(error, g_steal_pointer(&reason));
		return false;
	}
	if (answer == NULL)
		answer = failure_new("GenericError", reason->message);
	if (request != NULL && json_object_has_member(json_node_get_object(request), "id"))
		json_object_set_member(
			answer, "id",
			json_node_ref(json_object_get_member(json_node_get_object(request), "id")));
	return send_line(self, answer, error);
}
