/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/cpio.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define HEADER_BYTES 110U
#define MAX_ENTRIES 16U

/* An entry as the kernel reads it. */
typedef struct {
	char *name;
	guint inode;
	guint mode;
	guint links;
	char *content;
	guint size;
} Entry;

static guint field(const char *header, guint index)
{
	char digits[9] = { 0 };
	char *end;
	guint value;

	memcpy(digits, header + 6 + 8 * index, 8);
	value = (guint)strtoul(digits, &end, 16);
	g_assert_cmpuint((gsize)(end - digits), ==, 8);
	return value;
}

static guint read_archive(GBytes *archive, Entry *entries)
{
	gsize length, at = 0;
	const char *bytes = g_bytes_get_data(archive, &length);

	for (guint count = 0; count < MAX_ENTRIES; count++) {
		const char *header = bytes + at;
		guint name_bytes;

		g_assert_cmpuint(at % 4, ==, 0);
		g_assert_cmpuint(at + HEADER_BYTES, <=, length);
		g_assert_cmpmem(header, 6, "070701", 6);
		name_bytes = field(header, 11);
		entries[count].inode = field(header, 0);
		entries[count].mode = field(header, 1);
		entries[count].links = field(header, 4);
		entries[count].size = field(header, 6);
		g_assert_cmpuint(header[HEADER_BYTES + name_bytes - 1], ==, 0);
		entries[count].name = g_strdup(header + HEADER_BYTES);
		g_assert_cmpuint(strlen(entries[count].name) + 1, ==, name_bytes);
		at += (HEADER_BYTES + name_bytes + 3) / 4 * 4;
		g_assert_cmpuint(at + entries[count].size, <=, length);
		entries[count].content = g_strndup(bytes + at, entries[count].size);
		at += (entries[count].size + 3) / 4 * 4;
		if (strcmp(entries[count].name, "TRAILER!!!") == 0) {
			/* Zeros to where another archive may begin. */
			g_assert_cmpuint(length % 512, ==, 0);
			for (; at < length; at++)
				g_assert_cmpint(bytes[at], ==, 0);
			return count;
		}
	}
	g_assert_not_reached();
}

static void assert_entry(Entry *entry, const char *name, guint mode, const char *content)
{
	g_assert_cmpstr(entry->name, ==, name);
	g_assert_cmphex(entry->mode, ==, mode);
	g_assert_cmpstr(entry->content, ==, content);
	g_assert_cmpuint(entry->links, ==, 1);
	g_free(entry->name);
	g_free(entry->content);
}

static void test_archive(void)
{
	g_autoptr(HvpCpio) archive = hvp_cpio_new();
	g_autoptr(GBytes) bytes = NULL;
	Entry entries[MAX_ENTRIES];

	hvp_cpio_add_file(archive, "init", 0755, "#!/bin/sh\n", 10);
	hvp_cpio_add_file(archive, "a/b/file", 0644, "1", 1);
	hvp_cpio_add_link(archive, "a/link", "b/file");
	hvp_cpio_add_folder(archive, "a/b/c");
	hvp_cpio_add_file(archive, "empty", 0600, NULL, 0);
	bytes = hvp_cpio_finish(archive);
	g_assert_cmpuint(read_archive(bytes, entries), ==, 7);
	for (guint i = 0; i < 7; i++)
		g_assert_cmpuint(entries[i].inode, ==, i + 1);
	assert_entry(&entries[0], "init", S_IFREG | 0755, "#!/bin/sh\n");
	/* Folders before what is in them, each once. */
	assert_entry(&entries[1], "a", S_IFDIR | 0755, "");
	assert_entry(&entries[2], "a/b", S_IFDIR | 0755, "");
	assert_entry(&entries[3], "a/b/file", S_IFREG | 0644, "1");
	assert_entry(&entries[4], "a/link", S_IFLNK | 0777, "b/file");
	assert_entry(&entries[5], "a/b/c", S_IFDIR | 0755, "");
	assert_entry(&entries[6], "empty", S_IFREG | 0600, "");
	g_free(entries[7].name);
	g_free(entries[7].content);
}

static void test_empty(void)
{
	g_autoptr(HvpCpio) archive = hvp_cpio_new();
	g_autoptr(GBytes) bytes = hvp_cpio_finish(archive);
	Entry entries[MAX_ENTRIES];

	g_assert_cmpuint(g_bytes_get_size(bytes), ==, 512);
	g_assert_cmpuint(read_archive(bytes, entries), ==, 0);
	g_free(entries[0].name);
	g_free(entries[0].content);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cpio/files-folders-links-AS-THE-KERNEL-READS", test_archive);
	g_test_add_func("/cpio/nothing-AN-ARCHIVE", test_empty);
	return g_test_run();
}
