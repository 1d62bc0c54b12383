/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/body.h"

#include "apid/problem.h"

#define MAX_CHUNK_DIGITS 8

/* Of a chunked body: what the next byte is. */
enum {
	STATE_SIZE,
	STATE_SIZE_LF,
	STATE_DATA,
	STATE_DATA_CR,
	STATE_DATA_LF,
	STATE_LAST_CR,
	STATE_LAST_LF,
};

void hvp_body_init(HvpBody *self, const HvpHead *head, guint64 max_bytes)
{
	*self = (HvpBody){ .kind = head->body,
			   .left_bytes = head->length_bytes,
			   .max_bytes = max_bytes,
			   .is_done = head->body == HVP_BODY_NONE };
	if (head->body == HVP_BODY_CHUNKED)
		self->left_bytes = 0;
}

static bool take_data(HvpBody *self, const guint8 *bytes, gsize length, gsize *ret_taken,
		      GByteArray *payload, GError **error)
{
	gsize count = (gsize)MIN(length, self->left_bytes);

	if (count > self->max_bytes - self->taken_bytes)
		return hvp_problem_set(error, HVP_PROBLEM_TOO_LARGE,
				       "a body of at most %" G_GUINT64_FORMAT
				       " bytes is taken here",
				       self->max_bytes);
	g_byte_array_append(payload, bytes, (guint)count);
	self->left_bytes -= count;
	self->taken_bytes += count;
	*ret_taken = count;
	return true;
}

static bool take_size(HvpBody *self, guint8 byte)
{
	if (byte == '\r') {
		self->state = STATE_SIZE_LF;
		return self->digits > 0;
	}
	if (!g_ascii_isxdigit(byte) || ++self->digits > MAX_CHUNK_DIGITS)
		return false;
	self->left_bytes = self->left_bytes << 4 | (guint64)g_ascii_xdigit_value((char)byte);
	return true;
}

/* A byte of the frame around chunks. */
static bool take_frame(HvpBody *self, guint8 byte)
{
	static const struct {
		guint8 wanted;
		guint next;
	} steps[] = {
		[STATE_DATA_CR] = { '\r', STATE_DATA_LF },
		[STATE_DATA_LF] = { '\n', STATE_SIZE },
		[STATE_LAST_CR] = { '\r', STATE_LAST_LF },
		[STATE_LAST_LF] = { '\n', STATE_LAST_LF },
	};

	if (self->state == STATE_SIZE)
		return take_size(self, byte);
	if (self->state == STATE_SIZE_LF) {
		self->state = self->left_bytes > 0 ? STATE_DATA : STATE_LAST_CR;
		self->digits = 0;
		return byte == '\n';
	}
	self->is_done = self->state == STATE_LAST_LF;
	if (byte != steps[self->state].wanted)
		return false;
	self->state = steps[self->state].next;
	return true;
}

static bool take_chunked(HvpBody *self, const guint8 *bytes, gsize length, gsize *ret_taken,
			 GByteArray *payload, GError **error)
{
	gsize at = 0;
	gsize count = 0;

	while (at < length && !self->is_done) {
		if (self->state == STATE_DATA) {
			if (!take_data(self, bytes + at, length - at, &count, payload, error))
				return false;
			at += count;
			if (self->left_bytes == 0)
				self->state = STATE_DATA_CR;
		} else if (!take_frame(self, bytes[at++])) {
			return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
					       "the body is not chunked as it should be");
		}
	}
	*ret_taken = at;
	return true;
}

bool hvp_body_take(HvpBody *self, GByteArray *wire, GByteArray *payload, GError **error)
{
	gsize taken = 0;
	bool ok;

	if (self->is_done || wire->len == 0)
		return true;
	if (self->kind == HVP_BODY_CHUNKED) {
		ok = take_chunked(self, wire->data, wire->len, &taken, payload, error);
	} else {
		ok = take_data(self, wire->data, wire->len, &taken, payload, error);
		self->is_done = self->left_bytes == 0;
	}
	if (ok)
		g_byte_array_remove_range(wire, 0, (guint)taken);
	return ok;
}
