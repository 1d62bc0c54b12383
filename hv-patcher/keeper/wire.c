/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bytes.h"

#define MAGIC 0x4b505648U /* "HVPK" */
#define HEADER_BYTES 12

void hvp_wire_begin(HvpWireMessage *self, HvpWireType type)
{
	hvp_store_u32(self->bytes, MAGIC);
	hvp_store_u32(self->bytes + 4, type);
	hvp_store_u32(self->bytes + 8, 0);
	self->length_bytes = HEADER_BYTES;
}

bool hvp_wire_append(HvpWireMessage *self, const void *bytes, gsize length_bytes)
{
	if (length_bytes > sizeof self->bytes - self->length_bytes)
		return false;
	if (length_bytes > 0)
		memcpy(self->bytes + self->length_bytes, bytes, length_bytes);
	self->length_bytes += length_bytes;
	hvp_store_u32(self->bytes + 8, (guint32)(self->length_bytes - HEADER_BYTES));
	return true;
}

static bool wait_for_room(int fd, HvpDeadline deadline, GError **error)
{
	struct pollfd descriptor = { fd, POLLOUT, 0 };

	if (poll(&descriptor, 1, hvp_deadline_left_msec(deadline)) == 0)
		return hvp_error_set(error, HVP_ERROR_TIMED_OUT, "the other end does not read");
	return true;
}

bool hvp_wire_send(HvpWireMessage *self, int fd, HvpDeadline deadline, GError **error)
{
	gsize done = 0;

	while (done < self->length_bytes) {
		ssize_t sent = send(fd, self->bytes + done, self->length_bytes - done,
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0)
			done += (gsize)sent;
		else if (errno != EINTR && errno != EAGAIN)
			return hvp_error_set(error, HVP_ERROR_VM_GONE, "the other end is gone: %s",
					     g_strerror(errno));
		else if (!wait_for_room(fd, deadline, error))
			return false;
	}
	return true;
}

void hvp_wire_clear(HvpWireMessage *self)
{
	self->length_bytes = 0;
}

static bool header_is_sane(const HvpWireMessage *self)
{
	guint32 type = hvp_load_u32(self->bytes + 4);

	return hvp_load_u32(self->bytes) == MAGIC && type > 0 && type < HVP_WIRE_TYPE_COUNT &&
	       hvp_load_u32(self->bytes + 8) <= HVP_WIRE_MAX_BYTES;
}

HvpWireRead hvp_wire_read(HvpWireMessage *self, int fd)
{
	gsize wanted;
	ssize_t got;

	for (;;) {
		wanted = HEADER_BYTES;
		if (self->length_bytes >= HEADER_BYTES) {
			if (!header_is_sane(self))
				return HVP_WIRE_READ_GARBAGE;
			wanted += hvp_load_u32(self->bytes + 8);
			if (self->length_bytes == wanted)
				return HVP_WIRE_READ_DONE;
		}
		got = recv(fd, self->bytes + self->length_bytes, wanted - self->length_bytes,
			   MSG_DONTWAIT);
		if (got > 0)
			self->length_bytes += (gsize)got;
		else if (got < 0 && errno == EAGAIN)
			return HVP_WIRE_READ_MORE;
		else if (got == 0 || errno != EINTR)
			return HVP_WIRE_READ_CLOSED;
	}
}

HvpWireType hvp_wire_get_type(const HvpWireMessage *self)
{
	return (HvpWireType)hvp_load_u32(self->bytes + 4);
}

const guint8 *hvp_wire_get_payload(const HvpWireMessage *self, gsize *ret_length_bytes)
{
	*ret_length_bytes = self->length_bytes - HEADER_BYTES;
	return self->bytes + HEADER_BYTES;
}
