/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files as they lie in a file system: what hvp_patch_open accepts and refuses. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "patch/patch.h"
#include "synth.h"

typedef struct {
	char *folder;
	char *path;
} Fixture;

static void setup(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
	fixture->folder = g_dir_make_tmp("hvpatch-open-XXXXXX", NULL);
	g_assert_nonnull(fixture->folder);
	fixture->path = g_build_filename(fixture->folder, "patch.ko", NULL);
}

static void teardown(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
	g_unlink(fixture->path);
	g_assert_cmpint(g_rmdir(fixture->folder), ==, 0);
	g_free(fixture->path);
	g_free(fixture->folder);
}

static void write_bytes(const char *path, GBytes *bytes)
{
	gsize size_bytes;
	const char *data = g_bytes_get_data(bytes, &size_bytes);

	g_assert_true(g_file_set_contents(path, data, (gssize)size_bytes, NULL));
}

static void assert_refused(const char *path, HvpErrorCode code, const char *word)
{
	g_autoptr(GError) error = NULL;
	HvpPatch *patch = hvp_patch_open(path, &error);

	g_assert_null(patch);
	g_assert_error(error, HVP_ERROR, (int)code);
	g_assert_nonnull(strstr(error->message, word));
}

static void test_file(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
	g_autoptr(GBytes) bytes = synth_klp_file();
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpPatch) patch = NULL;
	g_autofree char *sha256 = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, bytes);

	write_bytes(fixture->path, bytes);
	patch = hvp_patch_open(fixture->path, &error);
	g_assert_no_error(error);
	/* Whatever happens to the file now, the patch stays what it was. */
	g_assert_cmpint(truncate(fixture->path, 0), ==, 0);
	g_assert_true(g_bytes_equal(patch->bytes, bytes));
	g_assert_cmpstr(patch->sha256, ==, sha256);
	g_assert_cmpuint(patch->function_count, ==, 3);
}

static void test_symbolic_link(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
	g_autoptr(GBytes) bytes = synth_kpatch_file();
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpPatch) patch = NULL;
	g_autofree char *link = g_build_filename(fixture->folder, "link.ko", NULL);

	write_bytes(fixture->path, bytes);
	g_assert_cmpint(symlink("patch.ko", link), ==, 0);
	patch = hvp_patch_open(link, &error);
	g_assert_no_error(error);
	g_assert_cmpstr(patch->name, ==, "synth");
	g_unlink(link);
}

static void test_missing(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
	assert_refused(fixture->path, HVP_ERROR_NOT_FOUND, "patch.ko: cannot open");
}

static void test_folder(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
	assert_refused(fixture->folder, HVP_ERROR_INVALID_ARGUMENT, "not a regular file");
}

static void test_fifo(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
	g_assert_cmpint(mkfifo(fixture->path, 0600), ==, 0);
	assert_refused(fixture->path, HVP_ERROR_INVALID_ARGUMENT, "not a regular file");
}

static void test_device(Fixture *fixture G_GNUC_UNUSED, gconstpointer data G_GNUC_UNUSED)
{
	assert_refused("/dev/zero", HVP_ERROR_INVALID_ARGUMENT, "not a regular file");
}

static void test_empty(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
	g_assert_true(g_file_set_contents(fixture->path, "", 0, NULL));
	assert_refused(fixture->path, HVP_ERROR_BAD_DATA, "empty");
}

/* A sparse file of 10 GiB: refused by its size, not read. */
static void test_huge(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
	int fd = open(fixture->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(ftruncate(fd, (off_t)10 << 30), ==, 0);
	close(fd);
	assert_refused(fixture->path, HVP_ERROR_INVALID_ARGUMENT,
		       "too large: 10737418240 bytes, the limit is 67108864");
}

/* A file under /proc says that it is empty, whatever it holds. */
static void test_proc(Fixture *fixture G_GNUC_UNUSED, gconstpointer data G_GNUC_UNUSED)
{
	assert_refused("/proc/self/maps", HVP_ERROR_BAD_DATA, "empty");
}

static void test_hostile_path(Fixture *fixture G_GNUC_UNUSED, gconstpointer data G_GNUC_UNUSED)
{
	assert_refused("/no/such\x1b[2Jfile\n", HVP_ERROR_NOT_FOUND,
		       "/no/such\\x1b[2Jfile\\x0a: cannot open");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *path;
		void (*test)(Fixture *, gconstpointer);
	} tests[] = {
		{ "/open/file-READ", test_file },
		{ "/open/symbolic-link-FOLLOWED", test_symbolic_link },
		{ "/open/missing-NOT_FOUND", test_missing },
		{ "/open/folder-INVALID_ARGUMENT", test_folder },
		{ "/open/fifo-INVALID_ARGUMENT", test_fifo },
		{ "/open/device-INVALID_ARGUMENT", test_device },
		{ "/open/empty-BAD_DATA", test_empty },
		{ "/open/ten-gib-INVALID_ARGUMENT", test_huge },
		{ "/open/proc-file-BAD_DATA", test_proc },
		{ "/open/hostile-path-ESCAPED", test_hostile_path },
	};

	g_test_init(&argc, &argv, NULL);
	for (guint i = 0; i < G_N_ELEMENTS(tests); i++)
		g_test_add(tests[i].path, Fixture, NULL, setup, tests[i].test, teardown);
	return g_test_run();
}
