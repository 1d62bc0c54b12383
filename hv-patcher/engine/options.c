/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/options.h"

#include "base/error.h"

bool hvp_options_check_wanted(const HvpOptions *self, GError **error)
{
	return self->is_cancelled == NULL || !self->is_cancelled(self->cancel_data) ||
	       hvp_error_set(error, HVP_ERROR_CANCELLED, "cancelled; nothing was switched");
}

void hvp_options_progress(const HvpOptions *self, const char *step, guint attempt, guint blockers)
{
	if (self->progress != NULL)
		self->progress(step, attempt, blockers, self->progress_data);
}
