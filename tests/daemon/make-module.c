/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes a livepatch module that is none: make-module FILE [SERIAL | kpatch] */
#include <stdio.h>
#include <string.h>

#include "synth.h"

/* The same with a manifest in its modinfo, in place of what describes it. */
static GBytes *with_serial(GBytes *plain, int serial)
{
	static const char place[] = "description=made by a test";
	g_autofree char *field = g_strdup_printf("hvpatch={\"serial\":%7d}", serial);
	gsize length;
	const guint8 *bytes = g_bytes_get_data(plain, &length);
	guint8 *copy = g_memdup2(bytes, length);
	guint8 *at = memmem(copy, length, place, sizeof place);

	g_assert_nonnull(at);
	memcpy(at, field, strlen(field));
	return g_bytes_new_take(copy, length);
}

int main(int argc, char **argv)
{
	const char *kind = argc > 2 ? argv[2] : "";
	g_autoptr(GBytes) plain = strcmp(kind, "kpatch") == 0 ? synth_kpatch_file()
							      : synth_klp_file();
	g_autoptr(GBytes) file = g_ascii_isdigit(kind[0]) ? with_serial(plain, atoi(kind))
							  : g_bytes_ref(plain);

	if (argc < 2)
		return 2;
	return g_file_set_contents(argv[1], g_bytes_get_data(file, NULL),
				   (gssize)g_bytes_get_size(file), NULL)
		       ? 0
		       : 1;
}
