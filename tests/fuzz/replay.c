/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a fuzz target once over each file of the folders given, without libFuzzer. */
#include <glib.h>

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes);

static guint replay_folder(const char *folder)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GDir) dir = g_dir_open(folder, 0, &error);
	const char *name;
	guint count = 0;

	if (dir == NULL)
		g_error("%s", error->message);
	while ((name = g_dir_read_name(dir)) != NULL) {
		g_autofree char *path = g_build_filename(folder, name, NULL);
		g_autofree char *contents = NULL;
		gsize size_bytes;

		if (!g_file_get_contents(path, &contents, &size_bytes, &error))
			g_error("%s", error->message);
		LLVMFuzzerTestOneInput((const guint8 *)contents, size_bytes);
		count++;
	}
	return count;
}

int main(int argc, char **argv)
{
	guint count = 0;

	for (int i = 1; i < argc; i++)
		count += replay_folder(argv[i]);
	g_print("%u inputs\n", count);
	return count == 0;
}
