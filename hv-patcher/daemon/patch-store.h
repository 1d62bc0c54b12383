/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The patches that were uploaded, by the SHA-256 of their file:
 *
 *   STATE/patches/SHA256.ko     the file
 *   STATE/patches/SHA256.json   {"document", "signature", "manifest"}
 *   STATE/patches/serials       {"NAME": the highest serial number that was seen}
 *   STATE/patches/upload-N      a file that is being looked at
 *
 * A patch is there when both of its files are; they come and go in the main loop alone, so that of
 * an upload and a removal at the same time the later one holds as a whole. What an end in between
 * has left is swept at the start.
 *
 * Another signature of a patch that is there comes with its record, which is replaced at once: with
 * the old one or the new one the patch is whole. A use goes on with the one that it began with.
 *
 * An upload is copied, hashed and verified once, in this order, before anything looks at what it
 * is, which a worker does; each use copies, hashes and verifies again: files and keys can have
 * changed since.
 *
 * The manifest of a patch is the field "hvpatch" of its modinfo, where whatever signs the module
 * vouches for it as well.
 */
#pragma once

#include <gio/gio.h>
#include <json-glib/json-glib.h>

#include "daemon/keyring.h"
#include "daemon/sealed.h"

typedef struct {
	char *sha256;
	char *name;    /* of the module */
	gint64 serial; /* HVP_MANIFEST_NO_SERIAL: none */
	gint64 uploaded_usec;
	gint64 size_bytes;
	JsonNode *document;
	JsonNode *manifest; /* NULL: it has none */
	GBytes *signature;  /* detached; empty: none */
} HvpStoredPatch;

typedef struct HvpPatchStore HvpPatchStore;

/* What has become of an upload. */
typedef enum {
	HVP_PATCH_STORE_ADDED,
	HVP_PATCH_STORE_REPLACED, /* it was there, and has another signature now */
	HVP_PATCH_STORE_KEPT,	  /* it was there, and is as it was */
} HvpPatchStoreUploaded;

/* Reads what is there. @config has to live as long. PERMISSION, FAULT. */
HvpPatchStore *hvp_patch_store_new(const HvpConfig *config, HvpKeyring *keyring, GError **error);
void hvp_patch_store_free(HvpPatchStore *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpPatchStore, hvp_patch_store_free)

/* For uploads and uses to come; those that are under way end with what they began with. */
void hvp_patch_store_set_keyring(HvpPatchStore *self, HvpKeyring *keyring);

/* Whether a thread is still at it, with what it borrowed. */
bool hvp_patch_store_is_busy(const HvpPatchStore *self);

/* Whether @text has the form of an address. */
bool hvp_patch_store_is_sha256(const char *text);

/* Borrowed, until it is removed or uploaded again. NOT_FOUND. */
const HvpStoredPatch *hvp_patch_store_find(const HvpPatchStore *self, const char *sha256,
					   GError **error);

/* Of all patches, borrowed, newest first; the caller's. */
GPtrArray *hvp_patch_store_list(const HvpPatchStore *self);

/* Takes @fd. */
void hvp_patch_store_upload(HvpPatchStore *self, int fd, GBytes *signature, const char *principal,
			    GAsyncReadyCallback ready, gpointer data);

/*
 * The patch, borrowed. A signature that is good by the keys of now replaces the one of the same
 * patch, if it is another; none replaces nothing. PERMISSION: its signature is not as it has to be.
 * CONFLICT: it is older than one that was seen. TOO_LARGE, TOO_MANY. UNAVAILABLE: the signature
 * would be replaced, but the keys have changed since it was verified. Errors of patch/patch.h.
 * Whatever was there is still there then.
 */
const HvpStoredPatch *hvp_patch_store_upload_finish(HvpPatchStore *self, GAsyncResult *result,
						    HvpPatchStoreUploaded *ret_what,
						    GError **error);

/* NOT_FOUND. FAULT: it is still there, as is a serial number that only it would vouch for. */
bool hvp_patch_store_remove(HvpPatchStore *self, const char *sha256,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether @patch is not older than one of its name that was seen. CONFLICT. */
bool hvp_patch_store_check_serial(const HvpPatchStore *self, const HvpStoredPatch *patch,
				  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Makes a copy that can be used. */
void hvp_patch_store_open(HvpPatchStore *self, const HvpStoredPatch *patch,
			  GAsyncReadyCallback ready, gpointer data);
/* TAMPERED: the file is not what its name says. PERMISSION: its signature is not good any more. */
HvpSealed *hvp_patch_store_open_finish(HvpPatchStore *self, GAsyncResult *result, GError **error);
