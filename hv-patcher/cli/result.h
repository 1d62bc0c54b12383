/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Apply and revert: their common options, and how their result looks. */
#pragma once

#include "cli/cli.h"
#include "engine/options.h"
#include "engine/result.h"

/* What the common options say; text is NULL where an option was not given. */
typedef struct {
	char *timeout;
	char *max_pause;
	char **accepted;
	gboolean no_prod;
} HvpCliLimits;

void hvp_cli_limits_clear(HvpCliLimits *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HvpCliLimits, hvp_cli_limits_clear)

/* Into the engine's options, defaults where nothing was said. @ret_options borrows @self. */
bool hvp_cli_limits_read(const HvpCliLimits *self, HvpOptions *ret_options,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Shows the end of @operation ("apply", "revert"), failed or not. @target and @result may be
 * NULL where it did not get that far. Sets the exit status.
 */
void hvp_cli_result_show(HvpCli *cli, const char *operation, const HvpTarget *target,
			 const HvpResult *result, const GError *error);
