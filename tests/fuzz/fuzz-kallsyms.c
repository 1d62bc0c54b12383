/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A kernel image of arbitrary bytes: its symbols or a reason, and each symbol readable. */
#include <string.h>

#include "guest/kallsyms.h"

#define BASE 0xffffffff9a000000ULL

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes);

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes)
{
	HvpKallsymsPiece pieces[HVP_KALLSYMS_PIECES];
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpSymbols)
		symbols = hvp_kallsyms_decode(data, size_bytes, hvp_gva(BASE), pieces, &error);

	g_assert((symbols == NULL) == (error != NULL));
	g_assert(error == NULL || error->domain == HVP_ERROR);
	for (gsize i = 0; symbols != NULL && i < HVP_KALLSYMS_PIECES; i++)
		g_assert(pieces[i].offset <= size_bytes &&
			 pieces[i].length_bytes <= size_bytes - pieces[i].offset);
	for (gsize i = 0; symbols != NULL && i < hvp_symbols_count(symbols); i++) {
		HvpSymbol symbol = hvp_symbols_by_name(symbols, i);
		gsize first;

		g_assert(strlen(symbol.name) < HVP_SYMBOLS_MAX_NAME_BYTES);
		g_assert(hvp_symbols_find(symbols, symbol.name, &first) > 0);
	}
	return 0;
}
