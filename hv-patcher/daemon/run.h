/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An operation at work: its workers one behind the other, until it has come to an end.
 *
 *   patch opened and verified -> worker -> end
 *                                  | lost: recover worker -> look -> end
 */
#pragma once

#include "daemon/config.h"
#include "daemon/outcome.h"
#include "daemon/patch-store.h"

typedef struct HvpRun HvpRun;

typedef struct {
	/* Something of the operation is another now. */
	void (*changed)(HvpOperation *operation, gpointer data);
	/* A worker of its was lost; a journal was finished. */
	void (*crashed)(gpointer data);
	void (*recovered)(gpointer data);
	/* A look at its domain; borrowed. */
	void (*looked)(HvpOperation *operation, JsonNode *look, gpointer data);
	/* Once: state, error and result of the operation are set. The run may be freed. */
	void (*ended)(HvpOperation *operation, gpointer data);
} HvpRunHandlers;

/*
 * Begins @operation with @phase: WORK, or RECOVER for one whose worker was lost before. Nothing is
 * told from within. All are borrowed.
 */
HvpRun *hvp_run_start(HvpOperation *operation, HvpPhase phase, const HvpConfig *config,
		      HvpPatchStore *patches, const HvpRunHandlers *handlers, gpointer data);

/* Passes on that it is not wanted any more. */
void hvp_run_cancel(HvpRun *self);

/* Ends its worker. NULL is fine. */
void hvp_run_free(HvpRun *self);

/* The text of a job for the domain @uuid, for looks too; @request NULL: a look. The caller's. */
char *hvp_run_make_job(const HvpConfig *config, const char *uuid, const char *name,
		       const char *verb, const HvpOperationRequest *request, JsonNode *manifest);
