/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/symbols.h"

#include "base/bytes.h"

#include <string.h>

/* One symbol as it lies in memory and in the cache. */
typedef struct {
	guint64 value;
	guint32 name; /* offset into the strings */
	guint8 absolute;
	char type;
	guint8 padding[2];
} Entry;

G_STATIC_ASSERT(sizeof(Entry) == 16);

/* Twenty times what the largest kernels have. */
#define MAX_STRINGS_BYTES (128U << 20)

struct HvpSymbols {
	GArray *entries;     /* Entry, sorted by (absolute first, value, insertion) */
	GByteArray *strings; /* NUL-terminated names */
	GArray *by_name;     /* guint32 indices into entries */
};

HvpSymbols *hvp_symbols_new(void)
{
	HvpSymbols *self = g_new0(HvpSymbols, 1);

	self->entries = g_array_new(FALSE, FALSE, sizeof(Entry));
	self->strings = g_byte_array_new();
	self->by_name = g_array_new(FALSE, FALSE, sizeof(guint32));
	return self;
}

void hvp_symbols_free(HvpSymbols *self)
{
	if (self == NULL)
		return;
	g_array_unref(self->entries);
	g_byte_array_unref(self->strings);
	g_array_unref(self->by_name);
	g_free(self);
}

bool hvp_symbols_add(HvpSymbols *self, const char *name, guint64 value, bool absolute, char type,
		     GError **error)
{
	gsize length = strlen(name) + 1;
	Entry entry = {
		.value = value, .name = self->strings->len, .absolute = absolute, .type = type
	};

	if (self->entries->len >= HVP_SYMBOLS_MAX_COUNT || length > HVP_SYMBOLS_MAX_NAME_BYTES ||
	    self->strings->len > MAX_STRINGS_BYTES - length)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "too many or too long symbols");
	g_byte_array_append(self->strings, (const guint8 *)name, (guint)length);
	g_array_append_val(self->entries, entry);
	return true;
}

static const Entry *entry_at(const HvpSymbols *self, gsize index)
{
	return &g_array_index(self->entries, Entry, index);
}

static const char *entry_name(const HvpSymbols *self, const Entry *entry)
{
	return (const char *)self->strings->data + entry->name;
}

static int compare_by_address(const void *a, const void *b)
{
	const Entry *left = a, *right = b;

	if (left->absolute != right->absolute)
		return left->absolute ? -1 : 1;
	if (left->value != right->value)
		return left->value < right->value ? -1 : 1;
	/* Strings are appended in the order of insertion, which kallsyms' order is. */
	return left->name < right->name ? -1 : left->name > right->name;
}

static int compare_by_name(const void *a, const void *b, void *user_data)
{
	const HvpSymbols *self = user_data;
	guint32 left = *(const guint32 *)a, right = *(const guint32 *)b;
	int order = strcmp(entry_name(self, entry_at(self, left)),
			   entry_name(self, entry_at(self, right)));

	return order != 0 ? order : left < right ? -1 : left > right;
}

void hvp_symbols_finish(HvpSymbols *self)
{
	guint count = self->entries->len;

	g_array_sort(self->entries, compare_by_address);
	g_array_set_size(self->by_name, count);
	for (guint32 i = 0; i < count; i++)
		g_array_index(self->by_name, guint32, i) = i;
	g_array_sort_with_data(self->by_name, compare_by_name, self);
}

gsize hvp_symbols_count(const HvpSymbols *self)
{
	return self->entries->len;
}

HvpSymbol hvp_symbols_get(const HvpSymbols *self, gsize index)
{
	const Entry *entry = entry_at(self, index);

	return (HvpSymbol){ entry_name(self, entry), entry->value, entry->absolute != 0,
			    entry->type };
}

HvpSymbol hvp_symbols_by_name(const HvpSymbols *self, gsize index)
{
	return hvp_symbols_get(self, g_array_index(self->by_name, guint32, index));
}

/* Index in the order by name of the first name that is not below @name. */
static gsize lower_bound(const HvpSymbols *self, const char *name)
{
	gsize low = 0, high = self->by_name->len;

	while (low < high) {
		gsize middle = low + (high - low) / 2;

		if (strcmp(hvp_symbols_by_name(self, middle).name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

gsize hvp_symbols_find(const HvpSymbols *self, const char *name, gsize *ret_first)
{
	gsize first = lower_bound(self, name), count = 0;

	while (first + count < self->by_name->len &&
	       strcmp(hvp_symbols_by_name(self, first + count).name, name) == 0)
		count++;
	if (count > 0)
		*ret_first = first;
	return count;
}

gsize hvp_symbols_find_prefix(const HvpSymbols *self, const char *prefix, gsize *ret_first)
{
	gsize first = lower_bound(self, prefix), count = 0, bytes = strlen(prefix);

	while (first + count < self->by_name->len &&
	       strncmp(hvp_symbols_by_name(self, first + count).name, prefix, bytes) == 0)
		count++;
	if (count > 0)
		*ret_first = first;
	return count;
}

/* Index of the first relative symbol whose value is above @value. */
static gsize upper_bound(const HvpSymbols *self, guint64 value)
{
	gsize low = 0, high = self->entries->len;

	while (low < high) {
		gsize middle = low + (high - low) / 2;
		const Entry *entry = entry_at(self, middle);

		if (entry->absolute || entry->value <= value)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool hvp_symbols_find_address(const HvpSymbols *self, guint64 value, HvpSymbol *ret_symbol,
			      guint64 *ret_end)
{
	gsize next = upper_bound(self, value);
	gsize index = next;

	if (next == 0 || entry_at(self, next - 1)->absolute)
		return false;
	*ret_end = next < self->entries->len ? entry_at(self, next)->value : G_MAXUINT64;
	while (index > 1 && !entry_at(self, index - 2)->absolute &&
	       entry_at(self, index - 2)->value == entry_at(self, next - 1)->value)
		index--;
	*ret_symbol = hvp_symbols_get(self, index - 1);
	return true;
}

/*
 * Serialised: count u32, strings' length u32, entries, by_name, strings; in the byte order of
 * the machine, which is that of its guests.
 */
GBytes *hvp_symbols_serialize(const HvpSymbols *self)
{
	GByteArray *bytes = g_byte_array_new();
	guint32 header[2] = { self->entries->len, self->strings->len };

	g_byte_array_append(bytes, (const guint8 *)header, sizeof header);
	g_byte_array_append(bytes, (const guint8 *)self->entries->data,
			    self->entries->len * (guint)sizeof(Entry));
	g_byte_array_append(bytes, (const guint8 *)self->by_name->data,
			    self->by_name->len * (guint)sizeof(guint32));
	g_byte_array_append(bytes, self->strings->data, self->strings->len);
	return g_byte_array_free_to_bytes(bytes);
}

static bool check_indices(const HvpSymbols *self, GError **error)
{
	for (guint i = 0; i < self->entries->len; i++)
		if (entry_at(self, i)->name >= self->strings->len ||
		    g_array_index(self->by_name, guint32, i) >= self->entries->len)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "symbol index out of range");
	if (self->strings->len > 0 && self->strings->data[self->strings->len - 1] != 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "symbol strings do not end");
	return true;
}

HvpSymbols *hvp_symbols_deserialize(const guint8 *bytes, gsize length_bytes, GError **error)
{
	g_autoptr(HvpSymbols) self = hvp_symbols_new();
	HvpCursor cursor = hvp_cursor(bytes, length_bytes);
	guint32 count = hvp_cursor_u32(&cursor);
	guint32 strings_bytes = hvp_cursor_u32(&cursor);
	const guint8 *entries, *by_name, *strings;

	entries = hvp_cursor_take(&cursor, (gsize)count * sizeof(Entry));
	by_name = hvp_cursor_take(&cursor, (gsize)count * sizeof(guint32));
	strings = hvp_cursor_take(&cursor, strings_bytes);
	if (cursor.failed || count > HVP_SYMBOLS_MAX_COUNT || strings_bytes > MAX_STRINGS_BYTES) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "cut-off symbol table");
		return NULL;
	}
	g_array_append_vals(self->entries, entries, count);
	g_array_append_vals(self->by_name, by_name, count);
	g_byte_array_append(self->strings, strings, strings_bytes);
	if (!check_indices(self, error))
		return NULL;
	return g_steal_pointer(&self);
}
