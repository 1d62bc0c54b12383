/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "worker/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/json-text.h"
#include "base/unix-message.h"
#include "document/json.h"

#define MAX_DEPTH 16
#define MAX_VALUES 4096
#define SEND_USEC (10 * G_USEC_PER_SEC)
/* Tasks in the way come and go by the hundred a second; nobody reads that. */
#define PROGRESS_USEC (100 * 1000)

struct HvpChannel {
	int fd;
	int attachment_fd; /* a memory file for a long result; -1: there is none */
	bool cancelled;
	char *last_state; /* of the progress that was sent last */
	gint64 last_usec;
};

HvpChannel *hvp_channel_new(int fd)
{
	HvpChannel *self = g_new0(HvpChannel, 1);

	self->fd = fd;
	self->attachment_fd = memfd_create("result", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return self;
}

void hvp_channel_free(HvpChannel *self)
{
	if (self == NULL)
		return;
	close(self->fd);
	if (self->attachment_fd >= 0)
		close(self->attachment_fd);
	g_free(self->last_state);
	g_free(self);
}

int hvp_channel_get_fd(const HvpChannel *self)
{
	return self->fd;
}

int hvp_channel_get_attachment_fd(const HvpChannel *self)
{
	return self->attachment_fd;
}

/* --- receiving --- */

/*
 * One message into @buffer, a NUL behind it; *@ret_fd is the caller's. Returns its length, 0 at the
 * end, -1 and errno: EMSGSIZE where it is longer than HVP_CHANNEL_MAX_BYTES.
 */
static ssize_t receive(HvpChannel *self, char *buffer, int *ret_fd)
{
	ssize_t got = hvp_unix_message_receive(self->fd, buffer, HVP_CHANNEL_MAX_BYTES,
					       MSG_DONTWAIT, ret_fd);

	if (got >= 0)
		buffer[got] = 0;
	return got;
}

static JsonNode *parse(const char *text, gsize length_bytes, GError **error)
{
	return hvp_json_text_parse_object(text, length_bytes, MAX_DEPTH, MAX_VALUES, "the job",
					  error);
}

static bool wait_for(HvpChannel *self, short events, HvpDeadline deadline)
{
	struct pollfd pollfd = { .fd = self->fd, .events = events };

	while (!hvp_deadline_passed(deadline))
		if (poll(&pollfd, 1, hvp_deadline_left_msec(deadline)) > 0)
			return true;
	return false;
}

JsonNode *hvp_channel_receive_job(HvpChannel *self, HvpDeadline deadline, int *ret_patch_fd,
				  GError **error)
{
	g_autofree char *buffer = g_malloc(HVP_CHANNEL_MAX_BYTES + 1);
	JsonNode *job = NULL;
	ssize_t got;
	int fd;

	if (!wait_for(self, POLLIN, deadline)) {
		hvp_error_set(error, HVP_ERROR_TIMED_OUT, "no job has come");
		return NULL;
	}
	got = receive(self, buffer, &fd);
	if (got < 0 && errno == EMSGSIZE)
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "the job has more than %u bytes",
			      HVP_CHANNEL_MAX_BYTES);
	else if (got <= 0)
		hvp_error_set(error, HVP_ERROR_VM_GONE, "the daemon is gone");
	else
		job = parse(buffer, (gsize)got, error);
	if (job != NULL)
		*ret_patch_fd = fd;
	else if (fd >= 0)
		close(fd);
	return job;
}

static bool says_cancel(const char *text, gsize length_bytes)
{
	g_autoptr(JsonNode) node = parse(text, length_bytes, NULL);
	JsonNode *member;

	if (node == NULL)
		return false;
	member = hvp_json_text_typed_member(json_node_get_object(node), "cancel", G_TYPE_BOOLEAN);
	return member != NULL && json_node_get_boolean(member);
}

bool hvp_channel_is_cancelled(HvpChannel *self)
{
	while (!self->cancelled) {
		g_autofree char *buffer = g_malloc(HVP_CHANNEL_MAX_BYTES + 1);
		int fd;
		ssize_t got = receive(self, buffer, &fd);

		if (fd >= 0)
			close(fd);
		if (got < 0 && errno == EMSGSIZE)
			continue;
		if (got < 0 && errno == EAGAIN)
			return false;
		self->cancelled = got <= 0 || says_cancel(buffer, (gsize)got);
	}
	return true;
}

/* --- sending --- */

static bool send_text(HvpChannel *self, const char *text, int fd, HvpDeadline deadline)
{
	while (hvp_unix_message_send(self->fd, text, strlen(text), fd, MSG_DONTWAIT) < 0)
		if (errno != EAGAIN || !wait_for(self, POLLOUT, deadline))
			return false;
	return true;
}

/* Whether @progress is worth a message. */
static bool is_news(HvpChannel *self, const HvpChannelProgress *progress)
{
	gint64 now = g_get_monotonic_time();

	if (g_strcmp0(self->last_state, progress->state) == 0 &&
	    now - self->last_usec < PROGRESS_USEC)
		return false;
	g_free(self->last_state);
	self->last_state = g_strdup(progress->state);
	self->last_usec = now;
	return true;
}

void hvp_channel_send_progress(HvpChannel *self, const HvpChannelProgress *progress)
{
	g_autoptr(JsonBuilder) json = NULL;
	g_autoptr(JsonNode) node = NULL;
	g_autofree char *text = NULL;

	if (!is_news(self, progress))
		return;
	json = json_builder_new();
	json_builder_begin_object(json);
	json_builder_set_member_name(json, "progress");
	json_builder_begin_object(json);
	hvp_json_text(json, "state", progress->state);
	hvp_json_text(json, "step", progress->step);
	hvp_json_integer(json, "attempt", progress->attempt);
	hvp_json_integer(json, "blockers", progress->blockers);
	hvp_json_bool(json, "cancellable", progress->cancellable);
	json_builder_end_object(json);
	json_builder_end_object(json);
	node = json_builder_get_root(json);
	text = json_to_string(node, FALSE);
	(void)send_text(self, text, -1, hvp_deadline_in(0));
}

static void add_failure(JsonBuilder *json, const GError *failure)
{
	json_builder_set_member_name(json, "error");
	if (failure == NULL) {
		json_builder_add_null_value(json);
		return;
	}
	json_builder_begin_object(json);
	hvp_json_error(json, failure);
	json_builder_end_object(json);
}

/* @result is NULL where there is none, or where it is attached. */
static char *make_result(JsonNode *result, bool attached, int exit_status, const GError *failure)
{
	g_autoptr(JsonBuilder) json = json_builder_new();
	g_autoptr(JsonNode) node = NULL;

	json_builder_begin_object(json);
	json_builder_set_member_name(json, "result");
	if (result != NULL)
		json_builder_add_value(json, json_node_copy(result));
	else
		json_builder_add_null_value(json);
	hvp_json_bool(json, "attached", attached);
	hvp_json_integer(json, "exit", exit_status);
	add_failure(json, failure);
	json_builder_end_object(json);
	node = json_builder_get_root(json);
	return json_to_string(node, FALSE);
}

static bool write_all(int fd, const char *bytes, gsize length_bytes)
{
	while (length_bytes > 0) {
		ssize_t written = write(fd, bytes, length_bytes);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return false;
		bytes += written;
		length_bytes -= (gsize)written;
	}
	return true;
}

/* Writes @result to the memory file, which nobody can change any more then. */
static bool fill_attachment(HvpChannel *self, JsonNode *result)
{
	const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	g_autofree char *text = json_to_string(result, FALSE);

	return self->attachment_fd >= 0 && write_all(self->attachment_fd, text, strlen(text)) &&
	       fcntl(self->attachment_fd, F_ADD_SEALS, seals) == 0;
}

bool hvp_channel_send_result(HvpChannel *self, JsonNode *result, int exit_status,
			     const GError *failure)
{
	g_autofree char *text = make_result(result, false, exit_status, failure);
	HvpDeadline deadline = hvp_deadline_in(SEND_USEC);

	if (strlen(text) <= HVP_CHANNEL_MAX_BYTES)
		return send_text(self, text, -1, deadline);
	if (!fill_attachment(self, result))
		return false;
	g_free(text);
	text = make_result(NULL, true, exit_status, failure);
	return send_text(self, text, self->attachment_fd, deadline);
}
