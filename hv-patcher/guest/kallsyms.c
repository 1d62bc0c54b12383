/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/kallsyms.h"

#include "base/bytes.h"

#include <string.h>

#define TOKEN_COUNT 256U
#define TOKEN_INDEX_BYTES (TOKEN_COUNT * 2)
#define MARKER_STEP 256U
#define MIN_SYMBOLS 1000U
#define MAX_TOKEN_BYTES 64U
/* Markers lie less than this behind names, names less than this before the tokens. */
#define MAX_NAMES_BYTES (64U << 20)
/* Places that look like the tables: real images have a handful of each. */
#define MAX_CANDIDATES 4096U
#define MAX_SEARCH_STEPS (64U << 20)

typedef struct {
	const guint8 *image;
	gsize length_bytes;
	HvpGva base;
	/* Offsets into the image. */
	gsize token_table;
	gsize token_index;
	gsize names;
	gsize names_end;
	gsize markers;
	gsize offsets;
	guint32 count;
	guint64 steps; /* words and names looked at, against images made to take for ever */
	const char *tokens[TOKEN_COUNT];
	gsize token_bytes[TOKEN_COUNT];
} Tables;

static gsize align8(gsize offset)
{
	return (offset + 7) & ~(gsize)7;
}

/* Follows the 256 strings from @offset; fills in tokens. The end, or 0 when they are not. */
static gsize read_tokens(Tables *self, gsize offset)
{
	gsize limit = MIN(self->length_bytes, offset + G_MAXUINT16);

	for (guint i = 0; i < TOKEN_COUNT; i++) {
		const guint8 *token = self->image + offset;
		const guint8 *end = memchr(token, 0, limit - offset);

		if (end == NULL)
			return 0;
		self->tokens[i] = (const char *)token;
		self->token_bytes[i] = (gsize)(end - token);
		offset += self->token_bytes[i] + 1;
		if (offset >= limit)
			return 0;
	}
	return offset;
}

/* Whether the u16 table at @index gives the position of each token read. */
static bool check_token_index(const Tables *self, gsize index)
{
	if (index + TOKEN_INDEX_BYTES > self->length_bytes)
		return false;
	for (guint i = 0; i < TOKEN_COUNT; i++)
		if (hvp_load_u16(self->image + index + i * 2) !=
		    (gsize)(self->tokens[i] - self->tokens[0]))
			return false;
	return true;
}

/*
 * @digits is where token '0' starts: steps back over the 48 tokens before it. The table is
 * aligned, and what stands before it may run into its first token (since 6.2: sequence numbers).
 */
static bool try_token_table(Tables *self, gsize digits)
{
	gsize start = digits, first_end = digits;
	gsize end;

	for (guint i = 0; i < '0'; i++) {
		if (start < 2)
			return false;
		first_end = --start;
		while (start > 0 && self->image[start - 1] != 0)
			start--;
	}
	start = MAX(start, MAX(first_end, MAX_TOKEN_BYTES) - MAX_TOKEN_BYTES);
	for (gsize at = align8(start); at <= first_end; at += 8) {
		end = read_tokens(self, at);
		if (end != 0 && check_token_index(self, align8(end))) {
			self->token_table = at;
			self->token_index = align8(end);
			return true;
		}
	}
	return false;
}

static bool find_token_table(Tables *self)
{
	static const guint8 digits[] = "0\0001\0002\0003\0004\0005\0006\0007\0008\0009";
	gsize from = 0;

	for (guint i = 0; i < MAX_CANDIDATES && from < self->length_bytes; i++) {
		const guint8 *found = memmem(self->image + from, self->length_bytes - from, digits,
					     sizeof digits);

		if (found == NULL)
			return false;
		if (try_token_table(self, (gsize)(found - self->image)))
			return true;
		from = (gsize)(found - self->image) + 1;
	}
	return false;
}

/* Length of the name at @offset in tokens and of its length field in bytes; 0 at the end. */
static guint name_length(const Tables *self, gsize offset, guint *ret_field_bytes)
{
	guint length;

	if (offset + 2 > self->token_table)
		return 0;
	length = self->image[offset];
	*ret_field_bytes = 1;
	if (length & 0x80) {
		length = (length & 0x7f) | (guint)self->image[offset + 1] << 7;
		*ret_field_bytes = 2;
	}
	return length;
}

/* Walks @count names from @names and checks every marker behind them. */
static bool check_names(Tables *self, gsize names, guint32 count)
{
	gsize offset = names, markers;
	guint field_bytes;
	g_autofree guint32 *seen = g_new(guint32, count / MARKER_STEP + 1);

	for (guint32 i = 0; i < count; i++) {
		guint length = name_length(self, offset, &field_bytes);

		self->steps++;
		if (length == 0)
			return false;
		if (i % MARKER_STEP == 0)
			seen[i / MARKER_STEP] = (guint32)(offset - names);
		offset += field_bytes + length;
	}
	markers = align8(offset);
	for (guint32 i = 0; i < (count + MARKER_STEP - 1) / MARKER_STEP; i++)
		if (markers + i * 4 + 4 > self->token_table ||
		    hvp_load_u32(self->image + markers + i * 4) != seen[i])
			return false;
	self->names = names;
	self->names_end = offset;
	self->markers = markers;
	self->count = count;
	return true;
}

static bool plausible_count(guint32 count)
{
	return count >= MIN_SYMBOLS && count <= HVP_SYMBOLS_MAX_COUNT;
}

/* Where the names may start to be looked for, downwards to lowest_names(). */
static gsize highest_names(const Tables *self)
{
	return self->token_table & ~(gsize)7;
}

static gsize lowest_names(const Tables *self)
{
	return MAX(highest_names(self), MAX_NAMES_BYTES) - MAX_NAMES_BYTES;
}

/* Looks before the token table for num_syms, of @most or one less, with the names behind it. */
static bool find_count(Tables *self, guint32 most)
{
	for (gsize names = highest_names(self); names >= lowest_names(self) + 8; names -= 8) {
		guint32 count = hvp_load_u32(self->image + names - 8);

		if (self->steps++ > MAX_SEARCH_STEPS)
			return false;
		if ((count == most || count + 1 == most) && check_names(self, names, count))
			return true;
	}
	return false;
}

/* Since 6.4: offsets and relative_base behind the token index, num_syms before the names. */
static bool find_new_layout(Tables *self)
{
	gsize offsets = align8(self->token_index + TOKEN_INDEX_BYTES);

	for (gsize at = offsets + MIN_SYMBOLS * 4; at + 8 <= self->length_bytes; at += 8) {
		guint32 most = (guint32)((at - offsets) / 4);

		if (most > HVP_SYMBOLS_MAX_COUNT || self->steps > MAX_SEARCH_STEPS)
			return false;
		if (hvp_load_u64(self->image + at) == self->base.value && find_count(self, most)) {
			self->offsets = offsets;
			return true;
		}
	}
	return false;
}

/* Before 6.4: relative_base, num_syms, names in a row, with the offsets before them. */
static bool find_old_layout(Tables *self)
{
	self->steps = 0;
	for (gsize names = highest_names(self); names >= lowest_names(self) + 16; names -= 8) {
		gsize base = names - 16, offsets_bytes;
		guint32 count;

		if (self->steps++ > MAX_SEARCH_STEPS)
			return false;
		if (hvp_load_u64(self->image + base) != self->base.value)
			continue;
		count = hvp_load_u32(self->image + names - 8);
		offsets_bytes = align8((gsize)count * 4);
		if (!plausible_count(count) || offsets_bytes > base ||
		    !check_names(self, names, count))
			continue;
		self->offsets = base - offsets_bytes;
		return true;
	}
	return false;
}

static bool expand_name(const Tables *self, gsize offset, guint length, char *ret_name)
{
	gsize used = 0;

	for (guint i = 0; i < length; i++) {
		guint8 token = self->image[offset + i];

		if (used + self->token_bytes[token] >= HVP_SYMBOLS_MAX_NAME_BYTES)
			return false;
		memcpy(ret_name + used, self->tokens[token], self->token_bytes[token]);
		used += self->token_bytes[token];
	}
	ret_name[used] = 0;
	/* The first character is the type; a name has at least one more. */
	return used >= 2;
}

/* Whether any offset is negative, as with absolute per-CPU symbols (before 6.15). */
static bool has_negative_offsets(const Tables *self)
{
	for (guint32 i = 0; i < self->count; i++)
		if ((gint32)hvp_load_u32(self->image + self->offsets + (gsize)i * 4) < 0)
			return true;
	return false;
}

static bool add_symbol(HvpSymbols *symbols, const char *name, gint32 offset, bool signed_offsets,
		       GError **error)
{
	bool absolute = signed_offsets && offset >= 0;
	guint64 value = absolute	 ? (guint64)offset
			: signed_offsets ? (guint64)(-1 - (gint64)offset)
					 : (guint32)offset;

	return hvp_symbols_add(symbols, name + 1, value, absolute, name[0], error);
}

static HvpSymbols *decode(const Tables *self, GError **error)
{
	g_autoptr(HvpSymbols) symbols = hvp_symbols_new();
	bool signed_offsets = has_negative_offsets(self);
	gsize offset = self->names;

	for (guint32 i = 0; i < self->count; i++) {
		char name[HVP_SYMBOLS_MAX_NAME_BYTES];
		guint field_bytes = 0;
		guint length = name_length(self, offset, &field_bytes);
		guint32 value = hvp_load_u32(self->image + self->offsets + (gsize)i * 4);

		if (!expand_name(self, offset + field_bytes, length, name)) {
			hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "bad name of symbol %u", i);
			return NULL;
		}
		if (!add_symbol(symbols, name, (gint32)value, signed_offsets, error))
			return NULL;
		offset += field_bytes + length;
	}
	hvp_symbols_finish(symbols);
	return g_steal_pointer(&symbols);
}

static void note_pieces(const Tables *self, HvpKallsymsPiece *ret_pieces)
{
	ret_pieces[0] = (HvpKallsymsPiece){ self->offsets, (guint64)self->count * 4 };
	ret_pieces[1] = (HvpKallsymsPiece){ self->names, self->names_end - self->names };
	ret_pieces[2] = (HvpKallsymsPiece){
		self->token_table, self->token_index + TOKEN_INDEX_BYTES - self->token_table
	};
}

HvpSymbols *hvp_kallsyms_decode(const guint8 *image, gsize length_bytes, HvpGva base,
				HvpKallsymsPiece ret_pieces[HVP_KALLSYMS_PIECES], GError **error)
{
	Tables tables = { .image = image, .length_bytes = length_bytes, .base = base };

	if (!find_token_table(&tables)) {
		hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			      "no kallsyms token table in the kernel image (no KALLSYMS?)");
		return NULL;
	}
	if (!find_new_layout(&tables) && !find_old_layout(&tables)) {
		hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			      "the kallsyms tables around +0x%" G_GSIZE_MODIFIER
			      "x have no known layout",
			      tables.token_table);
		return NULL;
	}
	note_pieces(&tables, ret_pieces);
	return decode(&tables, error);
}
