/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every changing operation takes: limits, what was accepted, and who watches. */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "patch/manifest.h"

/* Told what is going on: @step is a phrase, @blockers how many tasks are in the way (or 0). */
typedef void (*HvpProgress)(const char *step, guint attempt, guint blockers, void *user_data);

/* Whether the patches in force go when this one comes. */
typedef enum { HVP_REPLACE_AS_PATCH_SAYS, HVP_REPLACE_YES, HVP_REPLACE_NO } HvpReplace;

typedef struct {
	gint64 timeout_usec;
	gint64 max_pause_usec;
	bool no_prod;		     /* leave sleeping tasks that are in the way alone */
	const char *const *accepted; /* items of check that may fail; NULL-terminated, or NULL */
	HvpReplace replace;
	const HvpManifest *manifest; /* of the patch, with the operator's changes; may be NULL */
	HvpProgress progress; /* may be NULL */
	void *progress_data;
	bool (*is_cancelled)(void *user_data); /* asked now and then; may be NULL */
	void *cancel_data;
} HvpOptions;

/* The step behind the switch: from here on it is too late to cancel. */
#define HVP_STEP_SWITCHED "finishing"

#define HVP_DEFAULT_TIMEOUT_USEC (30 * G_USEC_PER_SEC)
#define HVP_DEFAULT_MAX_PAUSE_USEC (10 * 1000)

/*
 * Whether the operation is still wanted. CANCELLED: it is not. Asked only where all that was done
 * can be taken back: before the switch.
 */
bool hvp_options_check_wanted(const HvpOptions *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

void hvp_options_progress(const HvpOptions *self, const char *step, guint attempt, guint blockers);
