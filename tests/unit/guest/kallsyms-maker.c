/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kallsyms-maker.h"

#include "base/bytes.h"

#include <string.h>

#define TOKEN_COUNT 256U
#define MARKER_STEP 256U

typedef struct {
	char *name;
	guint64 value;
	bool absolute;
	char type;
} Symbol;

struct KallsymsMaker {
	GArray *symbols;
};

/* Where the next table goes. */
typedef struct {
	guint8 *image;
	gsize limit;
	gsize at;
} Output;

static void clear_symbol(gpointer data)
{
	g_free(((Symbol *)data)->name);
}

KallsymsMaker *kallsyms_maker_new(void)
{
	KallsymsMaker *self = g_new0(KallsymsMaker, 1);

	self->symbols = g_array_new(FALSE, FALSE, sizeof(Symbol));
	g_array_set_clear_func(self->symbols, clear_symbol);
	return self;
}

void kallsyms_maker_free(KallsymsMaker *self)
{
	if (self == NULL)
		return;
	g_array_unref(self->symbols);
	g_free(self);
}

void kallsyms_maker_add(KallsymsMaker *self, const char *name, char type, guint64 value,
			bool absolute)
{
	Symbol symbol = { g_strdup(name), value, absolute, type };

	g_array_append_val(self->symbols, symbol);
}

guint kallsyms_maker_count(KallsymsMaker *self)
{
	return self->symbols->len;
}

static void put(Output *out, const void *bytes, gsize length_bytes)
{
	g_assert(length_bytes <= out->limit - out->at);
	memcpy(out->image + out->at, bytes, length_bytes);
	out->at += length_bytes;
}

static void put_u32(Output *out, guint32 value)
{
	guint8 bytes[4];

	hvp_store_u32(bytes, value);
	put(out, bytes, sizeof bytes);
}

static void put_byte(Output *out, guint value)
{
	guint8 byte = (guint8)value;

	put(out, &byte, 1);
}

static void align(Output *out)
{
	while (out->at % 8 != 0)
		put_byte(out, 0);
}

/* Whether token @index is the letter itself. */
static bool is_letter(guint index)
{
	return index >= 0x21 && index < 0x7f;
}

/* What token @index stands for: itself where it is printable, else two letters. */
static void token_text(guint index, char ret_text[4])
{
	if (is_letter(index))
		g_snprintf(ret_text, 4, "%c", (char)index);
	else
		g_snprintf(ret_text, 4, "%c%c", 'a' + (char)(index / 16), 'a' + (char)(index % 16));
}

/* The token for the next letters of @text, and how many they are. */
static guint next_token(const char *text, gsize *ret_letters)
{
	if (text[0] >= 'a' && text[0] <= 'p' && text[1] >= 'a' && text[1] <= 'p') {
		guint pair = (guint)(text[0] - 'a') * 16 + (guint)(text[1] - 'a');

		if (!is_letter(pair)) {
			*ret_letters = 2;
			return pair;
		}
	}
	*ret_letters = 1;
	return (guint8)text[0];
}

static void put_name(Output *out, const Symbol *symbol)
{
	g_autofree char *text = g_strdup_printf("%c%s", symbol->type, symbol->name);
	g_autoptr(GByteArray) tokens = g_byte_array_new();
	gsize letters;

	for (const char *rest = text; *rest != 0; rest += letters) {
		guint8 token = (guint8)next_token(rest, &letters);

		g_byte_array_append(tokens, &token, 1);
	}
	if (tokens->len < 0x80) {
		put_byte(out, tokens->len);
	} else {
		put_byte(out, (tokens->len & 0x7f) | 0x80);
		put_byte(out, tokens->len >> 7);
	}
	put(out, tokens->data, tokens->len);
}

static void put_names(KallsymsMaker *self, Output *out, KallsymsPlaces *places)
{
	g_autoptr(GArray) markers = g_array_new(FALSE, FALSE, sizeof(guint32));

	places->count = out->at;
	put_u32(out, self->symbols->len);
	align(out);
	places->names = out->at;
	for (guint i = 0; i < self->symbols->len; i++) {
		guint32 offset = (guint32)(out->at - places->names);

		if (i % MARKER_STEP == 0)
			g_array_append_val(markers, offset);
		put_name(out, &g_array_index(self->symbols, Symbol, i));
	}
	align(out);
	places->markers = out->at;
	for (guint i = 0; i < markers->len; i++)
		put_u32(out, g_array_index(markers, guint32, i));
	align(out);
}

static void put_tokens(Output *out, KallsymsPlaces *places)
{
	guint16 offsets[TOKEN_COUNT];

	places->token_table = out->at;
	for (guint i = 0; i < TOKEN_COUNT; i++) {
		char token[4];

		token_text(i, token);
		hvp_store_u16(&offsets[i], (guint16)(out->at - places->token_table));
		put(out, token, strlen(token) + 1);
	}
	align(out);
	places->token_index = out->at;
	put(out, offsets, sizeof offsets);
	align(out);
}

static void put_offsets(KallsymsMaker *self, Output *out, KallsymsOffsets offsets, HvpGva base,
			KallsymsPlaces *places)
{
	guint8 word[8];

	places->offsets = out->at;
	for (guint i = 0; i < self->symbols->len; i++) {
		const Symbol *symbol = &g_array_index(self->symbols, Symbol, i);

		g_assert(offsets == KALLSYMS_ABSOLUTE_PERCPU || !symbol->absolute);
		put_u32(out, offsets == KALLSYMS_RELATIVE || symbol->absolute
				     ? (guint32)symbol->value
				     : (guint32)(-1 - (gint32)symbol->value));
	}
	align(out);
	places->relative_base = out->at;
	hvp_store_u64(word, base.value);
	put(out, word, sizeof word);
}

/* seqs_of_names: three bytes a symbol, of no use to us. */
static void put_sequence(KallsymsMaker *self, Output *out)
{
	for (guint i = 0; i < self->symbols->len * 3; i++)
		put_byte(out, i * 7);
	align(out);
}

KallsymsPlaces kallsyms_maker_write(KallsymsMaker *self, KallsymsLayout layout,
				    KallsymsOffsets offsets, HvpGva base, guint8 *image,
				    gsize image_bytes, gsize at)
{
	Output out = { image, image_bytes, at };
	KallsymsPlaces places = { .start = at };

	if (layout == KALLSYMS_BEFORE_6_4)
		put_offsets(self, &out, offsets, base, &places);
	put_names(self, &out, &places);
	if (layout == KALLSYMS_BEFORE_6_4)
		put_sequence(self, &out);
	put_tokens(&out, &places);
	if (layout == KALLSYMS_SINCE_6_4) {
		put_offsets(self, &out, offsets, base, &places);
		put_sequence(self, &out);
	}
	places.end = out.at;
	return places;
}
