/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/plugin.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vm/helper.h"
#include "wire/plugin-wire.h"

#define MAX_REPLY_BYTES (64U << 10)
#define CONNECT_RETRY_USEC 10000

struct HvpPlugin {
	int fd;
	bool broken;
	guint32 sequence;
	HvpPluginWireState state; /* as last told */
	guint8 reply[MAX_REPLY_BYTES];
	gsize reply_bytes;
};

void hvp_plugin_free(HvpPlugin *self)
{
	if (self == NULL)
		return;
	if (self->fd >= 0)
		close(self->fd);
	g_free(self);
}

guint hvp_plugin_get_vcpu_count(const HvpPlugin *self)
{
	return self->state.vcpu_count;
}

static bool set_bad(GError **error, const char *what)
{
	return hvp_error_set(error, HVP_ERROR_BAD_DATA,
			     "the QEMU plugin does not speak its protocol: %s", what);
}

/* What recv or send said: true to go on, after waiting where it would block. */
static bool handle_failure(HvpPlugin *self, short events, HvpDeadline deadline, GError **error)
{
	struct pollfd pollfd = { .fd = self->fd, .events = events };

	if (errno == EINTR)
		return true;
	if (errno != EAGAIN)
		return hvp_error_set(error, HVP_ERROR_VM_GONE,
				     "the QEMU plugin's connection is broken: %s",
				     g_strerror(errno));
	if (hvp_deadline_passed(deadline))
		return hvp_error_set(error, HVP_ERROR_TIMED_OUT,
				     "the QEMU plugin did not answer in time");
	if (poll(&pollfd, 1, hvp_deadline_left_msec(deadline)) < 0 && errno != EINTR)
		return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "poll of the plugin");
	return true;
}

/* What is left of @header and @payload behind the first @sent bytes; returns how many pieces. */
static guint left_to_send(const HvpPluginWireHeader *header, const void *payload, gsize sent,
			  struct iovec ret_pieces[2])
{
	gsize first = MIN(sent, sizeof *header);

	ret_pieces[0] = (struct iovec){ (guint8 *)header + first, sizeof *header - first };
	if (header->length_bytes == 0)
		return 1;
	ret_pieces[1] = (struct iovec){ (guint8 *)payload + (sent - first),
					header->length_bytes - (sent - first) };
	return 2;
}

static bool send_request(HvpPlugin *self, const HvpPluginWireHeader *header, const void *payload,
			 HvpDeadline deadline, GError **error)
{
	for (gsize sent = 0; sent < sizeof *header + header->length_bytes;) {
		struct iovec pieces[2];
		struct msghdr message = {
			.msg_iov = pieces, .msg_iovlen = left_to_send(header, payload, sent, pieces)
		};
		ssize_t done = sendmsg(self->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (done >= 0)
			sent += (gsize)done;
		else if (!handle_failure(self, POLLOUT, deadline, error))
			return false;
	}
	return true;
}

static bool receive_all(HvpPlugin *self, void *ret_bytes, gsize length_bytes, HvpDeadline deadline,
			GError **error)
{
	for (gsize have = 0; have < length_bytes;) {
		ssize_t done = recv(self->fd, (guint8 *)ret_bytes + have, length_bytes - have,
				    MSG_DONTWAIT);

		if (done == 0)
			return hvp_error_set(error, HVP_ERROR_VM_GONE,
					     "the QEMU plugin closed the connection");
		if (done > 0)
			have += (gsize)done;
		else if (!handle_failure(self, POLLIN, deadline, error))
			return false;
	}
	return true;
}

static bool receive_reply(HvpPlugin *self, const HvpPluginWireHeader *request,
			  HvpPluginWireStatus *ret_status, HvpDeadline deadline, GError **error)
{
	HvpPluginWireHeader header;

	if (!receive_all(self, &header, sizeof header, deadline, error))
		return false;
	if (header.magic != HVP_PLUGIN_WIRE_MAGIC || header.sequence != request->sequence ||
	    header.type != (request->type | HVP_PLUGIN_WIRE_REPLY))
		return set_bad(error, "this is no reply");
	if (header.length_bytes > sizeof self->reply)
		return set_bad(error, "the reply is too long");
	self->reply_bytes = header.length_bytes;
	*ret_status = header.status;
	return receive_all(self, self->reply, self->reply_bytes, deadline, error);
}

static bool check_status(HvpPluginWireStatus status, GError **error)
{
	switch (status) {
	case HVP_PLUGIN_WIRE_OK:
		return true;
	case HVP_PLUGIN_WIRE_NOT_WATCHED:
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "the QEMU plugin does not watch a range of the switch");
	case HVP_PLUGIN_WIRE_UNDECIDED:
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "the QEMU plugin was not told what became of an earlier "
				     "switch");
	case HVP_PLUGIN_WIRE_NO_ROOM:
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the QEMU plugin cannot watch so many ranges");
	case HVP_PLUGIN_WIRE_OVERLAP:
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "ranges for the QEMU plugin overlap");
	default:
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the QEMU plugin refuses a request; is it of this version?");
	}
}

/* One request and its reply, which lies in @self until the next one. */
static bool execute(HvpPlugin *self, HvpPluginWireType type, const void *payload,
		    gsize length_bytes, HvpDeadline deadline, GError **error)
{
	HvpPluginWireHeader header = { .magic = HVP_PLUGIN_WIRE_MAGIC,
				       .type = (guint16)type,
				       .sequence = ++self->sequence,
				       .length_bytes = (guint32)length_bytes };
	HvpPluginWireStatus status = HVP_PLUGIN_WIRE_OK;

	if (self->broken)
		return hvp_error_set(error, HVP_ERROR_VM_GONE,
				     "the QEMU plugin's connection broke earlier");
	/* Whatever fails half-way leaves the two out of step. */
	self->broken = true;
	if (!send_request(self, &header, payload, deadline, error) ||
	    !receive_reply(self, &header, &status, deadline, error))
		return false;
	self->broken = false;
	return check_status(status, error);
}

/* A request that is answered by the state. */
static bool execute_for_state(HvpPlugin *self, HvpPluginWireType type, const void *payload,
			      gsize length_bytes, HvpDeadline deadline, GError **error)
{
	if (!execute(self, type, payload, length_bytes, deadline, error))
		return false;
	if (self->reply_bytes != sizeof self->state)
		return set_bad(error, "the state has another size");
	memcpy(&self->state, self->reply, sizeof self->state);
	return true;
}

static bool say_hello(HvpPlugin *self, HvpDeadline deadline, GError **error)
{
	HvpPluginWireHello hello = { .protocol = HVP_PLUGIN_WIRE_PROTOCOL };

	return execute_for_state(self, HVP_PLUGIN_WIRE_HELLO, &hello, sizeof hello, deadline,
				 error);
}

/* A full backlog has nothing to wait for but time. */
static bool connect_to(HvpPlugin *self, const struct sockaddr_un *address, HvpDeadline deadline,
		       GError **error)
{
	while (connect(self->fd, (const struct sockaddr *)address, sizeof *address) != 0) {
		if (errno != EAGAIN && errno != EINTR)
			return hvp_error_set_errno(error, errno, HVP_ERROR_NOT_FOUND,
						   "the QEMU plugin at %s", address->sun_path);
		if (hvp_deadline_passed(deadline))
			return hvp_error_set(error, HVP_ERROR_TIMED_OUT,
					     "the QEMU plugin at %s does not take connections",
					     address->sun_path);
		g_usleep(CONNECT_RETRY_USEC);
	}
	return true;
}

static bool open_connection(HvpPlugin *self, const char *path, HvpDeadline deadline, GError **error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (path[0] == 0 ||
	    g_strlcpy(address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "the QEMU plugin's socket: the path is empty or too long");
	self->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (self->fd < 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "a socket");
	return connect_to(self, &address, deadline, error);
}

static bool ask_for_connection(HvpPlugin *self, GError **error)
{
	self->fd = hvp_helper_open(HVP_HELPER_ORACLE, 0, error);
	return self->fd >= 0;
}

HvpPlugin *hvp_plugin_connect(const char *path, HvpDeadline deadline, GError **error)
{
	g_autoptr(HvpPlugin) self = g_new0(HvpPlugin, 1);
	bool connected;

	self->fd = -1;
	connected = hvp_helper_is_used() ? ask_for_connection(self, error)
					 : open_connection(self, path, deadline, error);
	if (!connected || !say_hello(self, deadline, error))
		return NULL;
	return g_steal_pointer(&self);
}

static bool send_ranges(HvpPlugin *self, HvpPluginWireType type, const HvpGvaRange *ranges,
			gsize count, HvpDeadline deadline, GError **error)
{
	g_autofree HvpPluginWireRange *items = g_new0(HvpPluginWireRange, count);

	if (count > HVP_PLUGIN_WIRE_MAX_RANGES)
		return check_status(HVP_PLUGIN_WIRE_NO_ROOM, error);
	for (gsize i = 0; i < count; i++)
		items[i] = (HvpPluginWireRange){ ranges[i].start.value, ranges[i].end.value };
	return execute_for_state(self, type, items, count * sizeof *items, deadline, error);
}

bool hvp_plugin_enter_boot(HvpPlugin *self, guint64 boot, HvpDeadline deadline, GError **error)
{
	HvpPluginWireBoot payload = { .boot = boot };

	return execute_for_state(self, HVP_PLUGIN_WIRE_BOOT, &payload, sizeof payload, deadline,
				 error);
}

bool hvp_plugin_watch(HvpPlugin *self, const HvpGvaRange *ranges, gsize count, HvpDeadline deadline,
		      GError **error)
{
	return send_ranges(self, HVP_PLUGIN_WIRE_WATCH, ranges, count, deadline, error);
}

bool hvp_plugin_withdraw(HvpPlugin *self, const HvpGvaRange *ranges, gsize count,
			 HvpDeadline deadline, GError **error)
{
	return send_ranges(self, HVP_PLUGIN_WIRE_WITHDRAW, ranges, count, deadline, error);
}

bool hvp_plugin_switch(HvpPlugin *self, const HvpPluginChange *changes, gsize count,
		       HvpDeadline deadline, GError **error)
{
	g_autofree HvpPluginWireChange *items = g_new0(HvpPluginWireChange, count);

	if (count > HVP_PLUGIN_WIRE_MAX_RANGES)
		return check_status(HVP_PLUGIN_WIRE_NO_ROOM, error);
	for (gsize i = 0; i < count; i++)
		items[i] = (HvpPluginWireChange){ .start = changes[i].range.start.value,
						  .end = changes[i].range.end.value,
						  .allowed_end = changes[i].allowed_end.value,
						  .forbidden = changes[i].forbidden };
	return execute_for_state(self, HVP_PLUGIN_WIRE_SWITCH, items, count * sizeof *items,
				 deadline, error);
}

bool hvp_plugin_decide(HvpPlugin *self, HvpPluginDecision decision, HvpDeadline deadline,
		       GError **error)
{
	HvpPluginWireDecision payload = { .confirmed = decision == HVP_PLUGIN_CONFIRM };

	return execute_for_state(self, HVP_PLUGIN_WIRE_DECIDE, &payload, sizeof payload, deadline,
				 error);
}

bool hvp_plugin_is_complete(HvpPlugin *self, bool *ret_complete, HvpDeadline deadline,
			    GError **error)
{
	if (!say_hello(self, deadline, error))
		return false;
	*ret_complete = self->state.incomplete == 0;
	return true;
}

/* Appends one page of counts; false also when the page makes no sense. */
static bool take_counts(HvpPlugin *self, const HvpPluginWireQuery *query, GArray *counts,
			GError **error)
{
	guint64 lowest = query->from;

	if (self->reply_bytes % sizeof(HvpPluginWireCount) != 0)
		return set_bad(error, "counts of another size");
	for (gsize at = 0; at < self->reply_bytes; at += sizeof(HvpPluginWireCount)) {
		HvpPluginWireCount item;
		HvpPluginCount count;

		memcpy(&item, self->reply + at, sizeof item);
		if (item.pc < lowest || item.pc >= query->end)
			return set_bad(error, "counts out of order");
		count = (HvpPluginCount){ hvp_gva(item.pc), item.before, item.since };
		g_array_append_val(counts, count);
		lowest = item.pc + 1;
	}
	return true;
}

static GArray *read_counts(HvpPlugin *self, HvpGvaRange range, guint32 vcpu, HvpDeadline deadline,
			   GError **error)
{
	g_autoptr(GArray) counts = g_array_new(FALSE, FALSE, sizeof(HvpPluginCount));
	HvpPluginWireQuery query = { .start = range.start.value,
				     .end = range.end.value,
				     .from = range.start.value,
				     .vcpu = vcpu };

	do {
		if (!execute(self, HVP_PLUGIN_WIRE_COUNTS, &query, sizeof query, deadline, error) ||
		    !take_counts(self, &query, counts, error))
			return NULL;
		if (counts->len > 0)
			query.from =
				g_array_index(counts, HvpPluginCount, counts->len - 1).pc.value + 1;
	} while (self->reply_bytes == HVP_PLUGIN_WIRE_MAX_ANSWERS * sizeof(HvpPluginWireCount));
	return g_steal_pointer(&counts);
}

GArray *hvp_plugin_read_counts(HvpPlugin *self, HvpGvaRange range, HvpDeadline deadline,
			       GError **error)
{
	return read_counts(self, range, HVP_PLUGIN_WIRE_ALL_VCPUS, deadline, error);
}

GArray *hvp_plugin_read_vcpu_counts(HvpPlugin *self, HvpGvaRange range, guint vcpu_index,
				    HvpDeadline deadline, GError **error)
{
	return read_counts(self, range, vcpu_index, deadline, error);
}

GArray *hvp_plugin_read_violations(HvpPlugin *self, guint64 *ret_count, HvpDeadline deadline,
				   GError **error)
{
	g_autoptr(GArray) violations = g_array_new(FALSE, FALSE, sizeof(HvpPluginViolation));
	HvpPluginWireQuery query = { 0 };
	HvpPluginWireViolations head;

	if (!execute(self, HVP_PLUGIN_WIRE_VIOLATIONS, &query, sizeof query, deadline, error))
		return NULL;
	if (self->reply_bytes < sizeof head ||
	    (self->reply_bytes - sizeof head) % sizeof(HvpPluginWireViolation) != 0) {
		set_bad(error, "violations of another size");
		return NULL;
	}
	memcpy(&head, self->reply, sizeof head);
	for (gsize at = sizeof head; at < self->reply_bytes; at += sizeof(HvpPluginWireViolation)) {
		HvpPluginWireViolation item;
		HvpPluginViolation violation;

		memcpy(&item, self->reply + at, sizeof item);
		if (item.verdict > HVP_PLUGIN_WIRE_IF_CANCELLED) {
			set_bad(error, "an unknown verdict");
			return NULL;
		}
		violation = (HvpPluginViolation){ .number = item.number,
						  .pc = hvp_gva(item.pc),
						  .usec_since_switch = item.usec_since_switch,
						  .count = item.count,
						  .epoch = item.epoch,
						  .vcpu = item.vcpu,
						  .verdict = (HvpPluginVerdict)item.verdict };
		g_array_append_val(violations, violation);
	}
	*ret_count = head.final_count;
	return g_steal_pointer(&violations);
}
