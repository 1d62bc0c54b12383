/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tool's requests (wire.h): checks each, does it, answers it. */
#pragma once

#include "keeper/session.h"

/* Handles the complete request in `request`. */
void hvp_requests_handle(HvpSession *self);

/*
 * While stopped, WAIT pending: passes bystanders and answers if some vCPU stands
 * where it is the tool's business; else it is for the caller to resume.
 */
bool hvp_requests_answer_wait(HvpSession *self, bool *ret_answered, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
