/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/btf.h"

#include "base/bytes.h"

#include <string.h>

#define MAGIC 0xeb9fU
#define HEADER_BYTES 24U
#define TYPE_BYTES 12U
#define MAX_TYPES (4U << 20)
#define MAX_MODIFIERS 32U
#define MAX_ANONYMOUS 64U
/* Types, members and enumerators looked at in all; a stock kernel takes half a million. */
#define MAX_STEPS (32U << 20)

enum {
	KIND_INT = 1,
	KIND_PTR,
	KIND_ARRAY,
	KIND_STRUCT,
	KIND_UNION,
	KIND_ENUM,
	KIND_FWD,
	KIND_TYPEDEF,
	KIND_VOLATILE,
	KIND_CONST,
	KIND_RESTRICT,
	KIND_FUNC,
	KIND_FUNC_PROTO,
	KIND_VAR,
	KIND_DATASEC,
	KIND_FLOAT,
	KIND_DECL_TAG,
	KIND_TYPE_TAG,
	KIND_ENUM64,
};

typedef struct {
	const guint8 *bytes;
	guint32 name;
	guint kind;
	guint32 vlen;
	bool kind_flag;
	guint32 size_or_type;
} Type;

struct HvpBtf {
	GBytes *blob;
	const guint8 *types;
	gsize types_bytes;
	const char *strings;
	gsize strings_bytes;
	GArray *offsets; /* guint32: type id - 1 -> offset into types */
	/*
	 * guint32: ids of named structs and unions. Searched one by one: a hash table could be
	 * made to degenerate by names that collide.
	 */
	GArray *structs;
	guint64 steps; /* against types made to take for ever */
};

void hvp_btf_free(HvpBtf *self)
{
	if (self == NULL)
		return;
	g_bytes_unref(self->blob);
	g_array_unref(self->offsets);
	g_array_unref(self->structs);
	g_free(self);
}

/* Bytes that follow the common part of a type, or G_MAXSIZE for an unknown kind. */
static gsize tail_bytes(guint kind, guint32 vlen)
{
	switch (kind) {
	case KIND_INT:
	case KIND_VAR:
	case KIND_DECL_TAG:
		return 4;
	case KIND_ARRAY:
		return 12;
	case KIND_STRUCT:
	case KIND_UNION:
	case KIND_DATASEC:
	case KIND_ENUM64:
		return (gsize)vlen * 12;
	case KIND_ENUM:
	case KIND_FUNC_PROTO:
		return (gsize)vlen * 8;
	case KIND_PTR:
	case KIND_FWD:
	case KIND_TYPEDEF:
	case KIND_VOLATILE:
	case KIND_CONST:
	case KIND_RESTRICT:
	case KIND_FUNC:
	case KIND_FLOAT:
	case KIND_TYPE_TAG:
		return 0;
	default:
		return G_MAXSIZE;
	}
}

static Type decode_type(const guint8 *bytes)
{
	guint32 info = hvp_load_u32(bytes + 4);

	return (Type){ .bytes = bytes,
		       .name = hvp_load_u32(bytes),
		       .kind = (info >> 24) & 0x1f,
		       .vlen = info & 0xffff,
		       .kind_flag = (info >> 31) != 0,
		       .size_or_type = hvp_load_u32(bytes + 8) };
}

static bool get_type(HvpBtf *self, guint32 id, Type *ret_type, GError **error)
{
	if (id == 0 || id > self->offsets->len)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "BTF type id %u is out of range",
				     id);
	*ret_type = decode_type(self->types + g_array_index(self->offsets, guint32, id - 1));
	return true;
}

/* A string that is known to end inside the section; "" for a bad offset. */
static const char *get_string(HvpBtf *self, guint32 offset)
{
	return offset < self->strings_bytes ? self->strings + offset : "";
}

static void index_type(HvpBtf *self, const Type *type)
{
	guint32 id = self->offsets->len;

	if ((type->kind == KIND_STRUCT || type->kind == KIND_UNION) &&
	    get_string(self, type->name)[0] != 0)
		g_array_append_val(self->structs, id);
}

static bool index_types(HvpBtf *self, GError **error)
{
	HvpCursor cursor = hvp_cursor(self->types, self->types_bytes);

	while (cursor.offset_bytes < self->types_bytes) {
		guint32 offset = (guint32)cursor.offset_bytes;
		const guint8 *bytes = hvp_cursor_take(&cursor, TYPE_BYTES);
		Type type;

		if (bytes == NULL || self->offsets->len >= MAX_TYPES)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA, "BTF types are cut off");
		type = decode_type(bytes);
		if (tail_bytes(type.kind, type.vlen) == G_MAXSIZE ||
		    hvp_cursor_take(&cursor, tail_bytes(type.kind, type.vlen)) == NULL)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "BTF type %u at +0x%x has kind %u",
					     self->offsets->len + 1, offset, type.kind);
		g_array_append_val(self->offsets, offset);
		index_type(self, &type);
	}
	return true;
}

static bool read_header(HvpBtf *self, GError **error)
{
	gsize total;
	const guint8 *blob = g_bytes_get_data(self->blob, &total);
	guint64 header_bytes, types, strings;

	if (total < HEADER_BYTES || hvp_load_u16(blob) != MAGIC || blob[2] != 1)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "no BTF of version 1");
	header_bytes = hvp_load_u32(blob + 4);
	types = header_bytes + hvp_load_u32(blob + 8);
	self->types_bytes = hvp_load_u32(blob + 12);
	strings = header_bytes + hvp_load_u32(blob + 16);
	self->strings_bytes = hvp_load_u32(blob + 20);
	if (header_bytes < HEADER_BYTES || types + self->types_bytes > total ||
	    strings + self->strings_bytes > total || self->strings_bytes == 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "BTF sections lie outside the blob");
	self->types = blob + types;
	self->strings = (const char *)blob + strings;
	if (self->strings[self->strings_bytes - 1] != 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "BTF strings do not end");
	return true;
}

HvpBtf *hvp_btf_new(GBytes *blob, GError **error)
{
	g_autoptr(HvpBtf) self = g_new0(HvpBtf, 1);

	self->blob = g_bytes_ref(blob);
	self->offsets = g_array_new(FALSE, FALSE, sizeof(guint32));
	self->structs = g_array_new(FALSE, FALSE, sizeof(guint32));
	if (!read_header(self, error) || !index_types(self, error))
		return NULL;
	return g_steal_pointer(&self);
}

static bool take_steps(HvpBtf *self, guint64 count, GError **error)
{
	self->steps += count;
	return self->steps <= MAX_STEPS ||
	       hvp_error_set(error, HVP_ERROR_BAD_DATA,
			     "the guest's BTF takes too long to search (%u types)",
			     self->offsets->len);
}

static bool find_struct(HvpBtf *self, const char *name, Type *ret_type, GError **error)
{
	for (guint i = 0; i < self->structs->len; i++) {
		if (!take_steps(self, 1, error))
			return false;
		if (!get_type(self, g_array_index(self->structs, guint32, i), ret_type, error))
			return false;
		if (strcmp(get_string(self, ret_type->name), name) == 0)
			return true;
	}
	return hvp_error_set(error, HVP_ERROR_NOT_FOUND, "no struct %s in the guest's BTF", name);
}

bool hvp_btf_struct_size(HvpBtf *self, const char *name, guint32 *ret_size_bytes, GError **error)
{
	Type type;

	if (!find_struct(self, name, &type, error))
		return false;
	*ret_size_bytes = type.size_or_type;
	return true;
}

/* Skips typedefs and qualifiers; @ret_type is what remains. False for void and for chains. */
static bool strip_modifiers(HvpBtf *self, guint32 id, Type *ret_type, GError **error)
{
	for (guint i = 0; i < MAX_MODIFIERS; i++) {
		if (!get_type(self, id, ret_type, error))
			return false;
		switch (ret_type->kind) {
		case KIND_TYPEDEF:
		case KIND_VOLATILE:
		case KIND_CONST:
		case KIND_RESTRICT:
		case KIND_TYPE_TAG:
			id = ret_type->size_or_type;
			break;
		default:
			return true;
		}
	}
	return hvp_error_set(error, HVP_ERROR_BAD_DATA, "BTF type %u is an endless chain", id);
}

static HvpBtfMember decode_member(const Type *type, guint32 index, guint32 *ret_name)
{
	const guint8 *bytes = type->bytes + TYPE_BYTES + (gsize)index * 12;
	guint32 offset = hvp_load_u32(bytes + 8);
	HvpBtfMember member = { .bit = offset, .count = 1, .type = hvp_load_u32(bytes + 4) };

	if (type->kind_flag) {
		member.bit = offset & 0xffffff;
		member.bits = offset >> 24;
	}
	*ret_name = hvp_load_u32(bytes);
	return member;
}

/*
 * Looks for @name among the members of @type and of the anonymous structs and unions in
 * it, breadth first with a bounded work list.
 */
static bool find_member(HvpBtf *self, Type type, const char *name, gsize name_bytes,
			HvpBtfMember *ret_member)
{
	struct {
		Type type;
		guint32 bit;
	} pending[MAX_ANONYMOUS] = { { type, 0 } };
	guint done = 0, count = 1;

	for (; done < count && take_steps(self, pending[done].type.vlen, NULL); done++) {
		for (guint32 i = 0; i < pending[done].type.vlen; i++) {
			guint32 name_offset;
			HvpBtfMember member = decode_member(&pending[done].type, i, &name_offset);
			const char *found = get_string(self, name_offset);
			Type inner;

			member.bit += pending[done].bit;
			/* Never longer than our name: theirs may be megabytes. */
			if (strncmp(found, name, name_bytes) == 0 && found[name_bytes] == 0) {
				*ret_member = member;
				return true;
			}
			if (found[0] == 0 && count < MAX_ANONYMOUS &&
			    strip_modifiers(self, member.type, &inner, NULL) &&
			    (inner.kind == KIND_STRUCT || inner.kind == KIND_UNION)) {
				pending[count].type = inner;
				pending[count++].bit = member.bit;
			}
		}
	}
	return false;
}

static void note_array(HvpBtf *self, HvpBtfMember *member)
{
	Type type;

	if (strip_modifiers(self, member->type, &type, NULL) && type.kind == KIND_ARRAY)
		member->count = hvp_load_u32(type.bytes + TYPE_BYTES + 8);
}

bool hvp_btf_member(HvpBtf *self, const char *name, const char *path, HvpBtfMember *ret_member,
		    GError **error)
{
	HvpBtfMember member = { 0 };
	guint32 bit = 0;
	const char *rest = path;
	Type type;

	if (!find_struct(self, name, &type, error))
		return false;
	while (rest != NULL) {
		const char *dot = strchr(rest, '.');
		gsize bytes = dot ? (gsize)(dot - rest) : strlen(rest);

		if ((type.kind != KIND_STRUCT && type.kind != KIND_UNION) ||
		    !find_member(self, type, rest, bytes, &member))
			return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
					     "no member %s in struct %s of the guest's BTF", path,
					     name);
		bit += member.bit;
		rest = dot ? dot + 1 : NULL;
		if (rest != NULL && !strip_modifiers(self, member.type, &type, error))
			return false;
	}
	member.bit = bit;
	note_array(self, &member);
	*ret_member = member;
	return true;
}

static bool find_in_enum(HvpBtf *self, const Type *type, const char *name, gint64 *ret_value)
{
	gsize step = type->kind == KIND_ENUM64 ? 12 : 8;

	for (guint32 i = 0; i < type->vlen; i++) {
		const guint8 *bytes = type->bytes + TYPE_BYTES + i * step;
		guint32 low = hvp_load_u32(bytes + 4);

		if (strcmp(get_string(self, hvp_load_u32(bytes)), name) != 0)
			continue;
		if (type->kind == KIND_ENUM64)
			*ret_value = (gint64)((guint64)hvp_load_u32(bytes + 8) << 32 | low);
		else
			*ret_value = type->kind_flag ? (gint64)(gint32)low : (gint64)low;
		return true;
	}
	return false;
}

bool hvp_btf_enumerator(HvpBtf *self, const char *name, gint64 *ret_value, GError **error)
{
	for (guint32 id = 1; id <= self->offsets->len; id++) {
		Type type = decode_type(self->types +
					g_array_index(self->offsets, guint32, id - 1));

		if (!take_steps(self, 1, error))
			return false;
		if ((type.kind == KIND_ENUM || type.kind == KIND_ENUM64) &&
		    take_steps(self, type.vlen, NULL) &&
		    find_in_enum(self, &type, name, ret_value))
			return true;
	}
	return hvp_error_set(error, HVP_ERROR_NOT_FOUND, "no enumerator %s in the guest's BTF",
			     name);
}
