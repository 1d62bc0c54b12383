/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/gdb-packet.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define INTERRUPT 0x03

/* Repeat counts are printable characters; fewer than three are not worth it. */
#define RUN_LENGTH_BIAS 29
#define RUN_LENGTH_MIN 3

static const char hex_digits[] = "0123456789abcdef";

int hvp_gdb_packet_hex_value(char digit)
{
	return g_ascii_xdigit_value(digit);
}

void hvp_gdb_packet_to_hex(char *ret_text, const guint8 *bytes, gsize length_bytes)
{
	for (gsize i = 0; i < length_bytes; i++) {
		ret_text[2 * i] = hex_digits[bytes[i] >> 4];
		ret_text[2 * i + 1] = hex_digits[bytes[i] & 15];
	}
	ret_text[2 * length_bytes] = '\0';
}

bool hvp_gdb_packet_from_hex(guint8 *ret_bytes, const char *text, gsize length_bytes)
{
	for (gsize i = 0; i < length_bytes; i++) {
		int high = hvp_gdb_packet_hex_value(text[2 * i]);
		int low = high < 0 ? -1 : hvp_gdb_packet_hex_value(text[2 * i + 1]);

		if (low < 0)
			return false;
		ret_bytes[i] = (guint8)(high << 4 | low);
	}
	return true;
}

void hvp_gdb_packet_init(HvpGdbPacket *self, int fd)
{
	memset(self, 0, sizeof *self);
	self->fd = fd;
}

bool hvp_gdb_packet_has_input(const HvpGdbPacket *self)
{
	return self->raw_start < self->raw_end;
}

static bool poll_for(HvpGdbPacket *self, short events, HvpDeadline deadline, GError **error)
{
	struct pollfd descriptor = { self->fd, events, 0 };
	int count;

	do
		count = poll(&descriptor, 1, hvp_deadline_left_msec(deadline));
	while (count < 0 && errno == EINTR);
	if (count < 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL,
					   "waiting for the gdb stub");
	if (count == 0)
		return hvp_error_set(error, HVP_ERROR_TIMED_OUT, "the gdb stub does not answer");
	return true;
}

static bool send_bytes(HvpGdbPacket *self, const guint8 *bytes, gsize length_bytes,
		       HvpDeadline deadline, GError **error)
{
	while (length_bytes > 0) {
		ssize_t sent = send(self->fd, bytes, length_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0) {
			bytes += sent;
			length_bytes -= (gsize)sent;
		} else if (errno == EAGAIN) {
			if (!poll_for(self, POLLOUT, deadline, error))
				return false;
		} else if (errno != EINTR) {
			return hvp_error_set(error, HVP_ERROR_VM_GONE,
					     "the gdb stub closed the connection: %s",
					     g_strerror(errno));
		}
	}
	return true;
}

/* Sends @length_bytes of `sent` from @start; the acknowledgement lies in front of it. */
static bool send_due(HvpGdbPacket *self, gsize length_bytes, HvpDeadline deadline, GError **error)
{
	gsize start = self->ack_due ? 0 : 1;

	self->sent[0] = '+';
	self->ack_due = false;
	return send_bytes(self, self->sent + start, length_bytes + 1 - start, deadline, error);
}

bool hvp_gdb_packet_send(HvpGdbPacket *self, const char *text, HvpDeadline deadline, GError **error)
{
	gsize length_bytes = strlen(text);
	guint8 *packet = self->sent + 1;
	guint8 sum = 0;

	if (length_bytes > HVP_GDB_PACKET_MAX_BYTES)
		return hvp_error_set(error, HVP_ERROR_INTERNAL, "gdb packet too long to send");
	packet[0] = '$';
	memcpy(packet + 1, text, length_bytes);
	for (gsize i = 0; i < length_bytes; i++)
		sum += (guint8)text[i];
	packet[length_bytes + 1] = '#';
	packet[length_bytes + 2] = (guint8)hex_digits[sum >> 4];
	packet[length_bytes + 3] = (guint8)hex_digits[sum & 15];
	self->sent_bytes = length_bytes + 4;
	return send_due(self, self->sent_bytes, deadline, error);
}

bool hvp_gdb_packet_interrupt(HvpGdbPacket *self, HvpDeadline deadline, GError **error)
{
	self->sent[1] = INTERRUPT;
	self->sent_bytes = 0;
	return send_due(self, 1, deadline, error);
}

/* The next byte of the stream; waits for it. */
static bool next_byte(HvpGdbPacket *self, guint8 *ret_byte, HvpDeadline deadline, GError **error)
{
	while (self->raw_start == self->raw_end) {
		ssize_t got;

		if (!poll_for(self, POLLIN, deadline, error))
			return false;
		got = recv(self->fd, self->raw, sizeof self->raw, MSG_DONTWAIT);
		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
			return hvp_error_set(error, HVP_ERROR_VM_GONE,
					     "the gdb stub closed the connection");
		self->raw_start = 0;
		self->raw_end = got > 0 ? (gsize)got : 0;
	}
	*ret_byte = self->raw[self->raw_start++];
	return true;
}

static bool append(HvpGdbPacket *self, guint8 byte, gsize count, GError **error)
{
	if (count > HVP_GDB_PACKET_MAX_BYTES - self->data_bytes)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "gdb stub's packet exceeds %u bytes",
				     HVP_GDB_PACKET_MAX_BYTES);
	memset(self->data + self->data_bytes, byte, count);
	self->data_bytes += count;
	return true;
}

static bool append_run(HvpGdbPacket *self, guint8 code, GError **error)
{
	if (self->data_bytes == 0 || code < RUN_LENGTH_BIAS + RUN_LENGTH_MIN || code > '~')
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "gdb stub's packet has a bad repeat count");
	return append(self, (guint8)self->data[self->data_bytes - 1], code - RUN_LENGTH_BIAS,
		      error);
}

/* Decodes up to the "#", adding up *@sum. */
static bool receive_data(HvpGdbPacket *self, guint8 *sum, HvpDeadline deadline, GError **error)
{
	gsize limit = 2 * HVP_GDB_PACKET_MAX_BYTES;
	guint8 byte, code;

	self->data_bytes = 0;
	*sum = 0;
	while (limit-- > 0) {
		if (!next_byte(self, &byte, deadline, error))
			return false;
		if (byte == '#')
			return true;
		*sum += byte;
		if (byte != '}' && byte != '*') {
			if (!append(self, byte, 1, error))
				return false;
			continue;
		}
		if (!next_byte(self, &code, deadline, error))
			return false;
		*sum += code;
		if (byte == '}' ? !append(self, code ^ 0x20, 1, error)
				: !append_run(self, code, error))
			return false;
	}
	return hvp_error_set(error, HVP_ERROR_BAD_DATA, "gdb stub's packet has no end");
}

static bool receive_packet(HvpGdbPacket *self, bool *ret_intact, HvpDeadline deadline,
			   GError **error)
{
	guint8 sum, high, low;

	if (!receive_data(self, &sum, deadline, error) ||
	    !next_byte(self, &high, deadline, error) || !next_byte(self, &low, deadline, error))
		return false;
	self->data[self->data_bytes] = '\0';
	*ret_intact = high == hex_digits[sum >> 4] && low == hex_digits[sum & 15];
	return true;
}

/* Handles a "-" or a packet that arrived damaged, a bounded number of times. */
static bool try_again(HvpGdbPacket *self, const guint8 *bytes, gsize length_bytes, guint *retries,
		      HvpDeadline deadline, GError **error)
{
	if (++*retries > HVP_GDB_PACKET_MAX_RETRIES || length_bytes == 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the gdb stub's connection damages packets");
	return send_bytes(self, bytes, length_bytes, deadline, error);
}

static bool unexpected(guint8 byte, GError **error)
{
	return hvp_error_set(error, HVP_ERROR_BAD_DATA,
			     "the gdb stub sent byte 0x%02x outside a packet", byte);
}

bool hvp_gdb_packet_receive(HvpGdbPacket *self, HvpDeadline deadline, GError **error)
{
	bool intact = false;
	guint retries = 0, acks = 0;
	guint8 byte;

	for (;;) {
		if (!next_byte(self, &byte, deadline, error))
			return false;
		if (byte == '$') {
			if (!receive_packet(self, &intact, deadline, error))
				return false;
			if (intact)
				break;
			if (!try_again(self, (const guint8 *)"-", 1, &retries, deadline, error))
				return false;
		} else if (byte == '-') {
			if (!try_again(self, self->sent + 1, self->sent_bytes, &retries, deadline,
				       error))
				return false;
		} else if (byte != '+' || ++acks > HVP_GDB_PACKET_MAX_RETRIES) {
			return unexpected(byte, error);
		}
	}
	self->ack_due = true;
	return true;
}

bool hvp_gdb_packet_wait_ack(HvpGdbPacket *self, HvpDeadline deadline, GError **error)
{
	guint retries = 0;
	guint8 byte;

	for (;;) {
		if (!next_byte(self, &byte, deadline, error))
			return false;
		if (byte == '+')
			return true;
		if (byte == '$') {
			self->raw_start--;
			return hvp_error_set(error, HVP_ERROR_CONFLICT,
					     "the gdb stub spoke out of turn: somebody else "
					     "stops and resumes the VM");
		}
		if (byte != '-')
			return unexpected(byte, error);
		if (!try_again(self, self->sent + 1, self->sent_bytes, &retries, deadline, error))
			return false;
	}
}
