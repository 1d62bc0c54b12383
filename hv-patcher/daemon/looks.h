/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Workers that only look, one at a time, domain by domain: what the daemon shows of a guest is
 * what they saw last. A domain at which an operation is at work is left to that.
 */
#pragma once

#include "daemon/config.h"
#include "daemon/worker.h"

typedef struct HvpLooks HvpLooks;

typedef struct {
	/* @look NULL: @code, an error's name, and @why say why not. All borrowed. */
	void (*seen)(const char *uuid, JsonNode *look, const char *code, const char *why,
		     gpointer data);
	void (*crashed)(gpointer data);
} HvpLooksHandlers;

/* All borrowed. */
HvpLooks *hvp_looks_new(const HvpConfig *config, const HvpLooksHandlers *handlers, gpointer data);
/* Ends the one at work. */
void hvp_looks_free(HvpLooks *self);

/* Has @uuid looked at in its turn; once more, where that is now. */
void hvp_looks_want(HvpLooks *self, const char *uuid, const char *name);

/* Ends or forgets it. */
void hvp_looks_drop(HvpLooks *self, const char *uuid);
