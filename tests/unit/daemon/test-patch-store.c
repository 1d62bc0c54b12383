/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/patch-store.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/problem.h"
#include "synth.h"

#define PRINCIPAL "uid:1"

typedef struct {
	char *state;
	HvpConfig *config;
	HvpKeyring *keyring;
	HvpPatchStore *store;
} Scene;

static void scene_open(Scene *self)
{
	g_autoptr(GError) error = NULL;

	self->keyring = hvp_keyring_new(self->config, &error);
	g_assert_no_error(error);
	self->store = hvp_patch_store_new(self->config, self->keyring, &error);
	g_assert_no_error(error);
}

static void scene_close(Scene *self)
{
	g_clear_pointer(&self->store, hvp_patch_store_free);
	g_clear_pointer(&self->keyring, hvp_keyring_unref);
}

static void set_up(Scene *self, gconstpointer data)
{
	(void)data;
	self->state = g_dir_make_tmp("hvpatchd-XXXXXX", NULL);
	self->config = hvp_config_new();
	g_free(self->config->state_folder);
	self->config->state_folder = g_strdup(self->state);
	self->config->unsigned_allowed = true;
	scene_open(self);
}

static void tear_down(Scene *self, gconstpointer data)
{
	g_autofree char *command = g_strdup_printf("rm -r %s", self->state);

	(void)data;
	scene_close(self);
	hvp_config_free(self->config);
	g_assert_cmpint(system(command), ==, 0);
	g_free(self->state);
}

static void on_ready(GObject *source, GAsyncResult *result, gpointer data)
{
	(void)source;
	*(GAsyncResult **)data = g_object_ref(result);
}

static const HvpStoredPatch *upload_fd(Scene *self, int fd, bool *ret_created, GError **error)
{
	g_autoptr(GBytes) none = g_bytes_new_static("", 0);
	g_autoptr(GAsyncResult) result = NULL;
	HvpPatchStoreUploaded what = HVP_PATCH_STORE_KEPT;
	const HvpStoredPatch *patch;

	hvp_patch_store_upload(self->store, fd, none, PRINCIPAL, on_ready, &result);
	while (result == NULL)
		g_main_context_iteration(NULL, TRUE);
	patch = hvp_patch_store_upload_finish(self->store, result, &what, error);
	g_assert_cmpint(what, !=, HVP_PATCH_STORE_REPLACED);
	*ret_created = what == HVP_PATCH_STORE_ADDED;
	return patch;
}

static int file_of(GBytes *bytes)
{
	g_autofree char *path = NULL;
	int fd = g_file_open_tmp("module-XXXXXX", &path, NULL);

	g_unlink(path);
	g_assert_cmpint(write(fd, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes)), ==,
			(gssize)g_bytes_get_size(bytes));
	return fd;
}

static HvpSealed *open_patch(Scene *self, const HvpStoredPatch *patch, GError **error)
{
	g_autoptr(GAsyncResult) result = NULL;

	hvp_patch_store_open(self->store, patch, on_ready, &result);
	while (result == NULL)
		g_main_context_iteration(NULL, TRUE);
	return hvp_patch_store_open_finish(self->store, result, error);
}

/* A module whose modinfo has a manifest with @serial, in place of what describes it. */
static GBytes *module_with_serial(int serial)
{
	static const char place[] = "description=made by a test";
	g_autoptr(GBytes) plain = synth_klp_file();
	g_autofree char *field = g_strdup_printf("hvpatch={\"serial\":%7d}", serial);
	gsize length;
	const guint8 *bytes = g_bytes_get_data(plain, &length);
	g_autofree guint8 *copy = g_memdup2(bytes, length);
	guint8 *at = memmem(copy, length, place, sizeof place);

	g_assert_cmpint(strlen(field), ==, sizeof place - 1);
	memcpy(at, field, strlen(field));
	return g_bytes_new(copy, length);
}

static void test_upload(Scene *self, gconstpointer data)
{
	g_autoptr(GBytes) module = synth_klp_file();
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) all = NULL;
	g_autoptr(HvpSealed) sealed = NULL;
	const HvpStoredPatch *patch;
	g_autofree char *sha256 = NULL;
	bool created = false;

	(void)data;
	patch = upload_fd(self, file_of(module), &created, &error);
	g_assert_no_error(error);
	g_assert_true(created);
	g_assert_cmpstr(patch->name, ==, "synth");
	sha256 = g_strdup(patch->sha256);
	g_assert_nonnull(upload_fd(self, file_of(module), &created, &error));
	g_assert_false(created);
	/* It is there after a restart as well. */
	scene_close(self);
	scene_open(self);
	patch = hvp_patch_store_find(self->store, sha256, &error);
	g_assert_no_error(error);
	sealed = open_patch(self, patch, &error);
	g_assert_no_error(error);
	g_assert_true(g_bytes_equal(sealed->bytes, module));
	g_assert_cmpint(write(sealed->fd, "x", 1), ==, -1);
	g_assert_cmpint(ftruncate(sealed->fd, 0), ==, -1);
	g_assert_true(hvp_patch_store_remove(self->store, sha256, &error));
	all = hvp_patch_store_list(self->store);
	g_assert_cmpint(all->len, ==, 0);
}

static void test_no_file_REFUSED(Scene *self, gconstpointer data)
{
	g_autofree char *fifo = g_build_filename(self->state, "fifo", NULL);
	g_autofree char *locked = g_build_filename(self->state, "locked", NULL);
	int pipes[2];
	bool created;
	int fds[4];

	(void)data;
	g_assert_cmpint(pipe(pipes), ==, 0);
	g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
	fds[0] = pipes[0];
	fds[1] = open(fifo, O_RDWR);
	fds[2] = open("/dev/zero", O_RDONLY);
	fds[3] = open(locked, O_WRONLY | O_CREAT, 0600);
	for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_null(upload_fd(self, fds[i], &created, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	}
	close(pipes[1]);
}

static void test_sizes_REFUSED(Scene *self, gconstpointer data)
{
	g_autofree char *path = g_build_filename(self->state, "huge", NULL);
	g_autoptr(GError) empty = NULL, huge = NULL, other = NULL;
	g_autoptr(GBytes) text = g_bytes_new_static("no module", 9);
	bool created;
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	(void)data;
	g_assert_null(upload_fd(self, dup(fd), &created, &empty));
	g_assert_error(empty, HVP_ERROR, HVP_ERROR_BAD_DATA);
	g_assert_cmpint(ftruncate(fd, 10LL << 30), ==, 0);
	g_assert_null(upload_fd(self, fd, &created, &huge));
	g_assert_error(huge, HVP_PROBLEM, HVP_PROBLEM_TOO_LARGE);
	g_assert_null(upload_fd(self, file_of(text), &created, &other));
	g_assert_error(other, HVP_ERROR, HVP_ERROR_BAD_DATA);
}

/* Damaged and unsigned: what is refused first shows that nothing has parsed it. */
static void test_unsigned_REFUSED_before_parsing(Scene *self, gconstpointer data)
{
	g_autoptr(GBytes) text = g_bytes_new_static("no module", 9);
	g_autoptr(GError) error = NULL;
	bool created;

	(void)data;
	scene_close(self);
	self->config->unsigned_allowed = false;
	scene_open(self);
	g_assert_null(upload_fd(self, file_of(text), &created, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_PERMISSION);
}

static void test_changed_TAMPERED(Scene *self, gconstpointer data)
{
	g_autoptr(GBytes) module = synth_klp_file();
	g_autoptr(GError) error = NULL;
	g_autofree char *path = NULL;
	const HvpStoredPatch *patch;
	bool created;

	(void)data;
	patch = upload_fd(self, file_of(module), &created, &error);
	g_assert_no_error(error);
	path = g_strdup_printf("%s/patches/%s.ko", self->state, patch->sha256);
	g_assert_true(g_file_set_contents(path, "other", -1, NULL));
	g_assert_null(open_patch(self, patch, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_TAMPERED);
}

/* A key that is taken from the configuration takes its patches with it. */
static void test_revoked_PERMISSION(Scene *self, gconstpointer data)
{
	g_autoptr(GBytes) module = synth_klp_file();
	g_autoptr(GError) error = NULL;
	g_autofree char *sha256 = NULL;
	const HvpStoredPatch *patch;
	bool created;

	(void)data;
	sha256 = g_strdup(upload_fd(self, file_of(module), &created, &error)->sha256);
	scene_close(self);
	self->config->unsigned_allowed = false;
	scene_open(self);
	patch = hvp_patch_store_find(self->store, sha256, &error);
	g_assert_no_error(error);
	g_assert_null(open_patch(self, patch, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_PERMISSION);
}

static void test_downgrade_CONFLICT(Scene *self, gconstpointer data)
{
	g_autoptr(GBytes) plain = synth_klp_file();
	g_autoptr(GBytes) newer = module_with_serial(7), older = module_with_serial(6);
	GBytes *const refused[] = { older, plain };
	g_autoptr(GError) error = NULL;
	const HvpStoredPatch *patch;
	bool created;

	(void)data;
	patch = upload_fd(self, file_of(newer), &created, &error);
	g_assert_no_error(error);
	g_assert_cmpint(patch->serial, ==, 7);
	/* Nor when the newer one is gone, and the daemon was started anew. */
	g_assert_true(hvp_patch_store_remove(self->store, patch->sha256, &error));
	scene_close(self);
	scene_open(self);
	for (guint i = 0; i < G_N_ELEMENTS(refused); i++) {
		g_autoptr(GError) reason = NULL;

		g_assert_null(upload_fd(self, file_of(refused[i]), &created, &reason));
		g_assert_error(reason, HVP_ERROR, HVP_ERROR_CONFLICT);
	}
	self->config->downgrade_allowed = true;
	g_assert_nonnull(upload_fd(self, file_of(older), &created, &error));
}

/* By the documents: the files need not be as long. */
static void test_full_TOO_MANY(Scene *self, gconstpointer data)
{
	g_autofree char *sha256 = g_strnfill(64, 'a');
	g_autofree char *path = g_strdup_printf("%s/patches/%s.json", self->state, sha256);
	g_autofree char *file = g_strdup_printf("%s/patches/%s.ko", self->state, sha256);
	g_autofree char *text = g_strdup_printf(
		"{\"document\":{\"name\":\"big\",\"sha256\":\"%s\",\"size\":%" G_GINT64_FORMAT "}}",
		sha256, ((gint64)4 << 30) - 1);
	g_autoptr(GBytes) module = synth_klp_file();
	g_autoptr(GError) error = NULL;
	bool created;

	(void)data;
	g_assert_true(g_file_set_contents(path, text, -1, NULL));
	g_assert_true(g_file_set_contents(file, "", 0, NULL));
	scene_close(self);
	scene_open(self);
	g_assert_null(upload_fd(self, file_of(module), &created, &error));
	g_assert_error(error, HVP_PROBLEM, HVP_PROBLEM_TOO_MANY);
	g_clear_error(&error);
	g_assert_true(hvp_patch_store_remove(self->store, sha256, &error));
	g_assert_nonnull(upload_fd(self, file_of(module), &created, &error));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define ADD(name, test) g_test_add("/patch-store/" name, Scene, NULL, set_up, test, tear_down)
	ADD("upload", test_upload);
	ADD("no-file-REFUSED", test_no_file_REFUSED);
	ADD("sizes-REFUSED", test_sizes_REFUSED);
	ADD("unsigned-REFUSED-before-parsing", test_unsigned_REFUSED_before_parsing);
	ADD("changed-TAMPERED", test_changed_TAMPERED);
	ADD("revoked-PERMISSION", test_revoked_PERMISSION);
	ADD("downgrade-CONFLICT", test_downgrade_CONFLICT);
	ADD("full-TOO-MANY", test_full_TOO_MANY);
	return g_test_run();
}
