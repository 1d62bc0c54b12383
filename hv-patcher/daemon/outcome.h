/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the end of a worker means for its operation: pure functions.
 *
 * Where the worker was lost and could have changed something, a recover worker finishes what it
 * left, and a look at the guest tells which of both worlds it is in.
 */
#pragma once

#include "daemon/operation.h"
#include "errand/worker.h"

typedef enum {
	HVP_PHASE_WORK,	   /* what was asked for */
	HVP_PHASE_RECOVER, /* its worker was lost: the journal is finished */
	HVP_PHASE_LOOK,	   /* and the guest is asked what is in force */
} HvpPhase;

typedef struct {
	bool is_over;
	HvpPhase next;		 /* where it is not */
	HvpOperationState state; /* where it is */
	const char *code;	 /* of the problem; NULL: none. Borrowed from the end, or static. */
	const char *detail;
} HvpOutcome;

/*
 * What follows @end of @phase of @self. @recovered: of LOOK, whether there was something to
 * recover.
 */
HvpOutcome hvp_outcome_of(const HvpOperation *self, HvpPhase phase, const HvpWorkerEnd *end,
			  bool recovered);

/* Whether the document of a recover says that there was something to do. */
bool hvp_outcome_has_recovered(JsonNode *result);
