/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest's virtual address space: the x86-64 page walk (4 and 5 levels; 4 KiB,
 * 2 MiB and 1 GiB pages) over guest-physical memory.
 *
 * Table pages are kept in a small cache of private copies until
 * hvp_address_space_forget(): call that whenever the guest may have changed its
 * tables and the next answer matters, such as right after stopping it. The
 * cache is allocated once; reading never allocates.
 *
 * Source: Intel SDM volume 3, chapter 4.
 */
#pragma once

#include "mem/physical.h"

typedef struct HvpAddressSpace HvpAddressSpace;

/* What a walk found: a mapping, or the size of the hole it fell into. */
typedef struct {
	bool mapped;
	HvpGpa gpa;	      /* of the address itself, when mapped */
	guint64 block_bytes;  /* size of the page or hole at this level */
	bool writable;
	bool executable;
} HvpTranslation;

/* One piece of a batch of virtual reads; @ok is false where it faulted. */
typedef struct {
	HvpGva gva;
	void *buffer;
	gsize length_bytes;
	bool ok;
} HvpVirtualRead;

/*
 * The address space of page-table root @cr3 (PCID and LAM bits are masked) with
 * paging mode @cr4. Borrows @physical.
 */
HvpAddressSpace *hvp_address_space_new(HvpPhysical *physical, guint64 cr3, guint64 cr4);
void hvp_address_space_free(HvpAddressSpace *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpAddressSpace, hvp_address_space_free)

/* The reader that the space is built on; borrowed. */
HvpPhysical *hvp_address_space_get_physical(HvpAddressSpace *self);

/* Switches to page-table root @cr3; what is cached by then stays valid until forget. */
void hvp_address_space_set_root(HvpAddressSpace *self, guint64 cr3);

/* Drops cached table pages. */
void hvp_address_space_forget(HvpAddressSpace *self);

/*
 * Walks to @gva. False with FAULT when a table lies outside RAM or has
 * reserved bits set; an address that is merely not present is an answer.
 */
bool hvp_address_space_walk(HvpAddressSpace *self, HvpGva gva, HvpTranslation *ret_translation,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Like walk, but an unmapped address is FAULT. */
bool hvp_address_space_translate(HvpAddressSpace *self, HvpGva gva, HvpGpa *ret_gpa,
				 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Reads [@gva, @gva + @length_bytes), all or nothing; FAULT names the address. */
bool hvp_address_space_read(HvpAddressSpace *self, HvpGva gva, void *ret_bytes,
			    gsize length_bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;

bool hvp_address_space_read_u32(HvpAddressSpace *self, HvpGva gva, guint32 *ret_value,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_address_space_read_u64(HvpAddressSpace *self, HvpGva gva, guint64 *ret_value,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Reads many pieces, each of them all or nothing (`ok`), in few system calls.
 * False only when memory as a whole is gone.
 */
bool hvp_address_space_read_batch(HvpAddressSpace *self, HvpVirtualRead *reads, gsize count,
				  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Reads a NUL-terminated string of at most @max_bytes (NUL included) into
 * @ret_string, an array of @max_bytes; BAD_DATA when it does not end in there.
 */
bool hvp_address_space_read_string(HvpAddressSpace *self, HvpGva gva, char *ret_string,
				   gsize max_bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;
