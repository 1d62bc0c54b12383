/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The dry run: everything that can be said about a patch and a guest without
 * touching the guest, item by item. Applicable means: every item holds, or was
 * accepted by name.
 */
#pragma once

#include "engine/options.h"
#include "engine/result.h"
#include "engine/changes.h"
#include "patch/patch.h"

typedef struct {
	const char *item; /* "vermagic", "functions", ...: stable names */
	bool ok;
	bool accepted;	   /* not ok, but the operator said it may be */
	HvpErrorCode code; /* what refusing for it means */
	char *why;	   /* NULL where there is nothing to say */
} HvpCheckItem;

/* A function that the patch names, with its place in the guest. */
typedef struct {
	HvpFunctionFacts facts;
	HvpSite site;  /* new bytes not filled in */
	bool released; /* the guest's livepatch core redirects it for a patch that goes */
} HvpCheckFunction;

typedef struct {
	bool applicable;
	GArray *items;	      /* HvpCheckItem */
	GArray *functions;    /* HvpCheckFunction: those that were found fit */
	bool already_applied; /* this very file is in force in the guest */
} HvpCheck;

void hvp_check_free(HvpCheck *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpCheck, hvp_check_free)

/* The items that may be accepted although they do not hold; NULL-terminated. */
extern const char *const hvp_check_acceptable_items[];

/*
 * Checks @patch against @target, as @options (accepted items, replace) have it. Fails only where
 * the guest cannot be read at all.
 */
HvpCheck *hvp_check_run(HvpTarget *target, const HvpPatch *patch, const HvpOptions *options,
			GError **error);

/* Sets @error from the first item that does not hold; true when applicable. */
bool hvp_check_verdict(const HvpCheck *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What functions are looked up in. Borrowed, but for the last two. */
typedef struct {
	HvpTarget *target;
	const HvpChanges *pending; /* made in the same switch before; may be NULL */
	HvpFtrace *ftrace;
	HvpTextSites *sites; /* of the image, and of the modules that were looked at */
	GHashTable *known;   /* struct module: those modules */
} HvpCheckPlaces;

/* Reads the guest's tables. UNSUPPORTED without dynamic ftrace. */
bool hvp_check_places_read(HvpTarget *target, const HvpChanges *pending, HvpCheckPlaces *ret_places,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
void hvp_check_places_clear(HvpCheckPlaces *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HvpCheckPlaces, hvp_check_places_clear)

/*
 * The check of one function of @object (NULL: the image), as `apply` repeats it on what the
 * guest's klp_patch names: found, room, nobody else there.
 */
bool hvp_check_function(HvpCheckPlaces *places, HvpModule *object, const char *name,
			guint64 position, HvpCheckFunction *ret_function,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Frees what hvp_check_function filled in. */
void hvp_check_function_clear(HvpCheckFunction *self);
