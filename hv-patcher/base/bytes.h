/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Little-endian loads from a private copy of guest memory or a file. The
 * unbounded ones are for buffers whose size the caller has just checked; the
 * cursor checks each step and stays at its end once it has failed.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <string.h>

static inline guint16 hvp_load_u16(const void *bytes)
{
	guint16 value;
	memcpy(&value, bytes, sizeof value);
	return GUINT16_FROM_LE(value);
}

static inline guint32 hvp_load_u32(const void *bytes)
{
	guint32 value;
	memcpy(&value, bytes, sizeof value);
	return GUINT32_FROM_LE(value);
}

static inline guint64 hvp_load_u64(const void *bytes)
{
	guint64 value;
	memcpy(&value, bytes, sizeof value);
	return GUINT64_FROM_LE(value);
}

static inline void hvp_store_u16(void *bytes, guint16 value)
{
	value = GUINT16_TO_LE(value);
	memcpy(bytes, &value, sizeof value);
}

static inline void hvp_store_u32(void *bytes, guint32 value)
{
	value = GUINT32_TO_LE(value);
	memcpy(bytes, &value, sizeof value);
}

static inline void hvp_store_u64(void *bytes, guint64 value)
{
	value = GUINT64_TO_LE(value);
	memcpy(bytes, &value, sizeof value);
}

/* A bounded reader over [bytes, bytes + length_bytes); borrows the buffer. */
typedef struct {
	const guint8 *bytes;
	gsize length_bytes;
	gsize offset_bytes;
	bool failed;
} HvpCursor;

static inline HvpCursor hvp_cursor(const void *bytes, gsize length_bytes)
{
	return (HvpCursor){ bytes, length_bytes, 0, false };
}

/* The next @count_bytes, or NULL (and failed from then on) past the end. */
static inline const guint8 *hvp_cursor_take(HvpCursor *self, gsize count_bytes)
{
	const guint8 *taken = self->bytes + self->offset_bytes;

	if (self->failed || count_bytes > self->length_bytes - self->offset_bytes) {
		self->failed = true;
		return NULL;
	}
	self->offset_bytes += count_bytes;
	return taken;
}

/* Each returns 0 once the cursor has failed; check `failed` at the end. */
static inline guint8 hvp_cursor_u8(HvpCursor *self)
{
	const guint8 *bytes = hvp_cursor_take(self, 1);
	return bytes ? bytes[0] : 0;
}

static inline guint32 hvp_cursor_u32(HvpCursor *self)
{
	const guint8 *bytes = hvp_cursor_take(self, 4);
	return bytes ? hvp_load_u32(bytes) : 0;
}

static inline guint64 hvp_cursor_u64(HvpCursor *self)
{
	const guint8 *bytes = hvp_cursor_take(self, 8);
	return bytes ? hvp_load_u64(bytes) : 0;
}
