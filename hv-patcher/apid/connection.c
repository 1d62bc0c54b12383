/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/connection.h"

#include <gio/gunixsocketaddress.h>
#include <string.h>

#include "apid/body.h"
#include "apid/problem.h"
#include "apid/stream.h"

#define READ_BYTES 8192
/* How long, and how much of it, a refused client's request is read and thrown away. */
#define LINGER_SECONDS 2
#define LINGER_BYTES (4 * 1024 * 1024)
#define CONNECTION_KEY "hvp-connection"

struct HvpConnection {
	const HvpConnectionHost *host;
	GSocket *socket;
	GIOStream *io;
	GPollableInputStream *in;
	GPollableOutputStream *out;
	char *principal;
	GByteArray *wire;  /* read, not yet understood */
	GByteArray *ready; /* for the library */
	GSource *source;   /* in idle, head and linger */
	guint deadline_id, stall_id, next_id;
	bool was_used;
	bool is_closed;
	/* Of the request at hand. */
	HvpHead *head;
	guint64 max_body_bytes;
	HvpBody body;
	GError *problem;
	GCancellable *kick; /* wakes who waits for the body */
	gint64 body_end_usec;
	bool is_answered;
	bool is_unread; /* something of the request stays on the wire */
	bool has_ended; /* all was given to the library */
	gsize lingered_bytes;
};

static void wait_for_head(HvpConnection *self);

static void clear_request(HvpConnection *self)
{
	g_clear_pointer(&self->head, hvp_head_free);
	g_clear_error(&self->problem);
	g_clear_object(&self->kick);
	g_byte_array_set_size(self->ready, 0);
	self->is_answered = self->is_unread = self->has_ended = false;
}

static void free_connection(void *data)
{
	HvpConnection *self = data;

	clear_request(self);
	g_clear_object(&self->io);
	g_clear_object(&self->socket);
	g_byte_array_unref(self->wire);
	g_byte_array_unref(self->ready);
	g_free(self->principal);
}

static void unref(void *data)
{
	g_rc_box_release_full(data, free_connection);
}

static void clear_source(HvpConnection *self)
{
	if (self->source != NULL)
		g_source_destroy(self->source);
	g_clear_pointer(&self->source, g_source_unref);
}

static void clear_timer(guint *id)
{
	if (*id != 0)
		g_source_remove(*id);
	*id = 0;
}

static void set_deadline(HvpConnection *self, guint seconds, GSourceFunc passed)
{
	clear_timer(&self->deadline_id);
	self->deadline_id = g_timeout_add_seconds(seconds, passed, self);
}

static void watch(HvpConnection *self, GPollableSourceFunc ready)
{
	clear_source(self);
	self->source = g_pollable_input_stream_create_source(self->in, NULL);
	g_source_set_callback(self->source, G_SOURCE_FUNC(ready), self, NULL);
	g_source_attach(self->source, NULL);
}

static void close_now(HvpConnection *self)
{
	if (self->is_closed)
		return;
	self->is_closed = true;
	clear_source(self);
	clear_timer(&self->deadline_id);
	clear_timer(&self->stall_id);
	clear_timer(&self->next_id);
	g_socket_close(self->socket, NULL);
	self->host->closed(self, self->host->data);
	unref(self);
}

static gboolean close_passed(void *data)
{
	HvpConnection *self = data;

	self->deadline_id = 0;
	close_now(self);
	return G_SOURCE_REMOVE;
}

static gboolean linger_ready(G_GNUC_UNUSED GSocket *socket, G_GNUC_UNUSED GIOCondition condition,
			     void *data)
{
	HvpConnection *self = data;
	char buffer[READ_BYTES];
	gssize count = g_socket_receive_with_blocking(self->socket, buffer, sizeof buffer, FALSE,
						      NULL, NULL);

	self->lingered_bytes += count > 0 ? (gsize)count : 0;
	if (count <= 0 || self->lingered_bytes > LINGER_BYTES) {
		close_now(self);
		return G_SOURCE_REMOVE;
	}
	return G_SOURCE_CONTINUE;
}

/*
 * A socket that is closed with something unread is reset, and with it goes the answer that says
 * why: so what the client still sends is thrown away for a while.
 */
static void linger(HvpConnection *self)
{
	g_socket_shutdown(self->socket, FALSE, TRUE, NULL);
	clear_source(self);
	self->source = g_socket_create_source(self->socket, G_IO_IN, NULL);
	g_source_set_callback(self->source, G_SOURCE_FUNC(linger_ready), self, NULL);
	g_source_attach(self->source, NULL);
	set_deadline(self, LINGER_SECONDS, close_passed);
}

static void tls_closed(GObject *io, GAsyncResult *result, void *data)
{
	g_io_stream_close_finish(G_IO_STREAM(io), result, NULL);
	close_now(data);
	unref(data);
}

static void finish(HvpConnection *self)
{
	if (self->is_unread) {
		linger(self);
		return;
	}
	if (!G_IS_TLS_CONNECTION(self->io)) {
		close_now(self);
		return;
	}
	set_deadline(self, LINGER_SECONDS, close_passed);
	g_io_stream_close_async(self->io, G_PRIORITY_DEFAULT, NULL, tls_closed,
				g_rc_box_acquire(self));
}

static gboolean next_request(void *data)
{
	HvpConnection *self = data;

	self->next_id = 0;
	wait_for_head(self);
	return G_SOURCE_REMOVE;
}

/* The library is done with the request, one way or the other. */
static void end_close(void *data)
{
	HvpConnection *self = data;
	bool goes_on = self->is_answered && !hvp_connection_closes(self) && !self->is_closed;

	clear_timer(&self->stall_id);
	clear_timer(&self->deadline_id);
	if (goes_on) {
		clear_request(self);
		/* Not from here: a client's pipeline must not become our stack. */
		self->next_id = g_idle_add(next_request, self);
	} else if (!self->is_closed) {
		finish(self);
	}
	unref(self);
}

/* Ends the body for the library, whether it has ended or will not be read. */
static void end_body(HvpConnection *self)
{
	if (self->has_ended)
		return;
	g_byte_array_append(self->ready, (const guint8 *)"0\r\n\r\n", 5);
	self->has_ended = true;
	clear_timer(&self->deadline_id);
}

static void refuse(HvpConnection *self, GError *problem)
{
	if (self->problem == NULL)
		self->problem = problem;
	else
		g_error_free(problem);
	self->is_unread = true;
	end_body(self);
}

static gboolean body_passed(void *data)
{
	HvpConnection *self = data;
	GError *problem = NULL;

	self->deadline_id = 0;
	hvp_problem_set(&problem, HVP_PROBLEM_REQUEST_TIMEOUT, "the body was not whole in time");
	refuse(self, problem);
	g_cancellable_cancel(self->kick);
	return G_SOURCE_REMOVE;
}

static void set_body_deadline(HvpConnection *self)
{
	gint64 left = (self->body_end_usec - g_get_monotonic_time()) / G_USEC_PER_SEC;

	set_deadline(self, (guint)CLAMP(left, 1, self->host->settings->stall_seconds), body_passed);
}

/* More of the body from the wire, if there is; false: not now. */
static bool read_wire(HvpConnection *self, GError **error)
{
	guint8 buffer[READ_BYTES];
	GError *problem = NULL;
	g_autoptr(GError) failed = NULL;
	gssize count = g_pollable_input_stream_read_nonblocking(self->in, buffer, sizeof buffer,
								NULL, &failed);

	if (g_error_matches(failed, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
		g_propagate_error(error, g_steal_pointer(&failed));
		return false;
	}
	if (count > 0) {
		g_byte_array_append(self->wire, buffer, (guint)count);
		set_body_deadline(self);
	} else {
		hvp_problem_set(&problem, HVP_PROBLEM_INVALID_ARGUMENT,
				"the body is shorter than it says");
		refuse(self, problem);
	}
	return true;
}

/* As a chunk for the library, whatever its frame was on the wire. */
static void frame_payload(HvpConnection *self, const GByteArray *payload)
{
	g_autofree char *size = g_strdup_printf("%x\r\n", payload->len);

	if (payload->len == 0)
		return;
	g_byte_array_append(self->ready, (const guint8 *)size, (guint)strlen(size));
	g_byte_array_append(self->ready, payload->data, payload->len);
	g_byte_array_append(self->ready, (const guint8 *)"\r\n", 2);
}

static void take_wire(HvpConnection *self)
{
	g_autoptr(GByteArray) payload = g_byte_array_new();
	GError *problem = NULL;

	if (!hvp_body_take(&self->body, self->wire, payload, &problem)) {
		refuse(self, problem);
		return;
	}
	frame_payload(self, payload);
	if (self->body.is_done)
		end_body(self);
}

static gssize end_read(void *data, void *buffer, gsize count, GError **error)
{
	HvpConnection *self = data;

	while (self->ready->len == 0 && !self->has_ended) {
		if (self->wire->len == 0 && !read_wire(self, error))
			return -1;
		if (!self->has_ended)
			take_wire(self);
	}
	count = MIN(count, self->ready->len);
	if (count > 0) {
		memcpy(buffer, self->ready->data, count);
		g_byte_array_remove_range(self->ready, 0, (guint)count);
	}
	return (gssize)count;
}

static bool end_is_readable(void *data)
{
	HvpConnection *self = data;

	return self->ready->len > 0 || self->has_ended || self->wire->len > 0 ||
	       g_pollable_input_stream_is_readable(self->in);
}

static GSource *end_read_source(void *data)
{
	HvpConnection *self = data;

	if (self->ready->len > 0 || self->has_ended || self->wire->len > 0)
		return g_timeout_source_new(0);
	return g_pollable_input_stream_create_source(self->in, self->kick);
}

static gboolean stall_passed(void *data)
{
	HvpConnection *self = data;

	self->stall_id = 0;
	hvp_connection_abort(self);
	return G_SOURCE_REMOVE;
}

static gssize end_write(void *data, const void *buffer, gsize count, GError **error)
{
	HvpConnection *self = data;
	gssize written = g_pollable_output_stream_write_nonblocking(self->out, buffer, count, NULL,
								    error);

	if (written > 0)
		clear_timer(&self->stall_id);
	else if (self->stall_id == 0)
		self->stall_id = g_timeout_add_seconds(self->host->settings->stall_seconds,
						       stall_passed, self);
	return written;
}

static bool end_is_writable(void *data)
{
	return g_pollable_output_stream_is_writable(((HvpConnection *)data)->out);
}

static GSource *end_write_source(void *data)
{
	return g_pollable_output_stream_create_source(((HvpConnection *)data)->out, NULL);
}

static const HvpStreamEnds ends = {
	.read = end_read,
	.write = end_write,
	.is_readable = end_is_readable,
	.is_writable = end_is_writable,
	.read_source = end_read_source,
	.write_source = end_write_source,
	.close = end_close,
};

/*
 * The head that the library sees. Of the client's only that decides it which shapes the answer:
 * whether it has a body (HEAD), may be chunked (HTTP/1.0), and 100-continue.
 */
static void write_head(HvpConnection *self)
{
	bool is_head = self->head != NULL && strcmp(self->head->method, "HEAD") == 0;
	bool is_old = self->head != NULL && self->head->is_http_1_0;
	bool has_body = !self->has_ended;
	g_autofree char *text = g_strdup_printf(
		"%s / HTTP/1.%c\r\nHost: localhost\r\n%s%s%s\r\n",
		has_body  ? "POST"
		: is_head ? "HEAD"
			  : "GET",
		is_old ? '0' : '1', has_body ? "Transfer-Encoding: chunked\r\n" : "",
		has_body && self->head->expects_continue ? "Expect: 100-continue\r\n" : "",
		is_old ? "Connection: close\r\n" : "");

	g_byte_array_append(self->ready, (const guint8 *)text, (guint)strlen(text));
}

static void hand_over(HvpConnection *self)
{
	/* Nothing but something to tie the message to its connection by. */
	g_autoptr(GSocketAddress) address = g_unix_socket_address_new("");
	g_autoptr(HvpStream) stream = hvp_stream_new(&ends, g_rc_box_acquire(self));

	self->kick = g_cancellable_new();
	self->was_used = true;
	write_head(self);
	if (!self->has_ended) {
		self->body_end_usec = g_get_monotonic_time() +
				      self->host->settings->body_seconds * G_USEC_PER_SEC;
		set_body_deadline(self);
	}
	g_object_set_data_full(G_OBJECT(address), CONNECTION_KEY, g_rc_box_acquire(self), unref);
	soup_server_accept_iostream(self->host->server, G_IO_STREAM(stream), address, address,
				    NULL);
}

/* To the body, or to the answer with self->problem. */
static void go_on(HvpConnection *self)
{
	self->is_unread = self->problem != NULL &&
			  (self->head == NULL || self->head->body != HVP_BODY_NONE);
	self->has_ended = self->problem != NULL || self->head->body == HVP_BODY_NONE;
	if (!self->has_ended)
		hvp_body_init(&self->body, self->head, self->max_body_bytes);
	hand_over(self);
}

void hvp_connection_go_on(HvpConnection *self, const GError *problem)
{
	self->problem = problem ? g_error_copy(problem) : NULL;
	go_on(self);
}

/* The head is there: in self->head, or as self->problem. */
static void begin_request(HvpConnection *self)
{
	guint64 *max_bytes = &self->max_body_bytes;

	clear_source(self);
	clear_timer(&self->deadline_id);
	if (self->problem == NULL && self->host->admit(self, max_bytes, &self->problem) &&
	    self->head->body == HVP_BODY_LENGTH && self->head->length_bytes > *max_bytes)
		hvp_problem_set(&self->problem, HVP_PROBLEM_TOO_LARGE,
				"a body of at most %" G_GUINT64_FORMAT " bytes is taken here",
				*max_bytes);
	if (self->problem == NULL)
		self->host->admitted(self, self->host->data);
	else
		go_on(self);
}

/* Whether what was read is a head, or can be none any more; the request is begun then. */
static bool try_head(HvpConnection *self)
{
	const char *bytes = (const char *)self->wire->data;
	gsize end = self->wire->len > 0 ? hvp_head_find_end(bytes, self->wire->len) : 0;

	if (end > 0) {
		self->head = hvp_head_parse(bytes, end, &self->problem);
		g_byte_array_remove_range(self->wire, 0, (guint)end);
	} else if (self->wire->len == 0 ||
		   hvp_head_check_part(bytes, self->wire->len, &self->problem)) {
		return false;
	}
	begin_request(self);
	return true;
}

static gboolean head_passed(void *data)
{
	HvpConnection *self = data;

	self->deadline_id = 0;
	if (self->wire->len == 0) {
		close_now(self);
	} else {
		hvp_problem_set(&self->problem, HVP_PROBLEM_REQUEST_TIMEOUT,
				"the request's head was not whole in time");
		begin_request(self);
	}
	return G_SOURCE_REMOVE;
}

static gboolean head_ready(G_GNUC_UNUSED GObject *stream, void *data)
{
	HvpConnection *self = data;
	guint8 buffer[READ_BYTES];
	g_autoptr(GError) failed = NULL;
	gsize room = MIN(sizeof buffer, HVP_HEAD_MAX_BYTES - self->wire->len);
	gssize count = g_pollable_input_stream_read_nonblocking(self->in, buffer, room, NULL,
								&failed);

	if (g_error_matches(failed, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
		return G_SOURCE_CONTINUE;
	if (count <= 0) {
		close_now(self);
		return G_SOURCE_REMOVE;
	}
	if (self->wire->len == 0)
		set_deadline(self, self->host->settings->head_seconds, head_passed);
	g_byte_array_append(self->wire, buffer, (guint)count);
	return try_head(self) ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

static void wait_for_head(HvpConnection *self)
{
	const HvpSettings *settings = self->host->settings;

	if (try_head(self))
		return;
	watch(self, head_ready);
	set_deadline(self,
		     self->was_used && self->wire->len == 0 ? settings->idle_seconds
							    : settings->head_seconds,
		     head_passed);
}

HvpConnection *hvp_connection_start(GSocket *socket, GIOStream *io, const char *principal,
				    const HvpConnectionHost *host)
{
	HvpConnection *self = g_rc_box_new0(HvpConnection);

	self->host = host;
	self->socket = g_object_ref(socket);
	self->io = g_object_ref(io);
	self->in = G_POLLABLE_INPUT_STREAM(g_io_stream_get_input_stream(io));
	self->out = G_POLLABLE_OUTPUT_STREAM(g_io_stream_get_output_stream(io));
	self->principal = g_strdup(principal);
	self->wire = g_byte_array_new();
	self->ready = g_byte_array_new();
	wait_for_head(self);
	return self;
}

HvpConnection *hvp_connection_of_message(SoupServerMessage *message)
{
	GSocketAddress *address = soup_server_message_get_remote_address(message);

	return address ? g_object_get_data(G_OBJECT(address), CONNECTION_KEY) : NULL;
}

const HvpHead *hvp_connection_head(const HvpConnection *self)
{
	return self->head;
}

const char *hvp_connection_principal(const HvpConnection *self)
{
	return self->principal;
}

bool hvp_connection_is_local(const HvpConnection *self)
{
	return !G_IS_TLS_CONNECTION(self->io);
}

const GError *hvp_connection_problem(const HvpConnection *self)
{
	return self->problem;
}

bool hvp_connection_closes(const HvpConnection *self)
{
	return self->is_unread || self->head == NULL || !self->head->keeps_alive;
}

void hvp_connection_set_answered(HvpConnection *self)
{
	self->is_answered = true;
}

void hvp_connection_abort(HvpConnection *self)
{
	/* Who polls it wakes and fails; closing it is left to them. */
	g_socket_shutdown(self->socket, TRUE, TRUE, NULL);
}

GSource *hvp_connection_watch_hangup(HvpConnection *self, GSocketSourceFunc hung_up, void *data)
{
	GSource *source = g_socket_create_source(self->socket, G_IO_HUP | G_IO_ERR, NULL);

	g_source_set_callback(source, G_SOURCE_FUNC(hung_up), data, NULL);
	g_source_attach(source, NULL);
	return source;
}
