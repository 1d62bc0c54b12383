/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Progress of an operation: one line on a terminal, rewritten; nothing elsewhere. */
#pragma once

#include "engine/options.h"
#include "engine/result.h"

typedef struct {
	bool is_terminal;
	guint shown_columns;
} HvpCliProgress;

/* Watches stderr. */
HvpCliProgress hvp_cli_progress_begin(void);

/* To be HvpOptions' progress, with a HvpCliProgress as its data. */
void hvp_cli_progress_show(const char *step, guint attempt, guint blockers, void *user_data);

/* Wipes the line. */
void hvp_cli_progress_end(HvpCliProgress *self);
