/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes the modules that the unit tests make up into a folder, as fuzzer seeds. */
#include <glib/gstdio.h>

#include "synth.h"

static void write_seed(const char *folder, const char *name, GBytes *bytes)
{
	g_autofree char *path = g_build_filename(folder, name, NULL);
	g_autoptr(GError) error = NULL;
	gsize size_bytes;
	const char *data = g_bytes_get_data(bytes, &size_bytes);

	if (!g_file_set_contents(path, data, (gssize)size_bytes, &error))
		g_error("%s", error->message);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		GBytes *(*make)(void);
	} seeds[] = {
		{ "klp.ko", synth_klp_file },
		{ "klp-build.ko", synth_klp_build_file },
		{ "kpatch.ko", synth_kpatch_file },
	};
	g_autoptr(GBytes) klp = synth_klp_file();
	g_autoptr(GBytes) with_signature = synth_sign(klp);

	if (argc != 2 || g_mkdir_with_parents(argv[1], 0755) != 0)
		return 2;
	for (guint i = 0; i < G_N_ELEMENTS(seeds); i++) {
		g_autoptr(GBytes) bytes = seeds[i].make();

		write_seed(argv[1], seeds[i].name, bytes);
	}
	write_seed(argv[1], "signed.ko", with_signature);
	return 0;
}
