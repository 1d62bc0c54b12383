/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest-physical memory that is a plain array, from address 0 on, with at most one
 * hole. For tests and fuzz targets; the array is exactly as long as the memory, so that a
 * sanitizer sees whoever reads past it.
 */
#pragma once

#include "base/bytes.h"
#include "mem/address-space.h"

typedef struct ImageMemory ImageMemory;

struct ImageMemory {
	HvpPhysical base;
	guint8 *bytes;
	guint64 size_bytes;
	/* [start, end) that is no RAM. */
	guint64 hole_start, hole_end;
	/* Calls and pieces so far. */
	guint64 calls, pieces;
	/* The source as a whole is gone. */
	bool gone;
	/* Called before each read: the guest that goes on running meanwhile. */
	void (*on_read)(ImageMemory *self, gpointer user_data);
	gpointer user_data;
};

static inline bool image_memory_has(const ImageMemory *self, guint64 gpa, gsize length_bytes)
{
	if (gpa > self->size_bytes || length_bytes > self->size_bytes - gpa)
		return false;
	return gpa + length_bytes <= self->hole_start || gpa >= self->hole_end;
}

static inline bool image_memory_read(HvpPhysical *physical, HvpPhysicalRead *reads, gsize count,
				     GError **error)
{
	ImageMemory *self = (ImageMemory *)physical;

	self->calls++;
	if (self->on_read != NULL)
		self->on_read(self, self->user_data);
	if (self->gone)
		return hvp_error_set(error, HVP_ERROR_VM_GONE, "the image is gone");
	for (gsize i = 0; i < count; i++) {
		self->pieces++;
		reads[i].ok = image_memory_has(self, reads[i].gpa.value, reads[i].length_bytes);
		if (reads[i].ok && reads[i].length_bytes > 0)
			memcpy(reads[i].buffer, self->bytes + reads[i].gpa.value,
			       reads[i].length_bytes);
	}
	return true;
}

static inline void image_memory_free(HvpPhysical *physical)
{
	ImageMemory *self = (ImageMemory *)physical;

	g_free(self->bytes);
	g_free(self);
}

/* Memory of @size_bytes zeros. Freed by hvp_physical_free. */
static inline ImageMemory *image_memory_new(guint64 size_bytes)
{
	static const HvpPhysicalOps ops = { image_memory_read, image_memory_free };
	ImageMemory *self = g_new0(ImageMemory, 1);

	self->base.ops = &ops;
	self->bytes = g_malloc0(size_bytes);
	self->size_bytes = size_bytes;
	self->hole_start = self->hole_end = G_MAXUINT64;
	return self;
}

static inline void image_memory_put_u64(ImageMemory *self, guint64 gpa, guint64 value)
{
	g_assert(gpa + 8 <= self->size_bytes);
	hvp_store_u64(self->bytes + gpa, value);
}

static inline guint64 image_memory_get_u64(ImageMemory *self, guint64 gpa)
{
	g_assert(gpa + 8 <= self->size_bytes);
	return hvp_load_u64(self->bytes + gpa);
}
