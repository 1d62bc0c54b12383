/* SPDX-License-Identifier: GPL-2.0-or-later */
/* BTF made up by tests, sound unless a test breaks it. Asserts on every failure of its own. */
#pragma once

#include "guest/layout.h"

typedef struct BtfMaker BtfMaker;

/* A member as it is written: @bits is the width of a bitfield, 0 for none. */
typedef struct {
	const char *name; /* NULL for an anonymous one */
	guint32 type;
	guint32 bit;
	guint32 bits;
} BtfMakerMember;

enum {
	BTF_INT = 1,
	BTF_PTR,
	BTF_ARRAY,
	BTF_STRUCT,
	BTF_UNION,
	BTF_ENUM,
	BTF_FWD,
	BTF_TYPEDEF,
	BTF_VOLATILE,
	BTF_CONST,
	BTF_RESTRICT,
	BTF_FUNC,
	BTF_FUNC_PROTO,
	BTF_VAR,
	BTF_DATASEC,
	BTF_FLOAT,
	BTF_DECL_TAG,
	BTF_TYPE_TAG,
	BTF_ENUM64,
};

BtfMaker *btf_maker_new(void);
void btf_maker_free(BtfMaker *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BtfMaker, btf_maker_free)

/* Offset of @text among the strings, 0 for NULL. */
guint32 btf_maker_string(BtfMaker *self, const char *text);

/* Each adds a type and returns its id. */
guint32 btf_maker_type(BtfMaker *self, const char *name, guint kind, guint32 vlen,
		       guint32 size_or_type, const guint32 *tail, guint tail_words);
guint32 btf_maker_int(BtfMaker *self, guint32 size_bytes);
guint32 btf_maker_array(BtfMaker *self, guint32 type, guint32 count);
guint32 btf_maker_struct(BtfMaker *self, const char *name, guint kind, guint32 size_bytes,
			 const BtfMakerMember *members, guint count);
guint32 btf_maker_enum(BtfMaker *self, const char *const *names, const gint64 *values, guint count);

/* Id of the type that comes next. */
guint32 btf_maker_next(BtfMaker *self);

/* The blob as it is by now. */
GBytes *btf_maker_finish(BtfMaker *self);

/* Which of the kernels' generations the made-up structs are like; the last with PREEMPT_RT. */
typedef enum { GENERATION_6_1, GENERATION_6_12, GENERATION_6_12_RT } Generation;

/*
 * BTF with everything that HvpLayout wants, as far as @generation has it. @missing, or NULL, is
 * an item that is left out: "struct.member", "struct" or an enumerator.
 */
GBytes *btf_maker_kernel(Generation generation, const char *missing);
