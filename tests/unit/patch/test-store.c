/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/store.h"

#include <glib/gstdio.h>
#include <sys/stat.h>

#define UUID "4f1c36bb-6f53-4c8f-8d4e-0a2f4b8a7f01"

static char *folder_new(void)
{
	return g_dir_make_tmp("hvpatch-test-XXXXXX", NULL);
}

static void test_nothing(void)
{
	g_autofree char *folder = folder_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) entries = hvp_store_list(folder, UUID, &error);

	g_assert_no_error(error);
	g_assert_cmpuint(entries->len, ==, 0);
	g_assert_false(hvp_store_remove(folder, UUID, "fix", &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
	g_rmdir(folder);
}

static void test_no_uuid(void)
{
	static const char *const uuids[] = { "", "..", "../../etc", UUID "/.." };

	for (guint i = 0; i < G_N_ELEMENTS(uuids); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_null(hvp_store_list("/nonexistent", uuids[i], &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	}
}

static void test_foreign(void)
{
	g_autofree char *folder = folder_new();
	g_autofree char *own = g_build_filename(folder, UUID, NULL);
	g_autofree char *file = g_build_filename(own, "fix.ko", NULL);
	g_autoptr(GError) error = NULL;

	g_assert_cmpint(g_mkdir(own, 0700), ==, 0);
	g_assert_true(g_file_set_contents(file, "no module", -1, NULL));
	g_assert_null(hvp_store_list(folder, UUID, &error));
	g_assert_nonnull(error);
	g_clear_error(&error);
	/* Somebody else can write there. */
	g_unlink(file);
	g_assert_cmpint(g_chmod(own, 0777), ==, 0);
	g_assert_null(hvp_store_list(folder, UUID, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_PERMISSION);
	g_rmdir(own);
	g_rmdir(folder);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/store/nothing", test_nothing);
	g_test_add_func("/store/no-uuid-INVALID_ARGUMENT", test_no_uuid);
	g_test_add_func("/store/foreign-REFUSED", test_foreign);
	return g_test_run();
}
