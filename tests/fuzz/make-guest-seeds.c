/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes inputs for the fuzz targets of guest memory into a folder: make-guest-seeds KIND FOLDER */
#include <glib/gstdio.h>
#include <string.h>

#include "../unit/guest/synthetic-guest.h"

#define ORC_BYTES (32U * 6U)

static void write_seed(const char *folder, const char *name, guint number, const void *bytes,
		       gsize length_bytes)
{
	g_autofree char *file = g_strdup_printf("%s-%u", name, number);
	g_autofree char *path = g_build_filename(folder, file, NULL);
	g_autoptr(GError) error = NULL;

	if (!g_file_set_contents(path, bytes, (gssize)length_bytes, &error))
		g_error("%s", error->message);
}

static void write_kallsyms(SyntheticGuest *guest, const char *folder)
{
	const KallsymsPlaces *places = &guest->kallsyms;
	HvpGva start = hvp_gva(SYNTHETIC_BASE + places->start);

	write_seed(folder, "kallsyms", guest->options.generation,
		   synthetic_guest_bytes(guest, start, places->end - places->start),
		   places->end - places->start);
}

static void write_btf(SyntheticGuest *guest, const char *folder)
{
	g_autoptr(GBytes) blob = btf_maker_kernel(guest->options.generation, NULL);

	write_seed(folder, "btf", guest->options.generation, g_bytes_get_data(blob, NULL),
		   g_bytes_get_size(blob));
}

/* The guest's own entries, and stacks that are all one kind of word or a mixture. */
static void write_orc_unwind(SyntheticGuest *guest, const char *folder)
{
	for (guint function = 0; function < 32; function++) {
		guint8 input[4 + ORC_BYTES + 64] = { (guint8)guest->options.generation,
						     (guint8)(function * 4), 0x40, 0 };

		memcpy(input + 4, synthetic_guest_bytes(guest, guest->orc_entries, ORC_BYTES),
		       ORC_BYTES);
		for (guint i = 0; i < 64; i++)
			input[4 + ORC_BYTES + i] = (guint8)(i * (function + 3) * 37);
		write_seed(folder, "orc", guest->options.generation * 32 + function, input,
			   sizeof input);
	}
}

static void write_page_walk(SyntheticGuest *guest, const char *folder)
{
	static const guint64 values[] = { 0, G_MAXUINT64, 0x1003, 0x41414141, 0x1083 };

	/* Words all over: the first are page tables, the heap follows. */
	for (guint i = 0; i < 40; i++) {
		guint8 input[13] = { (guint8)(guest->options.generation | (i & 2)) };

		hvp_store_u32(input + 1, i < 20 ? i * 256 : 5000 + i * 997);
		hvp_store_u64(input + 5, values[i % G_N_ELEMENTS(values)]);
		write_seed(folder, "walk", guest->options.generation * 40 + i, input,
			   i == 0 ? 1 : sizeof input);
	}
}

/* Each of the first places changed in each way (changes.h), before it is read or meanwhile. */
static void write_changes(SyntheticGuest *guest, const char *folder)
{
	static const guint64 values[] = { 0, 1, 0x103, 0x80000000, 0x41414141, G_MAXUINT64 };
	const guint kinds = 4;

	for (guint i = 0; i < 240; i++) {
		guint8 input[12] = { (guint8)guest->options.generation, (guint8)(i / 2),
				     (guint8)(i % kinds), (guint8)(i % 5 * 4) };
		/* Addresses and contents are of places; else a value of its own. */
		guint64 value = i % kinds == 0 || i % kinds == 3
					? values[i / kinds % G_N_ELEMENTS(values)]
					: i * 7;

		hvp_store_u64(input + 4, value);
		write_seed(folder, "change", guest->options.generation * 240 + i, input,
			   sizeof input);
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *kind;
		void (*write)(SyntheticGuest *guest, const char *folder);
	} kinds[] = { { "kallsyms", write_kallsyms },
		      { "btf", write_btf },
		      { "orc-unwind", write_orc_unwind },
		      { "page-walk", write_page_walk },
		      { "tasks", write_changes },
		      { "modules", write_changes } };

	if (argc != 3 || g_mkdir_with_parents(argv[2], 0755) != 0)
		return 2;
	for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
		for (guint generation = 0; generation < 2; generation++) {
			SyntheticOptions options = { .generation = generation };
			g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);

			if (strcmp(kinds[i].kind, argv[1]) == 0)
				kinds[i].write(guest, argv[2]);
		}
	return 0;
}
