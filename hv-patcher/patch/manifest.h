/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the author of a patch asks for beyond its code: in the field "hvpatch" of the module's
 * modinfo, which whoever signs the module signs too, or in a file beside it, of fix.ko in
 * fix.hvpatch.json, which takes the field's place. JSON, because it is read by the library that is
 * here anyway, and written by whatever builds patches. Strict: what is not known is refused.
 *
 *   { "kthreads": "any" | "refuse" | "parked" | "parked=PATTERN,...",
 *     "standing": [ "function" | "module:function", ... ],
 *     "cves": [ "CVE-2026-12345", ... ],
 *     "serial": 7 }
 *
 * All are optional. The serial number grows with each issue of a patch; who keeps patches for
 * others refuses to go back.
 *
 * Standing are functions whose locals would outlive the switch in a thread
 * that never leaves them, such as the main loop that calls a replaced function.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/error.h"
#include "patch/patch.h"

#define HVP_MANIFEST_FIELD "hvpatch"
#define HVP_MANIFEST_MAX_BYTES (64U << 10)
#define HVP_MANIFEST_MAX_PATTERNS 64U
#define HVP_MANIFEST_MAX_STANDING 256U
#define HVP_MANIFEST_MAX_CVES 64U
#define HVP_MANIFEST_MAX_PATTERN_BYTES 63U
#define HVP_MANIFEST_MAX_NAME_BYTES 255U
#define HVP_MANIFEST_NO_SERIAL (-1)

typedef enum {
	HVP_KTHREADS_ANY,    /* their stacks alone decide */
	HVP_KTHREADS_REFUSE, /* none may be in a standing function */
	/* those that match, or without patterns those in a standing function, are at rest */
	HVP_KTHREADS_PARKED,
} HvpKthreadsPolicy;

typedef struct {
	HvpKthreadsPolicy kthreads;
	char **patterns; /* of PARKED: of names, with * and ?; NULL: none */
	char **standing; /* "function" or "module:function"; never NULL */
	char **cves;	 /* what the patch mends, for people; never NULL */
	gint64 serial;	 /* HVP_MANIFEST_NO_SERIAL: it has none */
	char *place;	 /* where it is, for messages; NULL: there is none */
	bool is_beside;	 /* in a file of its own */
} HvpManifest;

/* Where the manifest of the module at @path lies, if there is one; the caller's. */
char *hvp_manifest_path_beside(const char *path);

/*
 * Reads that of @patch, whose module is at @path; an empty one where it has none.
 * BAD_DATA naming what is wrong with it; PERMISSION, INVALID_ARGUMENT as of any file.
 */
HvpManifest *hvp_manifest_open(const HvpPatch *patch, const char *path, GError **error);

/* Likewise from @text of @length_bytes, a NUL behind them; @label stands for it in messages. */
HvpManifest *hvp_manifest_parse(const char *text, gsize length_bytes, const char *label,
				GError **error);

void hvp_manifest_free(HvpManifest *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpManifest, hvp_manifest_free)

/* Replaces its policy by @text, as "kthreads" has it. INVALID_ARGUMENT; @self is then as before. */
bool hvp_manifest_set_kthreads(HvpManifest *self, const char *text,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Whether its policy has something to look at: refuse, and parked without patterns, need standing
 * functions. INVALID_ARGUMENT.
 */
bool hvp_manifest_check(const HvpManifest *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;
