/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/handlers.h"

#include <errno.h>
#include <fcntl.h>
#include <json-glib/json-glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "apid/forward.h"
#include "apid/problem.h"
#include "apid/query.h"

#define UPLOAD_KEY "hvp-upload"
#define MAX_SIGNATURE_BYTES 8192
#define ALL_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* The body of an upload: it goes into a file of memory as it comes. Belongs to its message. */
typedef struct {
	HvpPeers *uploads;
	char *principal; /* counted in uploads; NULL: that would have been too many */
	int fd;
	gsize length_bytes;
	GError *error; /* what became of it instead; what still comes is dropped */
} Upload;

static void free_upload(void *data)
{
	Upload *upload = data;

	if (upload->principal != NULL)
		hvp_peers_remove(upload->uploads, upload->principal);
	if (upload->fd >= 0)
		close(upload->fd);
	g_clear_error(&upload->error);
	g_free(upload->principal);
	g_free(upload);
}

static void write_chunk(Upload *upload, const guint8 *bytes, gsize length)
{
	while (length > 0) {
		gssize count = write(upload->fd, bytes, length);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0) {
			hvp_problem_set(&upload->error, HVP_PROBLEM_UNAVAILABLE,
					"there is no room for the patch now");
			return;
		}
		bytes += count;
		length -= (gsize)count;
		upload->length_bytes += (gsize)count;
	}
}

static void got_chunk(G_GNUC_UNUSED SoupServerMessage *message, GBytes *chunk, void *data)
{
	Upload *upload = data;
	gsize length = 0;
	const guint8 *bytes = g_bytes_get_data(chunk, &length);

	if (upload->error == NULL)
		write_chunk(upload, bytes, length);
}

static void open_upload(Upload *upload, const char *principal)
{
	if (!hvp_peers_add(upload->uploads, principal)) {
		hvp_problem_set(&upload->error, HVP_PROBLEM_TOO_MANY,
				"too many patches are being uploaded");
		return;
	}
	upload->principal = g_strdup(principal);
	upload->fd = memfd_create("hvpatch-upload", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (upload->fd < 0)
		hvp_problem_set(&upload->error, HVP_PROBLEM_UNAVAILABLE,
				"there is no room for the patch now");
}

static void may_upload(G_GNUC_UNUSED GVariant *answer, const GError *problem, void *data)
{
	hvp_connection_go_on(data, problem);
}

void hvp_patches_admit(HvpApi *api, HvpConnection *connection)
{
	hvp_core_call(api->core, "MayUpload",
		      g_variant_new("(s)", hvp_connection_principal(connection)), "()", NULL,
		      may_upload, connection);
}

void hvp_patches_expect(HvpApi *api, SoupServerMessage *message)
{
	Upload *upload = g_new0(Upload, 1);

	upload->uploads = api->uploads;
	upload->fd = -1;
	open_upload(upload, hvp_connection_principal(hvp_connection_of_message(message)));
	soup_message_body_set_accumulate(soup_server_message_get_request_body(message), FALSE);
	g_signal_connect(message, "got-chunk", G_CALLBACK(got_chunk), upload);
	g_object_set_data_full(G_OBJECT(message), UPLOAD_KEY, upload, free_upload);
}

/* The signature's bytes; empty: there is none. */
static GBytes *read_signature(const char *text, GError **error)
{
	gsize length = text ? strlen(text) : 0;
	gsize body = length ? strspn(text, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "+/") : 0;
	gsize padding = length ? strspn(text + body, "=") : 0;
	gsize decoded = 0;
	guchar *bytes;

	if (text == NULL)
		return g_bytes_new_static("", 0);
	if (length == 0 || length > MAX_SIGNATURE_BYTES || length % 4 != 0 || padding > 2 ||
	    body + padding != length) {
		hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				"Hvpatch-Signature: base64 of at most %d characters is wanted",
				MAX_SIGNATURE_BYTES);
		return NULL;
	}
	bytes = g_base64_decode(text, &decoded);
	return g_bytes_new_take(bytes, decoded);
}

void hvp_patches_list(HvpExchange *exchange)
{
	hvp_forward_list(exchange, "ListPatches");
}

void hvp_patches_get(HvpExchange *exchange)
{
	hvp_forward_get(exchange, "GetPatch");
}

static void deleted(G_GNUC_UNUSED GVariant *answer, const GError *problem, void *data)
{
	if (problem != NULL)
		hvp_exchange_fail(data, problem);
	else
		hvp_exchange_answer_nothing(data, SOUP_STATUS_NO_CONTENT);
}

void hvp_patches_delete(HvpExchange *exchange)
{
	hvp_exchange_pause(exchange);
	hvp_core_call(exchange->api->core, "DeletePatch",
		      g_variant_new("(ss)", exchange->principal, exchange->id), "()", NULL, deleted,
		      exchange);
}

static void uploaded(GVariant *answer, const GError *problem, void *data)
{
	if (problem != NULL)
		hvp_exchange_fail(data, problem);
	else
		hvp_forward_made(data, answer, SOUP_STATUS_CREATED, "/v1/patches/", "sha256",
				 hvp_query_is_sha256);
}

/* The file as a list of one descriptor; it cannot change any more. */
static GUnixFDList *seal(Upload *upload, GError **error)
{
	g_autoptr(GUnixFDList) list = g_unix_fd_list_new();

	if (upload->length_bytes == 0) {
		hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT, "the body is empty");
		return NULL;
	}
	if (fcntl(upload->fd, F_ADD_SEALS, ALL_SEALS) != 0 || lseek(upload->fd, 0, SEEK_SET) != 0 ||
	    g_unix_fd_list_append(list, upload->fd, NULL) != 0) {
		hvp_problem_set(error, HVP_PROBLEM_UNAVAILABLE,
				"there are no descriptors for the patch now");
		return NULL;
	}
	return g_steal_pointer(&list);
}

void hvp_patches_upload(HvpExchange *exchange)
{
	Upload *upload = g_object_get_data(G_OBJECT(exchange->message), UPLOAD_KEY);
	const char *header = hvp_exchange_head(exchange)->headers[HVP_HEADER_SIGNATURE];
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) signature = NULL;
	g_autoptr(GUnixFDList) list = NULL;

	if (upload == NULL)
		hvp_problem_set(&error, HVP_PROBLEM_INVALID_ARGUMENT, "the body is empty");
	else if (upload->error != NULL)
		error = g_error_copy(upload->error);
	else if ((signature = read_signature(header, &error)) != NULL)
		list = seal(upload, &error);
	if (list == NULL) {
		hvp_exchange_fail(exchange, error);
		return;
	}
	hvp_exchange_pause(exchange);
	hvp_core_call(
		exchange->api->core, "UploadPatch",
		g_variant_new("(sh@ay)", exchange->principal, 0,
			      g_variant_new_from_bytes(G_VARIANT_TYPE_BYTESTRING, signature, TRUE)),
		"(sb)", list, uploaded, exchange);
}
