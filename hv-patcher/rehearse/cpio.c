/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/cpio.h"

#include <string.h>
#include <sys/stat.h>

#define ALIGNMENT 4U
/* Another archive may follow; it must begin at a multiple of 4, which this is. */
#define END_ALIGNMENT 512U
#define END_NAME "TRAILER!!!"

struct HvpCpio {
	GByteArray *bytes;
	GHashTable *folders; /* char * */
	guint count;
};

HvpCpio *hvp_cpio_new(void)
{
	HvpCpio *self = g_new0(HvpCpio, 1);

	self->bytes = g_byte_array_new();
	self->folders = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	return self;
}

void hvp_cpio_free(HvpCpio *self)
{
	if (self == NULL)
		return;
	if (self->bytes != NULL)
		g_byte_array_unref(self->bytes);
	g_hash_table_unref(self->folders);
	g_free(self);
}

static void pad(GByteArray *bytes, guint alignment)
{
	static const guint8 zeros[END_ALIGNMENT];

	g_byte_array_append(bytes, zeros, (alignment - bytes->len % alignment) % alignment);
}

static void append(HvpCpio *self, const char *path, guint mode, const void *bytes,
		   gsize length_bytes)
{
	gsize name_bytes = strlen(path) + 1;
	/* Inode, mode, owner, group, links, time, size, four device numbers, name, checksum. */
	g_autofree char *header = g_strdup_printf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x"
						  "%08x%08x%08x",
						  ++self->count, mode, 0, 0, 1, 0,
						  (guint)length_bytes, 0, 0, 0, 0,
						  (guint)name_bytes, 0);

	g_byte_array_append(self->bytes, (const guint8 *)header, (guint)strlen(header));
	g_byte_array_append(self->bytes, (const guint8 *)path, (guint)name_bytes);
	pad(self->bytes, ALIGNMENT);
	g_byte_array_append(self->bytes, bytes, (guint)length_bytes);
	pad(self->bytes, ALIGNMENT);
}

void hvp_cpio_add_folder(HvpCpio *self, const char *path)
{
	for (const char *end = path; end != NULL;) {
		g_autofree char *folder = NULL;

		end = strchr(end, '/');
		folder = end ? g_strndup(path, (gsize)(end - path)) : g_strdup(path);
		end = end ? end + 1 : NULL;
		if (!g_hash_table_contains(self->folders, folder)) {
			append(self, folder, S_IFDIR | 0755, NULL, 0);
			g_hash_table_add(self->folders, g_steal_pointer(&folder));
		}
	}
}

static void add(HvpCpio *self, const char *path, guint mode, const void *bytes, gsize length_bytes)
{
	const char *slash = strrchr(path, '/');
	g_autofree char *folder = slash ? g_strndup(path, (gsize)(slash - path)) : NULL;

	if (folder != NULL)
		hvp_cpio_add_folder(self, folder);
	append(self, path, mode, bytes, length_bytes);
}

void hvp_cpio_add_file(HvpCpio *self, const char *path, guint permissions, const void *bytes,
		       gsize length_bytes)
{
	add(self, path, S_IFREG | permissions, bytes, length_bytes);
}

void hvp_cpio_add_link(HvpCpio *self, const char *path, const char *target)
{
	add(self, path, S_IFLNK | 0777, target, strlen(target));
}

GBytes *hvp_cpio_finish(HvpCpio *self)
{
	append(self, END_NAME, 0, NULL, 0);
	pad(self->bytes, END_ALIGNMENT);
	return g_byte_array_free_to_bytes(g_steal_pointer(&self->bytes));
}
