/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest kernel's own type information, read for struct offsets only. A small
 * reader of our own: the blob comes out of guest memory, so every index, count and
 * chain is checked and bounded, and nothing recurses.
 *
 *   header = magic 0xeb9f u16, version u8, flags u8, hdr_len u32, type_off, type_len,
 *            str_off, str_len u32
 *   type   = name_off u32, info u32 (vlen 0..15, kind 24..28, kind_flag 31), size_or_type u32,
 *            kind-specific data
 *
 * Source: Documentation/bpf/btf.rst, include/uapi/linux/btf.h.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>

typedef struct HvpBtf HvpBtf;

/* A member's place: whole bytes, or a bitfield of @bits at @bit in its struct. */
typedef struct {
	guint32 bit;   /* from the start of the struct */
	guint32 bits;  /* of a bitfield; 0 for an ordinary member */
	guint32 count; /* elements, where it is an array; else 1 */
	guint32 type;  /* its type id */
} HvpBtfMember;

/* Copies nothing: @blob is referenced. BAD_DATA naming the place where it is malformed. */
HvpBtf *hvp_btf_new(GBytes *blob, GError **error);
void hvp_btf_free(HvpBtf *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpBtf, hvp_btf_free)

/* Size of struct or union @name; NOT_FOUND. */
bool hvp_btf_struct_size(HvpBtf *self, const char *name, guint32 *ret_size_bytes,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Finds @path ("member" or "member.member", through anonymous structs and unions) in
 * struct or union @name. NOT_FOUND names what is missing.
 */
bool hvp_btf_member(HvpBtf *self, const char *name, const char *path, HvpBtfMember *ret_member,
		    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Value of @name in whichever enum has it; NOT_FOUND. */
bool hvp_btf_enumerator(HvpBtf *self, const char *name, gint64 *ret_value,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;
