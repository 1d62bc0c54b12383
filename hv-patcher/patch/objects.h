/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Collects what the three formats say about patched objects and functions,
 * checks names and limits, and turns it into the arrays of a HvpPatch. Objects
 * and functions keep the order in which they were first named.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "patch/patch.h"

typedef enum {
	HVP_OBJECTS_PRE_PATCH,
	HVP_OBJECTS_POST_PATCH,
	HVP_OBJECTS_PRE_UNPATCH,
	HVP_OBJECTS_POST_UNPATCH,
	HVP_OBJECTS_CALLBACK_COUNT,
} HvpObjectsCallback;

typedef struct HvpObjects HvpObjects;

/* Names are copied to @strings, which must outlive the result and what it builds. */
HvpObjects *hvp_objects_new(GStringChunk *strings) G_GNUC_WARN_UNUSED_RESULT;

/* Takes NULL. */
void hvp_objects_free(HvpObjects *self);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpObjects, hvp_objects_free)

/* An object, known already or not; @name NULL or "vmlinux": the kernel itself. */
bool hvp_objects_add(HvpObjects *self, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* BAD_DATA also for a function that is named twice. */
bool hvp_objects_add_function(HvpObjects *self, const char *object,
			      const HvpPatchFunction *function,
			      GError **error) G_GNUC_WARN_UNUSED_RESULT;

bool hvp_objects_add_callback(HvpObjects *self, const char *object, HvpObjectsCallback callback,
			      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Moves everything into @patch; @self is empty afterwards. */
void hvp_objects_finish(HvpObjects *self, HvpPatch *patch);

/* Frees what finish has put into @patch. */
void hvp_objects_clear_patch(HvpPatch *patch);
