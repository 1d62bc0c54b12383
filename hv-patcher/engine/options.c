/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/options.h"

void hvp_options_progress(const HvpOptions *self, const char *step, guint attempt, guint blockers)
{
	if (self->progress != NULL)
		self->progress(step, attempt, blockers, self->progress_data);
}
