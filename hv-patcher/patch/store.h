/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The patches that are to be applied whenever a VM has started: copies of their files in a folder
 * of the VM's own, by hash, that nobody but the owner can read or write.
 *
 *   FOLDER/UUID/SHA256.ko             and the manifest that lay beside it,
 *   FOLDER/UUID/SHA256.hvpatch.json   if there was one
 *
 * A file whose content is not what its name says is not used.
 */
#pragma once

#include "base/error.h"
#include "patch/patch.h"

#define HVP_STORE_MAX_PATCHES 128U

/* A copy that is there and sound. */
typedef struct {
	char *name; /* of the patch's module */
	char *sha256;
	char *path;
} HvpStoreEntry;

/* Root's; of other users, one of theirs. The caller's. */
char *hvp_store_default_folder(void);

/*
 * What @folder has for the VM @uuid: HvpStoreEntry, by age of the copy; empty where it has nothing.
 * PERMISSION: somebody else could have written there. BAD_DATA: a damaged or foreign file, too
 * many. INVALID_ARGUMENT: @uuid is none. Reads all files.
 */
GPtrArray *hvp_store_list(const char *folder, const char *uuid, GError **error);

/*
 * Copies @patch, which was read from @path, and its manifest; one of that name with other content
 * goes. PERMISSION, FAULT; what was there is then still there.
 */
bool hvp_store_add(const char *folder, const char *uuid, const HvpPatch *patch, const char *path,
		   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Removes the copy of patch @name. NOT_FOUND: there is none. */
bool hvp_store_remove(const char *folder, const char *uuid, const char *name,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;
