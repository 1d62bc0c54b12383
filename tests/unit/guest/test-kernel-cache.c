/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/kernel-cache.h"
#include "synthetic-guest.h"

#define SOMEBODY 65534

typedef struct {
	char *folder;
	char *path; /* of the one file in it */
	SyntheticGuest *guest;
} Fixture;

static HvpKernel *attach(Fixture *self)
{
	g_autoptr(GError) error = NULL;
	HvpKernel *kernel = hvp_kernel_attach(&self->guest->memory->base, &self->guest->registers,
					      1, self->folder, &error);

	g_assert_no_error(error);
	return kernel;
}

static bool attach_is_cached(Fixture *self)
{
	g_autoptr(HvpKernel) kernel = attach(self);

	g_assert_cmpstr(hvp_kernel_get_release(kernel), ==, "6.1.0-synthetic");
	return hvp_kernel_was_cached(kernel);
}

/* Path of the only file whose name ends as the cache's do. */
static char *only_file(const char *folder)
{
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
	char *path = NULL;
	const char *name;

	g_assert_nonnull(dir);
	while ((name = g_dir_read_name(dir)) != NULL) {
		g_assert_null(path);
		path = g_build_filename(folder, name, NULL);
	}
	g_assert_true(g_str_has_suffix(path, ".kernel"));
	return path;
}

static void set_up(Fixture *self)
{
	SyntheticOptions options = { 0 };
	g_autofree char *parent = g_dir_make_tmp("hvpatch-cache-XXXXXX", NULL);

	self->folder = g_build_filename(parent, "deep", "cache", NULL);
	self->guest = synthetic_guest_new(&options);
	g_assert_false(attach_is_cached(self));
	self->path = only_file(self->folder);
}

static void tear_down(Fixture *self)
{
	g_autofree char *deep = g_path_get_dirname(self->folder);
	g_autofree char *parent = g_path_get_dirname(deep);
	g_autoptr(GDir) dir = g_dir_open(self->folder, 0, NULL);
	const char *name;

	while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
		g_autofree char *path = g_build_filename(self->folder, name, NULL);

		g_remove(path);
	}
	g_rmdir(self->folder);
	g_rmdir(deep);
	g_rmdir(parent);
	g_free(self->folder);
	g_free(self->path);
	synthetic_guest_free(self->guest);
}

static void read_file(const Fixture *self, char **ret_bytes, gsize *ret_length_bytes)
{
	g_assert_true(g_file_get_contents(self->path, ret_bytes, ret_length_bytes, NULL));
}

/* In place, so that owner and mode stay. */
static void write_file(const Fixture *self, const char *bytes, gsize length_bytes)
{
	g_autofree char *copy = g_memdup2(bytes, length_bytes ? length_bytes : 1);
	int fd = open(self->path, O_WRONLY | O_TRUNC);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(write(fd, copy, length_bytes), ==, (gssize)length_bytes);
	close(fd);
}

static void test_round_trip(void)
{
	Fixture f;
	GStatBuf status;
	g_autoptr(HvpKernel) first = NULL, again = NULL;
	g_autoptr(GBytes) symbols = NULL, symbols_again = NULL;

	set_up(&f);
	g_assert_cmpint(g_stat(f.folder, &status), ==, 0);
	g_assert_cmpint(status.st_mode & 0777, ==, 0700);
	g_assert_cmpint(g_stat(f.path, &status), ==, 0);
	g_assert_cmpint(status.st_mode & 0777, ==, 0600);
	first = synthetic_guest_attach(f.guest);
	again = attach(&f);
	g_assert_true(hvp_kernel_was_cached(again));
	g_assert_cmpmem(hvp_kernel_get_layout(first), sizeof(HvpLayout),
			hvp_kernel_get_layout(again), sizeof(HvpLayout));
	symbols = hvp_symbols_serialize(hvp_kernel_get_symbols(first));
	symbols_again = hvp_symbols_serialize(hvp_kernel_get_symbols(again));
	g_assert_true(g_bytes_equal(symbols, symbols_again));
	g_assert_cmpstr(hvp_kernel_get_banner(first), ==, hvp_kernel_get_banner(again));
	g_assert_cmpstr(hvp_kernel_get_build_id(first), ==, hvp_kernel_get_build_id(again));
	tear_down(&f);
}

/* Any damage: not believed, and mended by the attach that found it. */
static void test_damaged(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(5);
	g_autofree char *bytes = NULL;
	gsize length_bytes;
	Fixture f;

	set_up(&f);
	read_file(&f, &bytes, &length_bytes);
	for (guint i = 0; i < 60; i++) {
		/* Every part of the header, then anywhere. */
		gsize at = i < 42 ? i * 14 : (gsize)g_rand_int_range(rand, 0, (gint)length_bytes);
		char saved = bytes[at];

		/* The last four bytes of the header are its padding. */
		if (at >= 580 && at < 584)
			continue;
		bytes[at] ^= 0x40;
		write_file(&f, bytes, length_bytes);
		bytes[at] = saved;
		if (attach_is_cached(&f))
			g_error("believed with byte %" G_GSIZE_FORMAT " changed", at);
	}
	g_assert_true(attach_is_cached(&f));
	tear_down(&f);
}

static void test_truncated(void)
{
	static const gsize cuts[] = { 0, 1, 8, 31, 32, 500, 584, 600, 1000, 1500 };
	g_autofree char *bytes = NULL;
	gsize length_bytes;
	Fixture f;

	set_up(&f);
	read_file(&f, &bytes, &length_bytes);
	for (guint i = 0; i < G_N_ELEMENTS(cuts) + 2; i++) {
		gsize cut = i < G_N_ELEMENTS(cuts) ? cuts[i] : length_bytes - 1 - (i % 2) * 4000;

		write_file(&f, bytes, cut);
		g_assert_false(attach_is_cached(&f));
	}
	tear_down(&f);
}

/* Lengths in the header that fit the file only by wrapping. */
static void test_lengths(void)
{
	g_autofree char *bytes = NULL;
	gsize length_bytes;
	Fixture f;

	set_up(&f);
	read_file(&f, &bytes, &length_bytes);
	for (gsize cut = 584; cut < 584 + sizeof(HvpLayout); cut += 100) {
		hvp_store_u64(bytes + 16, (guint64)cut - 584 - sizeof(HvpLayout));
		write_file(&f, bytes, cut);
		g_assert_false(attach_is_cached(&f));
	}
	tear_down(&f);
}

static void test_other_format(void)
{
	g_autofree char *bytes = NULL;
	gsize length_bytes;
	Fixture f;

	set_up(&f);
	read_file(&f, &bytes, &length_bytes);
	hvp_store_u32(bytes + 8, hvp_load_u32(bytes + 8) + 1);
	write_file(&f, bytes, length_bytes);
	g_assert_false(attach_is_cached(&f));
	g_assert_true(attach_is_cached(&f));
	tear_down(&f);
}

static void test_other_kernel(void)
{
	Fixture f;
	HvpGva build_id;

	set_up(&f);
	build_id = hvp_gva_add(f.guest->notes, 40);
	synthetic_guest_bytes(f.guest, build_id, 1)[0] ^= 1;
	g_assert_false(attach_is_cached(&f));
	g_assert_true(attach_is_cached(&f));
	/* The same build-id, another banner. */
	synthetic_guest_bytes(f.guest, f.guest->banner, 64)[50] ^= 1;
	g_assert_false(attach_is_cached(&f));
	g_assert_true(attach_is_cached(&f));
	g_free(f.path);
	f.path = NULL;
	tear_down(&f);
}

/*
 * Another guest with the same names but tables of its own, one of them made by somebody hostile:
 * neither gets what the other told.
 */
static void test_other_tables(void)
{
	Fixture f;
	HvpKernelIdentity identity;
	g_autoptr(HvpAddressSpace) space = NULL;
	HvpSymbols *symbols = NULL;
	HvpLayout layout;

	set_up(&f);
	space = hvp_address_space_new(&f.guest->memory->base, f.guest->registers.cr3,
				      f.guest->registers.cr4);
	g_assert_true(hvp_kernel_cache_load(f.folder, space, hvp_gva(SYNTHETIC_BASE), &identity,
					    &layout, &symbols, NULL));
	hvp_symbols_free(symbols);
	for (guint i = 0; i < HVP_KERNEL_CACHE_PIECES; i++) {
		HvpGva last = hvp_gva(SYNTHETIC_BASE + identity.pieces[i].offset +
				      identity.pieces[i].length_bytes - 1);
		guint8 *byte = synthetic_guest_bytes(f.guest, last, 1);

		g_assert_cmpuint(identity.pieces[i].length_bytes, >, 0);
		*byte ^= 1;
		g_assert_false(hvp_kernel_cache_load(f.folder, space, hvp_gva(SYNTHETIC_BASE),
						     &identity, &layout, &symbols, NULL));
		*byte ^= 1;
		g_assert_true(attach_is_cached(&f));
	}
	tear_down(&f);
}

static void test_mode(void)
{
	static const int modes[] = { 0620, 0602, 0666 };
	Fixture f;

	set_up(&f);
	for (guint i = 0; i < G_N_ELEMENTS(modes); i++) {
		g_assert_cmpint(g_chmod(f.path, modes[i]), ==, 0);
		g_assert_false(attach_is_cached(&f));
		g_assert_true(attach_is_cached(&f));
	}
	tear_down(&f);
}

static void test_owner(void)
{
	Fixture f;

	if (geteuid() != 0) {
		g_test_skip("needs root, to give a file away");
		return;
	}
	set_up(&f);
	g_assert_cmpint(chown(f.path, SOMEBODY, SOMEBODY), ==, 0);
	g_assert_false(attach_is_cached(&f));
	g_assert_true(attach_is_cached(&f));
	tear_down(&f);
}

static void test_special_files(void)
{
	g_autofree char *elsewhere = NULL;
	Fixture f;

	set_up(&f);
	elsewhere = g_strconcat(f.path, ".moved", NULL);
	g_assert_cmpint(g_rename(f.path, elsewhere), ==, 0);
	g_assert_cmpint(symlink(elsewhere, f.path), ==, 0);
	g_assert_false(attach_is_cached(&f));
	/* The link was replaced, what it led to was not written to. */
	g_assert_false(g_file_test(f.path, G_FILE_TEST_IS_SYMLINK));
	g_assert_cmpint(g_remove(f.path), ==, 0);
	/* Nobody writes to this pipe: opening it must not wait. */
	g_assert_cmpint(mkfifo(f.path, 0600), ==, 0);
	g_assert_false(attach_is_cached(&f));
	g_assert_cmpint(g_remove(f.path), ==, 0);
	g_assert_cmpint(g_mkdir(f.path, 0700), ==, 0);
	g_assert_false(attach_is_cached(&f));
	g_assert_cmpint(g_rmdir(f.path), ==, 0);
	tear_down(&f);
}

static void test_no_folder(void)
{
	Fixture f;
	g_autoptr(HvpAddressSpace) space = NULL;
	g_autoptr(GError) error = NULL;
	HvpKernelIdentity identity;
	HvpSymbols *symbols = NULL;
	HvpLayout layout;

	set_up(&f);
	space = hvp_address_space_new(&f.guest->memory->base, f.guest->registers.cr3,
				      f.guest->registers.cr4);
	g_assert_true(hvp_kernel_cache_load(f.folder, space, hvp_gva(SYNTHETIC_BASE), &identity,
					    &layout, &symbols, &error));
	g_assert_true(hvp_kernel_cache_matches(&identity, space, hvp_gva(SYNTHETIC_BASE)));
	g_assert_false(
		hvp_kernel_cache_matches(&identity, space, hvp_gva(SYNTHETIC_BASE + 0x1000)));
	g_assert_false(hvp_kernel_cache_matches(&identity, space, hvp_gva(0)));
	/* A file where the folder should be. */
	g_assert_false(hvp_kernel_cache_store(f.path, &identity, &layout, symbols, &error));
	g_assert_nonnull(error);
	g_assert_true(error->domain == HVP_ERROR);
	g_clear_error(&error);
	hvp_symbols_free(symbols);
	symbols = NULL;
	g_assert_false(hvp_kernel_cache_load(f.path, space, hvp_gva(SYNTHETIC_BASE), &identity,
					     &layout, &symbols, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
	g_assert_null(symbols);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/kernel-cache/stored-ROUND-TRIP", test_round_trip);
	g_test_add_func("/kernel-cache/damaged-IGNORED-and-mended", test_damaged);
	g_test_add_func("/kernel-cache/truncated-IGNORED", test_truncated);
	g_test_add_func("/kernel-cache/lengths-that-wrap-IGNORED", test_lengths);
	g_test_add_func("/kernel-cache/other-layout-version-IGNORED", test_other_format);
	g_test_add_func("/kernel-cache/other-build-id-or-banner-IGNORED", test_other_kernel);
	g_test_add_func("/kernel-cache/same-names-other-tables-IGNORED", test_other_tables);
	g_test_add_func("/kernel-cache/writable-by-others-IGNORED", test_mode);
	g_test_add_func("/kernel-cache/somebody-elses-IGNORED", test_owner);
	g_test_add_func("/kernel-cache/symlink-pipe-folder-IGNORED", test_special_files);
	g_test_add_func("/kernel-cache/no-folder-NOT_FOUND", test_no_folder);
	return g_test_run();
}
