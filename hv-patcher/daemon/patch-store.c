/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/patch-store.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/files.h"
#include "daemon/fields.h"
#include "daemon/problem.h"
#include "daemon/serials.h"
#include "errand/worker.h"
#include "patch/patch.h"

#define FOLDER "patches"
#define MODULE_SUFFIX ".ko"
#define DOCUMENT_SUFFIX ".json"
#define SERIALS "serials"
#define UPLOAD_PREFIX "upload-"
#define SHA256_CHARACTERS 64
#define MAX_PATCHES 4096U
#define MAX_UPLOADS 4U
#define MAX_NAME_BYTES 56U /* of struct module */
#define INSPECT_JOB "{\"verb\":\"inspect\"}"
#define INSPECT_USEC (60 * G_USEC_PER_SEC)
#define MAX_STORED_BYTES ((gint64)4 << 30)

struct HvpPatchStore {
	const HvpConfig *config;
	HvpKeyring *keyring;
	char *folder;
	GHashTable *patches; /* by sha256: HvpStoredPatch */
	HvpSerials *serials;
	gint64 stored_bytes;
	guint uploads; /* at work */
	guint opens;   /* likewise */
	guint names;   /* that were given to uploads */
};

/* One upload, or one use: what its thread gets and makes. */
typedef struct {
	HvpKeyring *keyring;
	char *path;	/* of an upload: what it is copied to; of a use: the file */
	char *expected; /* of a use: the hash */
	int fd;
	GBytes *signature;
	char *principal;
	HvpSealed *sealed; /* of an upload */
	bool has_copy;	   /* likewise: there is a file at its path, which goes with this */
	HvpKeyringVerdict verdict;
	HvpWorker *worker; /* looks at what it is */
	HvpStoredPatch *made;
} Work;

static void stored_patch_free(HvpStoredPatch *self)
{
	if (self == NULL)
		return;
	g_free(self->sha256);
	g_free(self->name);
	g_clear_pointer(&self->document, json_node_unref);
	g_clear_pointer(&self->manifest, json_node_unref);
	g_clear_pointer(&self->signature, g_bytes_unref);
	g_free(self);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpStoredPatch, stored_patch_free)

static void work_free(gpointer data)
{
	Work *self = data;

	if (self->fd >= 0)
		close(self->fd);
	hvp_keyring_unref(self->keyring);
	if (self->has_copy)
		(void)unlink(self->path);
	g_free(self->path);
	g_free(self->expected);
	g_clear_pointer(&self->signature, g_bytes_unref);
	g_free(self->principal);
	hvp_sealed_free(self->sealed);
	hvp_worker_free(self->worker);
	stored_patch_free(self->made);
	g_free(self);
}

bool hvp_patch_store_is_busy(const HvpPatchStore *self)
{
	return self->uploads > 0 || self->opens > 0;
}

bool hvp_patch_store_is_sha256(const char *text)
{
	return strlen(text) == SHA256_CHARACTERS &&
	       strspn(text, "0123456789abcdef") == SHA256_CHARACTERS;
}

static char *path_of(const char *folder, const char *sha256, const char *suffix)
{
	g_autofree char *name = g_strconcat(sha256, suffix, NULL);

	return g_build_filename(folder, name, NULL);
}

/* --- what is there --- */

/* NULL, where the file is not one of ours. */
static HvpStoredPatch *read_patch(const char *path, const char *sha256, GError **error)
{
	g_autoptr(JsonNode) file = hvp_files_read_json(path, error);
	JsonObject *object = file ? json_node_get_object(file) : NULL;
	JsonObject *document = object ? hvp_fields_get_object(object, "document") : NULL;
	JsonNode *manifest = object ? json_object_get_member(object, "manifest") : NULL;
	const char *signature = object ? hvp_fields_get_text(object, "signature") : NULL;
	HvpStoredPatch *self;

	if (file == NULL)
		return NULL;
	if (document == NULL || hvp_fields_get_text(document, "name") == NULL ||
	    g_strcmp0(hvp_fields_get_text(document, "sha256"), sha256) != 0) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s: no patch's document", path);
		return NULL;
	}
	self = g_new0(HvpStoredPatch, 1);
	self->sha256 = g_strdup(sha256);
	self->name = g_strdup(hvp_fields_get_text(document, "name"));
	self->serial = hvp_fields_get_integer(document, "serial", HVP_MANIFEST_NO_SERIAL);
	self->uploaded_usec = hvp_fields_parse_time(hvp_fields_get_text(document, "uploaded_at"));
	self->size_bytes = hvp_fields_get_integer(document, "size", 0);
	self->document = json_node_ref(json_object_get_member(object, "document"));
	self->signature = g_bytes_new(signature, signature ? strlen(signature) : 0);
	if (manifest != NULL && JSON_NODE_HOLDS_OBJECT(manifest))
		self->manifest = json_node_ref(manifest);
	return self;
}

/* In place of the one with the same content, if there is one. Takes @patch. */
static void insert(HvpPatchStore *self, HvpStoredPatch *patch)
{
	const HvpStoredPatch *old = g_hash_table_lookup(self->patches, patch->sha256);

	self->stored_bytes += patch->size_bytes - (old ? old->size_bytes : 0);
	g_hash_table_replace(self->patches, patch->sha256, patch);
}

static bool is_there(const char *folder, const char *sha256, const char *suffix)
{
	g_autofree char *path = path_of(folder, sha256, suffix);

	return g_access(path, F_OK) == 0 || errno != ENOENT;
}

/* A file without a record, or a record without a file. A damaged one is kept for who can read it.
 */
static bool is_half(const char *folder, const char *name)
{
	const char *suffix = strchr(name, '.');
	g_autofree char *sha256 = suffix ? g_strndup(name, (gsize)(suffix - name)) : NULL;

	if (sha256 == NULL || !hvp_patch_store_is_sha256(sha256))
		return false;
	if (strcmp(suffix, MODULE_SUFFIX) == 0)
		return !is_there(folder, sha256, DOCUMENT_SUFFIX);
	return strcmp(suffix, DOCUMENT_SUFFIX) == 0 && !is_there(folder, sha256, MODULE_SUFFIX);
}

/* Nothing is deleted that this did not make. */
static bool sweep(const HvpPatchStore *self, GError **error)
{
	g_autoptr(GPtrArray) names = hvp_files_list(self->folder, "", error);

	for (guint i = 0; names != NULL && i < names->len; i++) {
		const char *name = g_ptr_array_index(names, i);
		g_autofree char *path = g_build_filename(self->folder, name, NULL);

		if (!is_half(self->folder, name) && !hvp_files_is_left_over(name) &&
		    !g_str_has_prefix(name, UPLOAD_PREFIX))
			continue;
		if (unlink(path) == 0)
			g_message("%s: left by an upload or removal that was cut off; deleted",
				  path);
		else
			g_warning("%s: %s", path, g_strerror(errno));
	}
	return names != NULL;
}

/* One damaged file must not keep the daemon from all others. */
static bool read_all(HvpPatchStore *self, GError **error)
{
	g_autoptr(GPtrArray) names = hvp_files_list(self->folder, DOCUMENT_SUFFIX, error);

	for (guint i = 0; names != NULL && i < names->len; i++) {
		const char *sha256 = g_ptr_array_index(names, i);
		g_autofree char *path = path_of(self->folder, sha256, DOCUMENT_SUFFIX);
		g_autoptr(GError) reason = NULL;
		HvpStoredPatch *patch = read_patch(path, sha256, &reason);

		if (patch != NULL)
			insert(self, patch);
		else
			g_warning("%s", reason->message);
	}
	return names != NULL;
}

/* For numbers that the patches' records have as well: these stay until the file has them, too. */
static void try_to_save(HvpPatchStore *self)
{
	g_autoptr(GError) error = NULL;

	if (!hvp_serials_save(self->serials, &error))
		g_warning("%s", error->message);
}

/* A signature that has replaced another may have come to the disk before its number. */
static bool read_serials(HvpPatchStore *self, GError **error)
{
	g_autofree char *path = g_build_filename(self->folder, SERIALS, NULL);
	GHashTableIter iter;
	gpointer value;

	self->serials = hvp_serials_read(path, error);
	if (self->serials == NULL)
		return false;
	g_hash_table_iter_init(&iter, self->patches);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const HvpStoredPatch *patch = value;

		hvp_serials_raise(self->serials, patch->name, patch->serial);
	}
	try_to_save(self);
	return true;
}

HvpPatchStore *hvp_patch_store_new(const HvpConfig *config, HvpKeyring *keyring, GError **error)
{
	g_autoptr(HvpPatchStore) self = g_new0(HvpPatchStore, 1);

	self->config = config;
	self->keyring = hvp_keyring_ref(keyring);
	self->folder = g_build_filename(config->state_folder, FOLDER, NULL);
	self->patches = g_hash_table_new_full(g_str_hash, g_str_equal, NULL,
					      (GDestroyNotify)stored_patch_free);
	if (!hvp_files_make_folder(self->folder, error) || !sweep(self, error) ||
	    !read_all(self, error) || !read_serials(self, error))
		return NULL;
	return g_steal_pointer(&self);
}

void hvp_patch_store_free(HvpPatchStore *self)
{
	if (self == NULL)
		return;
	g_hash_table_unref(self->patches);
	hvp_serials_free(self->serials);
	hvp_keyring_unref(self->keyring);
	g_free(self->folder);
	g_free(self);
}

void hvp_patch_store_set_keyring(HvpPatchStore *self, HvpKeyring *keyring)
{
	hvp_keyring_ref(keyring);
	hvp_keyring_unref(self->keyring);
	self->keyring = keyring;
}

const HvpStoredPatch *hvp_patch_store_find(const HvpPatchStore *self, const char *sha256,
					   GError **error)
{
	const HvpStoredPatch *patch = g_hash_table_lookup(self->patches, sha256);

	if (patch == NULL)
		hvp_error_set(error, HVP_ERROR_NOT_FOUND, "there is no such patch");
	return patch;
}

static gint compare_age(gconstpointer a, gconstpointer b)
{
	const HvpStoredPatch *first = *(const HvpStoredPatch *const *)a;
	const HvpStoredPatch *second = *(const HvpStoredPatch *const *)b;

	if (first->uploaded_usec != second->uploaded_usec)
		return first->uploaded_usec > second->uploaded_usec ? -1 : 1;
	return strcmp(first->sha256, second->sha256);
}

GPtrArray *hvp_patch_store_list(const HvpPatchStore *self)
{
	GPtrArray *patches = g_ptr_array_new();
	GHashTableIter iter;
	gpointer patch;

	g_hash_table_iter_init(&iter, self->patches);
	while (g_hash_table_iter_next(&iter, NULL, &patch))
		g_ptr_array_add(patches, patch);
	g_ptr_array_sort(patches, compare_age);
	return patches;
}

bool hvp_patch_store_check_serial(const HvpPatchStore *self, const HvpStoredPatch *patch,
				  GError **error)
{
	gint64 highest = hvp_serials_get(self->serials, patch->name);

	return self->config->downgrade_allowed || patch->serial >= highest ||
	       hvp_error_set(error, HVP_ERROR_CONFLICT,
			     "serial number %" G_GINT64_FORMAT " of %s is below %" G_GINT64_FORMAT
			     ", which was seen before",
			     patch->serial, patch->name, highest);
}

/* --- uploading: the thread's part --- */

static bool copy(Work *work, GError **error)
{
	work->sealed = hvp_sealed_copy(work->fd, HVP_PATCH_MAX_FILE_BYTES, error);
	if (work->sealed == NULL || !hvp_keyring_verify(work->keyring, work->sealed->bytes,
							work->signature, &work->verdict, error))
		return false;
	work->has_copy = hvp_files_write(work->path, g_bytes_get_data(work->sealed->bytes, NULL),
					 g_bytes_get_size(work->sealed->bytes), error);
	return work->has_copy;
}

static void run_copy(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
	GError *error = NULL;

	(void)source;
	(void)cancellable;
	if (copy(data, &error))
		g_task_return_boolean(task, TRUE);
	else
		g_task_return_error(task, error);
}

/* --- uploading: what a worker makes of it, which alone opens it --- */

static HvpManifest *read_manifest(JsonObject *told, JsonNode **ret_node, GError **error)
{
	JsonNode *node = json_object_get_member(told, "manifest");
	bool has = node != NULL && JSON_NODE_HOLDS_OBJECT(node);
	g_autofree char *text = has ? json_to_string(node, FALSE) : g_strdup("{}");
	HvpManifest *manifest = hvp_manifest_parse(text, strlen(text), "the patch's manifest",
						   error);

	*ret_node = manifest != NULL && has ? json_node_copy(node) : NULL;
	return manifest;
}

/* Signature and manifest may both have one, but not two. */
static bool merge_serials(gint64 vouched, gint64 declared, gint64 *ret_serial, GError **error)
{
	if (vouched != HVP_MANIFEST_NO_SERIAL && declared != HVP_MANIFEST_NO_SERIAL &&
	    vouched != declared)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the signature's serial number is not the manifest's");
	*ret_serial = MAX(vouched, declared);
	return true;
}

static JsonNode *make_document(const HvpStoredPatch *self, JsonObject *told,
			       const HvpManifest *manifest, const HvpKeyringVerdict *verdict,
			       const char *principal)
{
	JsonObject *object = json_object_new();
	JsonArray *cves = json_array_new();

	for (char **cve = manifest->cves; *cve != NULL; cve++)
		json_array_add_string_element(cves, *cve);
	json_object_set_int_member(object, "version", 1);
	json_object_set_string_member(object, "sha256", self->sha256);
	json_object_set_string_member(object, "name", self->name);
	json_object_set_int_member(object, "size", self->size_bytes);
	hvp_fields_set_time(object, "uploaded_at", self->uploaded_usec);
	json_object_set_string_member(object, "principal", principal);
	hvp_fields_set_text(object, "signed_by", verdict->key);
	json_object_set_string_member(object, "signature", hvp_keyring_kind_name(verdict->kind));
	json_object_set_string_member(object, "format", hvp_fields_get_text(told, "format"));
	json_object_set_int_member(object, "functions",
				   hvp_fields_get_integer(told, "functions", 0));
	json_object_set_array_member(object, "cves", cves);
	if (self->serial == HVP_MANIFEST_NO_SERIAL)
		json_object_set_null_member(object, "serial");
	else
		json_object_set_int_member(object, "serial", self->serial);
	return hvp_fields_node(object);
}

/* A module's name, as it is to stand in files' names and metrics. */
static bool is_name(const char *text)
{
	gsize length = text ? strlen(text) : 0;

	return length > 0 && length < MAX_NAME_BYTES &&
	       strspn(text, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_-") == length;
}

static bool take_told(Work *work, JsonObject *told, GError **error)
{
	g_autoptr(HvpStoredPatch) made = g_new0(HvpStoredPatch, 1);
	g_autoptr(HvpManifest) manifest = read_manifest(told, &made->manifest, error);
	const char *name = hvp_fields_get_text(told, "name");

	if (manifest == NULL ||
	    !merge_serials(work->verdict.serial, manifest->serial, &made->serial, error))
		return false;
	if (!is_name(name) || hvp_fields_get_text(told, "format") == NULL)
		return hvp_error_set(error, HVP_ERROR_INTERNAL,
				     "the worker does not tell what the patch is");
	made->sha256 = g_strdup(work->sealed->sha256);
	made->name = g_strdup(name);
	made->uploaded_usec = g_get_real_time();
	made->size_bytes = (gint64)g_bytes_get_size(work->sealed->bytes);
	made->signature = g_bytes_ref(work->signature);
	made->document = make_document(made, told, manifest, &work->verdict, work->principal);
	work->made = g_steal_pointer(&made);
	return true;
}

static void fail_upload(GTask *task, GError *error)
{
	g_task_return_error(task, error);
	g_object_unref(task);
}

static void on_progress(JsonObject *progress, gpointer data)
{
	(void)progress;
	(void)data;
}

static void on_inspected(const HvpWorkerEnd *end, gpointer data)
{
	GTask *task = data;
	Work *work = g_task_get_task_data(task);
	GError *error = NULL;

	if (end->outcome != HVP_WORKER_DONE)
		hvp_error_set(&error, HVP_ERROR_BAD_DATA, "looking at the patch: %s", end->message);
	else if (end->code != NULL)
		hvp_error_set(&error, hvp_error_code_by_name(end->code), "%s", end->message);
	else if (end->result == NULL)
		hvp_error_set(&error, HVP_ERROR_INTERNAL, "the worker tells nothing of the patch");
	else
		(void)!take_told(work, json_node_get_object(end->result), &error);
	if (error != NULL) {
		fail_upload(task, error);
		return;
	}
	g_task_return_boolean(task, TRUE);
	g_object_unref(task);
}

static void on_copied(GObject *source, GAsyncResult *result, gpointer data)
{
	static const HvpWorkerHandlers handlers = { on_progress, on_inspected };
	GTask *task = data;
	Work *work = g_task_get_task_data(task);
	GError *error = NULL;

	(void)source;
	if (g_task_propagate_boolean(G_TASK(result), &error))
		work->worker = hvp_worker_start(INSPECT_JOB, work->sealed->fd, INSPECT_USEC,
						&handlers, task, &error);
	if (work->worker == NULL)
		fail_upload(task, error);
}

/* --- uploading: the main loop's part --- */

static void begin_upload(GTask *task, Work *work)
{
	g_autoptr(GTask) copying = g_task_new(NULL, NULL, on_copied, g_object_ref(task));

	/* Of the outer task, which lives until it is answered. */
	g_task_set_task_data(copying, work, NULL);
	g_task_run_in_thread(copying, run_copy);
}

void hvp_patch_store_upload(HvpPatchStore *self, int fd, GBytes *signature, const char *principal,
			    GAsyncReadyCallback ready, gpointer data)
{
	g_autoptr(GTask) task = g_task_new(NULL, NULL, ready, data);
	Work *work = g_new0(Work, 1);

	work->keyring = hvp_keyring_ref(self->keyring);
	work->path = g_strdup_printf("%s/" UPLOAD_PREFIX "%u", self->folder, self->names++);
	work->fd = fd;
	work->signature = g_bytes_ref(signature);
	work->principal = g_strdup(principal);
	g_task_set_task_data(task, work, work_free);
	/* A file system that hangs holds its thread for as long. */
	if (self->uploads++ >= MAX_UPLOADS)
		g_task_return_new_error(task, HVP_PROBLEM, HVP_PROBLEM_TOO_MANY,
					"%u uploads are at work", MAX_UPLOADS);
	else
		begin_upload(task, work);
}

static bool check_room(const HvpPatchStore *self, const HvpStoredPatch *patch, GError **error)
{
	if (g_hash_table_size(self->patches) >= MAX_PATCHES)
		return hvp_problem_set(error, HVP_PROBLEM_TOO_MANY, "%u patches are here already",
				       MAX_PATCHES);
	return patch->size_bytes <= MAX_STORED_BYTES - self->stored_bytes ||
	       hvp_problem_set(error, HVP_PROBLEM_TOO_MANY,
			       "the patches that are here have %" G_GINT64_FORMAT " bytes already",
			       self->stored_bytes);
}

/* In place of one with the same content, if there is one: that may not be what it was. */
static bool place_file(const HvpPatchStore *self, Work *work, GError **error)
{
	g_autofree char *path = path_of(self->folder, work->made->sha256, MODULE_SUFFIX);

	if (rename(work->path, path) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", path);
	work->has_copy = false;
	return true;
}

static bool write_record(const HvpPatchStore *self, const HvpStoredPatch *patch, GError **error)
{
	g_autofree char *path = path_of(self->folder, patch->sha256, DOCUMENT_SUFFIX);
	g_autofree char *signature = g_strndup(g_bytes_get_data(patch->signature, NULL),
					       g_bytes_get_size(patch->signature));
	g_autoptr(JsonNode) node = NULL;
	JsonObject *object = json_object_new();

	hvp_fields_set_node(object, "document", patch->document);
	json_object_set_string_member(object, "signature", signature);
	hvp_fields_set_node(object, "manifest", patch->manifest);
	node = hvp_fields_node(object);
	return hvp_files_write_json(path, node, error);
}

/* The number first: an older patch must not come back, whatever becomes of this one. */
static const HvpStoredPatch *add(HvpPatchStore *self, Work *work, GError **error)
{
	HvpStoredPatch *patch = work->made;
	g_autofree char *module = path_of(self->folder, patch->sha256, MODULE_SUFFIX);

	if (!check_room(self, patch, error) || !hvp_patch_store_check_serial(self, patch, error))
		return NULL;
	hvp_serials_raise(self->serials, patch->name, patch->serial);
	if (!hvp_serials_save(self->serials, error) || !place_file(self, work, error))
		return NULL;
	if (!write_record(self, patch, error)) {
		(void)unlink(module);
		return NULL;
	}
	insert(self, g_steal_pointer(&work->made));
	return patch;
}

/* Whether somebody else vouches for it than for @old, or in another way. */
static bool is_vouched_anew(const HvpStoredPatch *old, const Work *work)
{
	const char *key = hvp_fields_get_text(json_node_get_object(old->document), "signed_by");

	return work->verdict.kind != HVP_KEYRING_UNSIGNED &&
	       (!g_bytes_equal(old->signature, work->signature) ||
		g_strcmp0(key, work->verdict.key) != 0);
}

/*
 * The record is replaced at once, and the number follows: the other way round, an end in between
 * would leave the old signature with a number that is too low by then.
 */
static const HvpStoredPatch *replace(HvpPatchStore *self, Work *work, GError **error)
{
	HvpStoredPatch *patch = work->made;

	if (work->keyring != self->keyring) {
		hvp_problem_set(error, HVP_PROBLEM_UNAVAILABLE,
				"the keys were read again while the signature was verified");
		return NULL;
	}
	if (!hvp_patch_store_check_serial(self, patch, error) ||
	    !hvp_serials_save(self->serials, error) || !place_file(self, work, error) ||
	    !write_record(self, patch, error))
		return NULL;
	insert(self, g_steal_pointer(&work->made));
	hvp_serials_raise(self->serials, patch->name, patch->serial);
	try_to_save(self);
	return patch;
}

const HvpStoredPatch *hvp_patch_store_upload_finish(HvpPatchStore *self, GAsyncResult *result,
						    HvpPatchStoreUploaded *ret_what, GError **error)
{
	Work *work = g_task_get_task_data(G_TASK(result));
	const HvpStoredPatch *old;

	self->uploads--;
	if (!g_task_propagate_boolean(G_TASK(result), error))
		return NULL;
	old = g_hash_table_lookup(self->patches, work->made->sha256);
	if (old == NULL) {
		*ret_what = HVP_PATCH_STORE_ADDED;
		return add(self, work, error);
	}
	if (is_vouched_anew(old, work)) {
		*ret_what = HVP_PATCH_STORE_REPLACED;
		return replace(self, work, error);
	}
	*ret_what = HVP_PATCH_STORE_KEPT;
	return place_file(self, work, error) ? old : NULL;
}

bool hvp_patch_store_remove(HvpPatchStore *self, const char *sha256, GError **error)
{
	g_autofree char *document = path_of(self->folder, sha256, DOCUMENT_SUFFIX);
	g_autofree char *module = path_of(self->folder, sha256, MODULE_SUFFIX);
	const HvpStoredPatch *patch = hvp_patch_store_find(self, sha256, error);

	if (patch == NULL || !hvp_serials_save(self->serials, error))
		return false;
	/* In this order: a module that no document names is of no use to anybody. */
	if (unlink(document) != 0 && errno != ENOENT)
		return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", document);
	(void)unlink(module);
	self->stored_bytes -= patch->size_bytes;
	g_hash_table_remove(self->patches, sha256);
	return true;
}

/* --- using --- */

static HvpSealed *open_again(const Work *work, GError **error)
{
	g_autoptr(HvpSealed) sealed = NULL;
	HvpKeyringVerdict verdict;
	int fd = open(work->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);

	if (fd < 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", work->path);
		return NULL;
	}
	sealed = hvp_sealed_copy(fd, HVP_PATCH_MAX_FILE_BYTES, error);
	close(fd);
	if (sealed == NULL)
		return NULL;
	if (strcmp(sealed->sha256, work->expected) != 0) {
		hvp_error_set(error, HVP_ERROR_TAMPERED, "%s: its content is not what it was",
			      work->path);
		return NULL;
	}
	if (!hvp_keyring_verify(work->keyring, sealed->bytes, work->signature, &verdict, error))
		return NULL;
	return g_steal_pointer(&sealed);
}

static void run_open(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
	GError *error = NULL;
	HvpSealed *sealed = open_again(data, &error);

	(void)source;
	(void)cancellable;
	if (sealed != NULL)
		g_task_return_pointer(task, sealed, (GDestroyNotify)hvp_sealed_free);
	else
		g_task_return_error(task, error);
}

void hvp_patch_store_open(HvpPatchStore *self, const HvpStoredPatch *patch,
			  GAsyncReadyCallback ready, gpointer data)
{
	g_autoptr(GTask) task = g_task_new(NULL, NULL, ready, data);
	Work *work = g_new0(Work, 1);

	work->keyring = hvp_keyring_ref(self->keyring);
	work->path = path_of(self->folder, patch->sha256, MODULE_SUFFIX);
	work->expected = g_strdup(patch->sha256);
	work->fd = -1;
	work->signature = g_bytes_ref(patch->signature);
	g_task_set_task_data(task, work, work_free);
	self->opens++;
	g_task_run_in_thread(task, run_open);
}

HvpSealed *hvp_patch_store_open_finish(HvpPatchStore *self, GAsyncResult *result, GError **error)
{
	self->opens--;
	return g_task_propagate_pointer(G_TASK(result), error);
}
