/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/qmp.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/json-text.h"
#include "base/text.h"
#include "base/unix-message.h"

#define RECEIVE_BYTES 65536
/* What one drain takes in at most, so that a flood of events cannot hold it. */
#define DRAIN_MAX_LINES 4096
#define STEAL_WAIT_USEC G_USEC_PER_SEC
#define CONNECT_RETRY_USEC 10000
/* Words of the peer that go into a message of ours. */
#define MAX_QUOTED_BYTES 512

struct HvpQmp {
	int fd;
	/* Set for good once the stream cannot be followed any more. */
	bool broken;
	GByteArray *pending;
	/* How much of @pending is known to hold no newline. */
	gsize scanned_bytes;
	guint64 last_id;
	guint64 events[HVP_QMP_EVENT_COUNT];
};

static const char *const event_names[HVP_QMP_EVENT_OTHER] = {
	[HVP_QMP_EVENT_STOP] = "STOP",
	[HVP_QMP_EVENT_RESUME] = "RESUME",
	[HVP_QMP_EVENT_RESET] = "RESET",
	[HVP_QMP_EVENT_SHUTDOWN] = "SHUTDOWN",
};

static char *quote(const char *text)
{
	return hvp_text_escape(text, HVP_TEXT_TERMINATED, MAX_QUOTED_BYTES);
}

static bool set_broken(HvpQmp *self, GError **error, const char *what)
{
	self->broken = true;
	return hvp_error_set(error, HVP_ERROR_BAD_DATA, "the monitor does not speak QMP: %s", what);
}

static bool set_closed(HvpQmp *self, GError **error)
{
	self->broken = true;
	return hvp_error_set(error, HVP_ERROR_VM_GONE, "the monitor closed the connection");
}

static bool check_usable(HvpQmp *self, GError **error)
{
	if (self->fd < 0)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "the monitor connection was given away");
	if (self->broken)
		return hvp_error_set(error, HVP_ERROR_VM_GONE,
				     "the monitor connection broke earlier");
	return true;
}

/* Waits for @events on the socket; hangups count, the next call will tell. */
static bool wait_for(HvpQmp *self, short events, HvpDeadline deadline, GError **error)
{
	for (;;) {
		struct pollfd pollfd = {.fd = self->fd, .events = events};
		int ready = poll(&pollfd, 1, hvp_deadline_left_msec(deadline));

		if (ready > 0)
			return true;
		if (ready < 0 && errno != EINTR)
			return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL,
						   "poll of the monitor");
		if (hvp_deadline_passed(deadline))
			return hvp_error_set(error, HVP_ERROR_TIMED_OUT,
					     "the monitor did not answer in time");
	}
}

/* What recv or send said: true to go on, after waiting where it would block. */
static bool handle_failure(HvpQmp *self, short events, HvpDeadline deadline, GError **error)
{
	if (errno == EINTR)
		return true;
	if (errno == EAGAIN)
		return wait_for(self, events, deadline, error);
	if (errno == EPIPE || errno == ECONNRESET)
		return set_closed(self, error);
	self->broken = true;
	return hvp_error_set_errno(error, errno, HVP_ERROR_VM_GONE, "the monitor's socket");
}

/* Appends what has arrived; blocks for it until @deadline. */
static bool receive_some(HvpQmp *self, HvpDeadline deadline, GError **error)
{
	guint8 chunk[RECEIVE_BYTES];

	for (;;) {
		ssize_t got = recv(self->fd, chunk, sizeof chunk, MSG_DONTWAIT);

		if (got == 0)
			return set_closed(self, error);
		if (got > 0) {
			g_byte_array_append(self->pending, chunk, (guint)got);
			return true;
		}
		if (!handle_failure(self, POLLIN, deadline, error))
			return false;
	}
}

/* Takes a whole line out of what has arrived; NULL when there is none yet. */
static char *take_line(HvpQmp *self, gsize *ret_length_bytes)
{
	const guint8 *start = self->pending->data;
	const guint8 *newline = NULL;
	gsize length_bytes;
	char *line;

	if (self->scanned_bytes < self->pending->len)
		newline = memchr(start + self->scanned_bytes, '\n',
				 self->pending->len - self->scanned_bytes);
	if (newline == NULL) {
		self->scanned_bytes = self->pending->len;
		return NULL;
	}
	length_bytes = (gsize)(newline - start);
	line = g_strndup((const char *)start, length_bytes);
	g_byte_array_remove_range(self->pending, 0, (guint)length_bytes + 1);
	self->scanned_bytes = 0;
	*ret_length_bytes = length_bytes;
	return line;
}

static char *read_line(HvpQmp *self, HvpDeadline deadline, gsize *ret_length_bytes, GError **error)
{
	for (;;) {
		char *line = take_line(self, ret_length_bytes);

		if (line != NULL)
			return line;
		if (self->pending->len > HVP_QMP_MAX_LINE_BYTES) {
			set_broken(self, error, "an endless line");
			return NULL;
		}
		/* A flood that never lets recv block must end, too. */
		if (hvp_deadline_passed(deadline)) {
			hvp_error_set(error, HVP_ERROR_TIMED_OUT,
				      "the monitor did not answer in time");
			return NULL;
		}
		if (!receive_some(self, deadline, error))
			return NULL;
	}
}

/* After a line that makes no sense nobody knows what the next one answers. */
static JsonNode *parse_object(HvpQmp *self, const char *line, gsize length_bytes, GError **error)
{
	JsonNode *object = hvp_json_text_parse_object(line, length_bytes, HVP_QMP_MAX_DEPTH,
						      HVP_QMP_MAX_VALUES, "a line", error);

	if (object == NULL) {
		self->broken = true;
		g_prefix_error(error, "the monitor does not speak QMP: ");
	}
	return object;
}

static JsonNode *read_message(HvpQmp *self, HvpDeadline deadline, GError **error)
{
	gsize length_bytes = 0;
	g_autofree char *line = read_line(self, deadline, &length_bytes, error);

	if (line == NULL)
		return NULL;
	return parse_object(self, line, length_bytes, error);
}

/* Counts @message and returns true if it is an event. */
static bool count_event(HvpQmp *self, JsonObject *message)
{
	const char *name = NULL;
	int event = 0;

	if (!json_object_has_member(message, "event"))
		return false;
	if (!hvp_qmp_member_string(message, "event", &name, NULL))
		name = "";
	while (event < HVP_QMP_EVENT_OTHER && strcmp(name, event_names[event]) != 0)
		event++;
	self->events[event]++;
	return true;
}

static bool send_all(HvpQmp *self, const char *text, int fd, HvpDeadline deadline, GError **error)
{
	gsize length_bytes = strlen(text);
	gsize sent_bytes = 0;

	while (sent_bytes < length_bytes) {
		/* The first byte carries it. */
		ssize_t sent = hvp_unix_message_send(self->fd, text + sent_bytes,
						     length_bytes - sent_bytes,
						     sent_bytes == 0 ? fd : -1, MSG_DONTWAIT);

		if (sent >= 0) {
			sent_bytes += (gsize)sent;
		} else if (!handle_failure(self, POLLOUT, deadline, error)) {
			/* Half a request cannot be taken back. */
			self->broken |= sent_bytes > 0;
			return false;
		}
	}
	return true;
}

/* Ids are unique across owners of one connection, so that no late answer is taken for ours. */
static char *next_id(HvpQmp *self)
{
	return g_strdup_printf("hvpatch-%d-%" G_GUINT64_FORMAT, (int)getpid(), ++self->last_id);
}

/* Turns QEMU's {"class", "desc"} into an error of ours; always false. */
static bool set_refused(JsonObject *message, const char *command, GError **error)
{
	JsonNode *node = json_object_get_member(message, "error");
	JsonObject *refusal = hvp_qmp_as_object(node, "error", error);
	const char *class_name = NULL;
	const char *description = NULL;
	g_autofree char *quoted = NULL;

	if (refusal == NULL || !hvp_qmp_member_string(refusal, "class", &class_name, error) ||
	    !hvp_qmp_member_string(refusal, "desc", &description, error))
		return false;
	quoted = quote(description);
	return hvp_error_set(error,
			     strcmp(class_name, "CommandNotFound") == 0 ? HVP_ERROR_NOT_FOUND
									: HVP_ERROR_CONFLICT,
			     "QEMU refused %s: %s", command, quoted);
}

/* Whether @message answers @id. An error without an id is QEMU not understanding the request. */
static bool answers(JsonObject *message, const char *id)
{
	const char *answered = NULL;

	if (!json_object_has_member(message, "id"))
		return json_object_has_member(message, "error");
	return hvp_qmp_member_string(message, "id", &answered, NULL) && strcmp(answered, id) == 0;
}

static JsonNode *read_answer(HvpQmp *self, const char *command, const char *id,
			     HvpDeadline deadline, GError **error)
{
	for (;;) {
		g_autoptr(JsonNode) node = read_message(self, deadline, error);
		JsonObject *message;

		if (node == NULL)
			return NULL;
		message = json_node_get_object(node);
		if (count_event(self, message) || !answers(message, id))
			continue;
		if (json_object_has_member(message, "return"))
			return json_node_ref(json_object_get_member(message, "return"));
		if (json_object_has_member(message, "error"))
			set_refused(message, command, error);
		else
			set_broken(self, error, "an answer with neither return nor error");
		return NULL;
	}
}

JsonNode *hvp_qmp_execute_with_fd(HvpQmp *self, const char *command, JsonObject *arguments, int fd,
				  HvpDeadline deadline, GError **error)
{
	g_autofree char *id = NULL;
	g_autofree char *request = NULL;

	if (!check_usable(self, error))
		return NULL;
	id = next_id(self);
	request = hvp_json_text_request(command, arguments,
					json_node_init_string(json_node_alloc(), id));
	if (!send_all(self, request, fd, deadline, error))
		return NULL;
	return read_answer(self, command, id, deadline, error);
}

JsonNode *hvp_qmp_execute(HvpQmp *self, const char *command, JsonObject *arguments,
			  HvpDeadline deadline, GError **error)
{
	return hvp_qmp_execute_with_fd(self, command, arguments, -1, deadline, error);
}

char *hvp_qmp_monitor_command(HvpQmp *self, const char *hmp, HvpDeadline deadline, GError **error)
{
	g_autoptr(JsonObject) arguments = json_object_new();
	g_autoptr(JsonNode) answer = NULL;

	json_object_set_string_member(arguments, "command-line", hmp);
	answer = hvp_qmp_execute(self, "human-monitor-command", arguments, deadline, error);
	if (answer == NULL)
		return NULL;
	if (!JSON_NODE_HOLDS_VALUE(answer) || json_node_get_string(answer) == NULL) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "the answer to \"%s\" is not text", hmp);
		return NULL;
	}
	return json_node_dup_string(answer);
}

bool hvp_qmp_query_status(HvpQmp *self, HvpDeadline deadline, bool *ret_running, char **ret_status,
			  GError **error)
{
	g_autoptr(JsonNode) answer = hvp_qmp_execute(self, "query-status", NULL, deadline, error);
	JsonObject *object = NULL;
	const char *status = NULL;

	if (answer == NULL)
		return false;
	object = hvp_qmp_as_object(answer, "query-status", error);
	if (object == NULL || !hvp_qmp_member_string(object, "status", &status, error) ||
	    !hvp_qmp_member_bool(object, "running", ret_running, error))
		return false;
	if (ret_status != NULL)
		*ret_status = quote(status);
	return true;
}

static bool is_readable(HvpQmp *self)
{
	struct pollfd pollfd = {.fd = self->fd, .events = POLLIN};

	return poll(&pollfd, 1, 0) > 0;
}

bool hvp_qmp_drain_events(HvpQmp *self, GError **error)
{
	if (!check_usable(self, error))
		return false;
	for (guint lines = 0; lines < DRAIN_MAX_LINES; lines++) {
		gsize length_bytes = 0;
		g_autofree char *line = take_line(self, &length_bytes);
		g_autoptr(JsonNode) node = NULL;

		if (line == NULL) {
			if (self->pending->len > HVP_QMP_MAX_LINE_BYTES)
				return set_broken(self, error, "an endless line");
			if (!is_readable(self))
				return true;
			if (!receive_some(self, hvp_deadline_in(0), error))
				return false;
			continue;
		}
		node = parse_object(self, line, length_bytes, error);
		if (node == NULL)
			return false;
		count_event(self, json_node_get_object(node));
	}
	return true;
}

guint64 hvp_qmp_get_event_count(const HvpQmp *self, HvpQmpEvent event)
{
	g_return_val_if_fail((guint)event < HVP_QMP_EVENT_COUNT, 0);
	return self->events[event];
}

HvpQmp *hvp_qmp_new_from_fd(int fd)
{
	HvpQmp *self = g_new0(HvpQmp, 1);

	self->fd = fd;
	self->pending = g_byte_array_new();
	return self;
}

void hvp_qmp_free(HvpQmp *self)
{
	if (self == NULL)
		return;
	if (self->fd >= 0)
		close(self->fd);
	g_byte_array_unref(self->pending);
	g_free(self);
}

int hvp_qmp_get_fd(const HvpQmp *self)
{
	return self->fd;
}

int hvp_qmp_steal_fd(HvpQmp *self)
{
	HvpDeadline deadline = hvp_deadline_in(STEAL_WAIT_USEC);
	int fd = self->fd;

	/* The next owner must start at a line's start; whole lines here are events. */
	while (self->pending->len > 0) {
		g_autoptr(JsonNode) node = read_message(self, deadline, NULL);

		if (node == NULL)
			return -1;
		count_event(self, json_node_get_object(node));
	}
	self->fd = -1;
	return fd;
}

static bool check_path(const char *path, GError **error)
{
	struct sockaddr_un address;
	struct stat status;

	if (strlen(path) >= sizeof address.sun_path)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "%s: too long for a socket's path", path);
	if (stat(path, &status) < 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_INVALID_ARGUMENT, "%s", path);
	if (!S_ISSOCK(status.st_mode))
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: not a socket", path);
	return true;
}

static bool set_busy(const char *path, GError **error)
{
	return hvp_error_set(error, HVP_ERROR_BUSY,
			     "%s: no greeting: another client holds the monitor, or QEMU hangs",
			     path);
}

static bool connect_socket(int fd, const char *path, HvpDeadline deadline, GError **error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	g_strlcpy(address.sun_path, path, sizeof address.sun_path);
	while (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		if (errno == ECONNREFUSED)
			return hvp_error_set(error, HVP_ERROR_VM_GONE,
					     "%s: nobody listens on this socket", path);
		/* EAGAIN: the queue of clients is full. */
		if (errno != EAGAIN && errno != EINTR)
			return hvp_error_set_errno(error, errno, HVP_ERROR_INVALID_ARGUMENT, "%s",
						   path);
		if (hvp_deadline_passed(deadline))
			return set_busy(path, error);
		g_usleep((gulong)MIN(CONNECT_RETRY_USEC, hvp_deadline_left_usec(deadline)));
	}
	return true;
}

static bool negotiate(HvpQmp *self, const char *name, HvpDeadline deadline, GError **error)
{
	g_autoptr(GError) reading = NULL;
	g_autoptr(JsonNode) greeting = read_message(self, deadline, &reading);
	g_autoptr(JsonNode) answer = NULL;

	if (g_error_matches(reading, HVP_ERROR, HVP_ERROR_TIMED_OUT))
		return set_busy(name, error);
	if (greeting == NULL) {
		g_propagate_error(error, g_steal_pointer(&reading));
		return false;
	}
	if (json_object_has_member(json_node_get_object(greeting), "error"))
		return set_refused(json_node_get_object(greeting), "the connection", error);
	if (!json_object_has_member(json_node_get_object(greeting), "QMP"))
		return set_broken(self, error, "no greeting");
	answer = hvp_qmp_execute(self, "qmp_capabilities", NULL, deadline, error);
	return answer != NULL;
}

HvpQmp *hvp_qmp_negotiate(int fd, const char *name, HvpDeadline deadline, GError **error)
{
	g_autoptr(HvpQmp) self = hvp_qmp_new_from_fd(fd);

	return negotiate(self, name, deadline, error) ? g_steal_pointer(&self) : NULL;
}

HvpQmp *hvp_qmp_connect(const char *path, HvpDeadline deadline, GError **error)
{
	g_autoptr(HvpQmp) self = NULL;
	int fd;

	if (!check_path(path, error))
		return NULL;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "socket");
		return NULL;
	}
	self = hvp_qmp_new_from_fd(fd);
	if (!connect_socket(fd, path, deadline, error) || !negotiate(self, path, deadline, error))
		return NULL;
	return g_steal_pointer(&self);
}

static bool set_bad_member(const char *name, const char *type, GError **error)
{
	return hvp_error_set(error, HVP_ERROR_BAD_DATA, "\"%s\" in QEMU's answer is not %s", name,
			     type);
}

bool hvp_qmp_member_string(JsonObject *object, const char *name, const char **ret_value,
			   GError **error)
{
	JsonNode *node = hvp_json_text_typed_member(object, name, G_TYPE_STRING);

	if (node == NULL)
		return set_bad_member(name, "a string", error);
	*ret_value = json_node_get_string(node);
	return true;
}

bool hvp_qmp_member_int(JsonObject *object, const char *name, gint64 *ret_value, GError **error)
{
	JsonNode *node = hvp_json_text_typed_member(object, name, G_TYPE_INT64);

	if (node == NULL)
		return set_bad_member(name, "an integer", error);
	*ret_value = json_node_get_int(node);
	return true;
}

bool hvp_qmp_member_bool(JsonObject *object, const char *name, bool *ret_value, GError **error)
{
	JsonNode *node = hvp_json_text_typed_member(object, name, G_TYPE_BOOLEAN);

	if (node == NULL)
		return set_bad_member(name, "a boolean", error);
	*ret_value = json_node_get_boolean(node);
	return true;
}

JsonObject *hvp_qmp_as_object(JsonNode *node, const char *what, GError **error)
{
	if (node != NULL && JSON_NODE_HOLDS_OBJECT(node))
		return json_node_get_object(node);
	hvp_error_set(error, HVP_ERROR_BAD_DATA, "QEMU's answer to %s is not an object", what);
	return NULL;
}

JsonArray *hvp_qmp_as_array(JsonNode *node, const char *what, GError **error)
{
	if (node != NULL && JSON_NODE_HOLDS_ARRAY(node))
		return json_node_get_array(node);
	hvp_error_set(error, HVP_ERROR_BAD_DATA, "QEMU's answer to %s is not an array", what);
	return NULL;
}

JsonObject *hvp_qmp_query_object(HvpQmp *qmp, const char *command, HvpDeadline deadline,
				JsonNode **ret_node, GError **error)
{
	g_autoptr(JsonNode) node = hvp_qmp_execute(qmp, command, NULL, deadline, error);
	JsonObject *object = node != NULL ? hvp_qmp_as_object(node, command, error) : NULL;

	if (object != NULL)
		*ret_node = g_steal_pointer(&node);
	return object;
}

JsonArray *hvp_qmp_query_array(HvpQmp *qmp, const char *command, HvpDeadline deadline,
			      JsonNode **ret_node, GError **error)
{
	g_autoptr(JsonNode) node = hvp_qmp_execute(qmp, command, NULL, deadline, error);
	JsonArray *array = node != NULL ? hvp_qmp_as_array(node, command, error) : NULL;

	if (array != NULL)
		*ret_node = g_steal_pointer(&node);
	return array;
}
