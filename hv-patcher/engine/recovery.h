/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an interrupted operation was, and what became of it. */
#pragma once

#include "engine/journal.h"

typedef struct {
	char *operation; /* "apply", "revert", "look" */
	char *patch;	 /* its name */
	char *sha256;	 /* its */
	bool finished;	 /* its switch had been decided: it was finished, else rolled back */
} HvpRecovery;

/* Of the operation whose journal @state is. Never NULL. */
HvpRecovery *hvp_recovery_new(const HvpJournalState *state);
void hvp_recovery_free(HvpRecovery *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpRecovery, hvp_recovery_free)

/* For people: "an interrupted apply of X was rolled back"; the caller's. */
char *hvp_recovery_describe(const HvpRecovery *self);
