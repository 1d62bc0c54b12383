/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest-physical memory as a thing to read. Backends (a live VM's process, a
 * core dump, an image in a test) implement HvpPhysicalOps; everybody else reads
 * through the functions here. Bytes are copied once into the caller's buffer
 * and never looked at in place: the guest may change them at any time.
 */
#pragma once

#include "base/address.h"
#include "base/error.h"

typedef struct HvpPhysical HvpPhysical;

/* One piece of a batch. @ok is set by the read: false where there is no RAM. */
typedef struct {
	HvpGpa gpa;
	void *buffer;
	gsize length_bytes;
	bool ok;
} HvpPhysicalRead;

typedef struct {
	/*
	 * Reads all pieces, setting each one's `ok`. False with @error only when
	 * the source as a whole is gone (VM_GONE, PERMISSION). Must not allocate
	 * memory in the guest that the guest never touched. Does not block on
	 * the guest; may be called while it is paused.
	 */
	bool (*read)(HvpPhysical *self, HvpPhysicalRead *reads, gsize count, GError **error);
	void (*free)(HvpPhysical *self);
} HvpPhysicalOps;

/* First member of every backend's own struct. */
struct HvpPhysical {
	const HvpPhysicalOps *ops;
};

/* Frees @self through its backend; NULL is fine. */
void hvp_physical_free(HvpPhysical *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpPhysical, hvp_physical_free)

/* The batch read of HvpPhysicalOps. @count may be 0. */
bool hvp_physical_read_batch(HvpPhysical *self, HvpPhysicalRead *reads, gsize count,
			     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Reads [@gpa, @gpa + @length_bytes) into @ret_bytes, all or nothing: FAULT
 * naming the address where a byte is not RAM.
 */
bool hvp_physical_read(HvpPhysical *self, HvpGpa gpa, void *ret_bytes, gsize length_bytes,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;
