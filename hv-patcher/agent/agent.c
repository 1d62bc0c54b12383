/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/agent.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/json-text.h"
#include "base/text.h"
#include "vm/helper.h"

#define CHUNK_BYTES 16384U
/* No character of UTF-8: whoever reads it forgets what came before. */
#define SYNC_BYTE 0xffU
#define MAX_QUOTED_BYTES 256U
#define MAX_VERSION_BYTES 64U
#define MAX_COMMANDS 64U
#define CONNECT_RETRY_USEC 10000

struct HvpAgent {
	int fd;
	bool closed;
	bool in_step;
	gint64 last_id;
	char *version;
	GHashTable *commands; /* names */
	GQueue events;	      /* JsonNode: whole messages */
	/* What was received and not looked at yet. */
	guint8 chunk[CHUNK_BYTES];
	gsize at, have;
	/* The line so far. */
	char line[HVP_AGENT_MAX_LINE_BYTES + 1];
	gsize length_bytes;
	bool is_too_long;
	bool is_marked; /* it came right behind a SYNC_BYTE */
};

void hvp_agent_free(HvpAgent *self)
{
	if (self == NULL)
		return;
	close(self->fd);
	g_queue_clear_full(&self->events, (GDestroyNotify)json_node_unref);
	g_hash_table_unref(self->commands);
	g_free(self->version);
	g_free(self);
}

const char *hvp_agent_get_version(const HvpAgent *self)
{
	return self->version;
}

bool hvp_agent_offers(const HvpAgent *self, const char *command)
{
	return g_hash_table_contains(self->commands, command);
}

static bool set_timed_out(GError **error)
{
	return hvp_error_set(error, HVP_ERROR_TIMED_OUT,
			     "the guest's agent did not answer in time");
}

static bool set_closed(HvpAgent *self, GError **error)
{
	self->closed = true;
	return hvp_error_set(error, HVP_ERROR_VM_GONE, "the guest's agent closed the connection");
}

/* What recv or send said: true to go on, after waiting where it would block. */
static bool handle_failure(HvpAgent *self, short events, HvpDeadline deadline, GError **error)
{
	struct pollfd pollfd = { .fd = self->fd, .events = events };

	if (errno == EINTR)
		return true;
	if (errno != EAGAIN)
		return set_closed(self, error);
	if (hvp_deadline_passed(deadline))
		return set_timed_out(error);
	if (poll(&pollfd, 1, hvp_deadline_left_msec(deadline)) < 0 && errno != EINTR)
		return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "poll of the agent");
	return true;
}

static bool receive_some(HvpAgent *self, HvpDeadline deadline, GError **error)
{
	for (;;) {
		ssize_t got = recv(self->fd, self->chunk, sizeof self->chunk, MSG_DONTWAIT);

		if (got == 0)
			return set_closed(self, error);
		if (got > 0) {
			self->at = 0;
			self->have = (gsize)got;
			return true;
		}
		if (!handle_failure(self, POLLIN, deadline, error))
			return false;
	}
}

static void start_line(HvpAgent *self, bool is_marked)
{
	self->length_bytes = 0;
	self->is_too_long = false;
	self->is_marked = is_marked;
}

/* Whether @byte ends a line that is not empty; that stays until the next byte is taken. */
static bool take_byte(HvpAgent *self, guint8 byte)
{
	if (byte == SYNC_BYTE) {
		start_line(self, true);
	} else if (byte == '\n') {
		return self->length_bytes > 0;
	} else if (self->length_bytes < HVP_AGENT_MAX_LINE_BYTES) {
		self->line[self->length_bytes++] = (char)byte;
	} else {
		self->is_too_long = true;
	}
	return false;
}

/*
 * The next line as a message, and whether it was marked. BAD_DATA: it is none; then, and when the
 * time passed, nobody knows what comes next.
 */
static JsonNode *read_message(HvpAgent *self, HvpDeadline deadline, bool *ret_marked,
			      GError **error)
{
	JsonNode *message = NULL;

	for (;;) {
		/* A flood that never lets recv block must end, too. */
		if (hvp_deadline_passed(deadline)) {
			set_timed_out(error);
			break;
		}
		while (self->at < self->have && !take_byte(self, self->chunk[self->at]))
			self->at++;
		if (self->at < self->have) {
			self->at++;
			self->line[self->length_bytes] = 0;
			*ret_marked = self->is_marked;
			if (self->is_too_long)
				hvp_error_set(error, HVP_ERROR_BAD_DATA,
					      "a line of the guest's agent is too long");
			else
				message = hvp_json_text_parse_object(
					self->line, self->length_bytes, HVP_AGENT_MAX_DEPTH,
					HVP_AGENT_MAX_VALUES, "a line of the guest's agent", error);
			start_line(self, false);
			break;
		}
		if (!receive_some(self, deadline, error))
			break;
	}
	self->in_step &= message != NULL;
	return message;
}

static bool send_all(HvpAgent *self, const char *text, gsize length_bytes, HvpDeadline deadline,
		     GError **error)
{
	gsize sent_bytes = 0;

	while (sent_bytes < length_bytes) {
		ssize_t sent = send(self->fd, text + sent_bytes, length_bytes - sent_bytes,
				    MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent >= 0) {
			sent_bytes += (gsize)sent;
		} else if (!handle_failure(self, POLLOUT, deadline, error)) {
			self->in_step = false;
			return false;
		}
	}
	return true;
}

static bool is_int_member(JsonObject *object, const char *name, gint64 value)
{
	JsonNode *node = hvp_json_text_typed_member(object, name, G_TYPE_INT64);

	return node != NULL && json_node_get_int(node) == value;
}

static bool send_sync(HvpAgent *self, gint64 id, HvpDeadline deadline, GError **error)
{
	g_autofree char *text = g_strdup_printf("%c{\"execute\":\"guest-sync-delimited\","
						"\"arguments\":{\"id\":%" G_GINT64_FORMAT "}}\n",
						(int)SYNC_BYTE, id);

	return send_all(self, text, strlen(text), deadline, error);
}

/* What others were told, or was said to nobody, ends at the mark with our number behind it. */
static bool synchronise(HvpAgent *self, HvpDeadline deadline, GError **error)
{
	gint64 id = ++self->last_id;

	if (!send_sync(self, id, deadline, error))
		return false;
	for (;;) {
		g_autoptr(GError) reason = NULL;
		bool is_marked = false;
		g_autoptr(JsonNode) message = read_message(self, deadline, &is_marked, &reason);

		if (message != NULL && is_marked &&
		    is_int_member(json_node_get_object(message), "return", id))
			break;
		if (message == NULL && reason->code != HVP_ERROR_BAD_DATA) {
			g_propagate_error(error, g_steal_pointer(&reason));
			return false;
		}
	}
	/* Events of before belong to a watch that nobody has any more. */
	g_queue_clear_full(&self->events, (GDestroyNotify)json_node_unref);
	self->in_step = true;
	return true;
}

/* Keeps @message and returns true if it is an event. */
static bool keep_event(HvpAgent *self, JsonNode *message)
{
	if (!json_object_has_member(json_node_get_object(message), "event"))
		return false;
	g_queue_push_tail(&self->events, json_node_ref(message));
	if (g_queue_get_length(&self->events) > HVP_AGENT_MAX_EVENTS)
		json_node_unref(g_queue_pop_head(&self->events));
	return true;
}

static bool set_refused(JsonObject *message, const char *command, GError **error)
{
	JsonNode *node = json_object_get_member(message, "error");
	JsonNode *class_name = NULL, *description = NULL;
	g_autofree char *quoted = NULL;

	if (node != NULL && JSON_NODE_HOLDS_OBJECT(node)) {
		JsonObject *refusal = json_node_get_object(node);

		class_name = hvp_json_text_typed_member(refusal, "class", G_TYPE_STRING);
		description = hvp_json_text_typed_member(refusal, "desc", G_TYPE_STRING);
	}
	if (class_name == NULL || description == NULL)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the guest's agent answers %s with neither value nor error",
				     command);
	quoted = hvp_text_escape(json_node_get_string(description), HVP_TEXT_TERMINATED,
				 MAX_QUOTED_BYTES);
	return hvp_error_set(error,
			     strcmp(json_node_get_string(class_name), "CommandNotFound") == 0
				     ? HVP_ERROR_NOT_FOUND
				     : HVP_ERROR_CONFLICT,
			     "the guest's agent refused %s: %s", command, quoted);
}

/* An error without an id: the agent could not read what was sent. */
static bool answers(JsonObject *message, gint64 id)
{
	return is_int_member(message, "id", id) ||
	       (!json_object_has_member(message, "id") && json_object_has_member(message, "error"));
}

static JsonNode *read_answer(HvpAgent *self, const char *command, gint64 id, HvpDeadline deadline,
			     GError **error)
{
	for (;;) {
		bool is_marked = false;
		g_autoptr(JsonNode) message = read_message(self, deadline, &is_marked, error);
		JsonObject *object;

		if (message == NULL)
			return NULL;
		object = json_node_get_object(message);
		if (keep_event(self, message) || !answers(object, id))
			continue;
		if (json_object_has_member(object, "return"))
			return json_node_ref(json_object_get_member(object, "return"));
		set_refused(object, command, error);
		return NULL;
	}
}

static bool check_open(const HvpAgent *self, GError **error)
{
	return !self->closed || hvp_error_set(error, HVP_ERROR_VM_GONE,
					      "the connection to the guest's agent broke earlier");
}

JsonNode *hvp_agent_execute(HvpAgent *self, const char *command, JsonObject *arguments,
			    HvpDeadline deadline, GError **error)
{
	g_autofree char *request = NULL;
	gint64 id;

	if (!check_open(self, error) || (!self->in_step && !synchronise(self, deadline, error)))
		return NULL;
	id = ++self->last_id;
	request = hvp_json_text_request(command, arguments,
					json_node_init_int(json_node_alloc(), id));
	if (!send_all(self, request, strlen(request), deadline, error))
		return NULL;
	return read_answer(self, command, id, deadline, error);
}

static JsonNode *data_of(JsonNode *message, const char *name)
{
	JsonObject *object = json_node_get_object(message);
	JsonNode *event = hvp_json_text_typed_member(object, "event", G_TYPE_STRING);
	JsonNode *data = json_object_get_member(object, "data");

	if (event == NULL || strcmp(json_node_get_string(event), name) != 0 || data == NULL ||
	    !JSON_NODE_HOLDS_OBJECT(data))
		return NULL;
	return json_node_ref(data);
}

JsonNode *hvp_agent_wait_event(HvpAgent *self, const char *name, HvpDeadline deadline,
			       GError **error)
{
	if (!check_open(self, error))
		return NULL;
	for (;;) {
		g_autoptr(JsonNode) message = g_queue_pop_head(&self->events);
		bool was_in_step = self->in_step, is_marked = false;
		g_autoptr(GError) reason = NULL;
		JsonNode *data = NULL;

		if (message == NULL)
			message = read_message(self, deadline, &is_marked, &reason);
		if (message == NULL) {
			/* That nothing happened is no answer missing; a half line may go on. */
			self->in_step = was_in_step && reason->code == HVP_ERROR_TIMED_OUT;
			g_propagate_error(error, g_steal_pointer(&reason));
			return NULL;
		}
		data = data_of(message, name);
		if (data != NULL)
			return data;
	}
}

static bool take_commands(HvpAgent *self, JsonObject *info)
{
	JsonNode *node = json_object_get_member(info, "supported_commands");
	JsonArray *commands;

	if (node == NULL || !JSON_NODE_HOLDS_ARRAY(node))
		return false;
	commands = json_node_get_array(node);
	for (guint i = 0; i < MIN(json_array_get_length(commands), MAX_COMMANDS); i++) {
		JsonNode *element = json_array_get_element(commands, i);
		JsonNode *name, *enabled;

		if (!JSON_NODE_HOLDS_OBJECT(element))
			return false;
		name = hvp_json_text_typed_member(json_node_get_object(element), "name",
						  G_TYPE_STRING);
		enabled = hvp_json_text_typed_member(json_node_get_object(element), "enabled",
						     G_TYPE_BOOLEAN);
		if (name == NULL || enabled == NULL)
			return false;
		if (json_node_get_boolean(enabled))
			g_hash_table_add(self->commands, g_strdup(json_node_get_string(name)));
	}
	return true;
}

static bool take_info(HvpAgent *self, JsonNode *node, GError **error)
{
	JsonObject *info = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
	JsonNode *version = NULL;

	/* QEMU's own agent and versions without one have no such member. */
	if (info == NULL || !is_int_member(info, "protocol", HVP_AGENT_PROTOCOL))
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the guest's agent does not speak protocol %d",
				     HVP_AGENT_PROTOCOL);
	version = hvp_json_text_typed_member(info, "version", G_TYPE_STRING);
	if (version == NULL || !take_commands(self, info))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the guest's agent does not say what it is");
	self->version = hvp_text_escape(json_node_get_string(version), HVP_TEXT_TERMINATED,
					MAX_VERSION_BYTES);
	return true;
}

HvpAgent *hvp_agent_new_from_fd(int fd, HvpDeadline deadline, GError **error)
{
	g_autoptr(HvpAgent) self = g_new0(HvpAgent, 1);
	g_autoptr(JsonNode) info = NULL;

	self->fd = fd;
	self->commands = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	g_queue_init(&self->events);
	/* Not to be guessed from an earlier connection, whose answers may still be on their way. */
	self->last_id = (gint64)g_random_int() << 20;
	info = hvp_agent_execute(self, "guest-info", NULL, deadline, error);
	if (info == NULL || !take_info(self, info, error))
		return NULL;
	return g_steal_pointer(&self);
}

static bool check_path(const char *path, struct sockaddr_un *ret_address, GError **error)
{
	struct stat status;

	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (g_strlcpy(ret_address->sun_path, path, sizeof ret_address->sun_path) >=
	    sizeof ret_address->sun_path)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "%s: too long for a socket's path", path);
	if (stat(path, &status) < 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_INVALID_ARGUMENT, "%s", path);
	if (!S_ISSOCK(status.st_mode))
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: not a socket", path);
	return true;
}

static bool connect_socket(int fd, const char *path, HvpDeadline deadline, GError **error)
{
	struct sockaddr_un address;

	if (!check_path(path, &address, error))
		return false;
	while (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		if (errno == ECONNREFUSED)
			return hvp_error_set(error, HVP_ERROR_VM_GONE,
					     "%s: nobody listens on this socket", path);
		/* EAGAIN: the queue of clients is full. */
		if (errno != EAGAIN && errno != EINTR)
			return hvp_error_set_errno(error, errno, HVP_ERROR_INVALID_ARGUMENT, "%s",
						   path);
		if (hvp_deadline_passed(deadline))
			return set_timed_out(error);
		g_usleep((gulong)MIN(CONNECT_RETRY_USEC, hvp_deadline_left_usec(deadline)));
	}
	return true;
}

static HvpAgent *ask_for_connection(HvpDeadline deadline, GError **error)
{
	int fd = hvp_helper_open(HVP_HELPER_AGENT, 0, error);

	return fd >= 0 ? hvp_agent_new_from_fd(fd, deadline, error) : NULL;
}

HvpAgent *hvp_agent_connect(const char *path, HvpDeadline deadline, GError **error)
{
	int fd;

	if (hvp_helper_is_used())
		return ask_for_connection(deadline, error);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "socket");
		return NULL;
	}
	if (!connect_socket(fd, path, deadline, error)) {
		close(fd);
		return NULL;
	}
	return hvp_agent_new_from_fd(fd, deadline, error);
}
