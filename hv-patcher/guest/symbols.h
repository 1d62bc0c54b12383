/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The symbols of one kernel image, by name and by address. Addresses are kept
 * relative to the image's base, so that the table of one boot serves the next.
 * Symbols outside the image (per-CPU offsets) are kept as absolute values.
 *
 * Immutable once built.
 */
#pragma once

#include "base/address.h"
#include "base/error.h"

typedef struct HvpSymbols HvpSymbols;

typedef struct {
	const char *name; /* owned by the table; escaped nowhere: guest bytes */
	guint64 value;	  /* relative to the base, or absolute */
	bool absolute;
	char type; /* as nm prints it */
} HvpSymbol;

#define HVP_SYMBOLS_MAX_COUNT (4U << 20)
#define HVP_SYMBOLS_MAX_NAME_BYTES 1024U

/* Collects symbols; finish sorts and freezes them. */
HvpSymbols *hvp_symbols_new(void);
bool hvp_symbols_add(HvpSymbols *self, const char *name, guint64 value, bool absolute, char type,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;
void hvp_symbols_finish(HvpSymbols *self);
void hvp_symbols_free(HvpSymbols *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpSymbols, hvp_symbols_free)

gsize hvp_symbols_count(const HvpSymbols *self);

/* The @index-th in ascending order of address (absolute ones first). */
HvpSymbol hvp_symbols_get(const HvpSymbols *self, gsize index);

/*
 * How many symbols are named @name, and the index of the first of them in the order of
 * hvp_symbols_nth. 0 when there is none.
 */
gsize hvp_symbols_find(const HvpSymbols *self, const char *name, gsize *ret_first);

/* Likewise of all names that start with @prefix. */
gsize hvp_symbols_find_prefix(const HvpSymbols *self, const char *prefix, gsize *ret_first);

/* Entry @index of the order by (name, address): the way through hvp_symbols_find's answer. */
HvpSymbol hvp_symbols_by_name(const HvpSymbols *self, gsize index);

/*
 * The symbol that holds offset @value from the base: the first one at the highest
 * address not above it. False when there is none. @ret_end is the next higher
 * symbol's value (or G_MAXUINT64).
 */
bool hvp_symbols_find_address(const HvpSymbols *self, guint64 value, HvpSymbol *ret_symbol,
			      guint64 *ret_end);

/* For the cache: the whole table as bytes and back. BAD_DATA when they are not one. */
GBytes *hvp_symbols_serialize(const HvpSymbols *self);
HvpSymbols *hvp_symbols_deserialize(const guint8 *bytes, gsize length_bytes, GError **error);
