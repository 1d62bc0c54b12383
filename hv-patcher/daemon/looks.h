/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Workers that only look, one a domain and four at a time: what the daemon shows of a guest is what
 * they saw last. One that hangs, because its guest has it so, is ended after two minutes and keeps
 * none but its own domain waiting, as long as there are fewer than four of that kind. A domain at
 * which an operation is at work is left to that.
 */
#pragma once

#include "daemon/config.h"
#include "errand/worker.h"

typedef struct HvpLooks HvpLooks;

typedef struct {
	/* @look NULL: @code, an error's name, and @why say why not. All borrowed. */
	void (*seen)(const char *uuid, JsonNode *look, const char *code, const char *why,
		     gpointer data);
	void (*crashed)(gpointer data);
} HvpLooksHandlers;

/* All borrowed. */
HvpLooks *hvp_looks_new(const HvpConfig *config, const HvpLooksHandlers *handlers, gpointer data);
/* Ends those at work. */
void hvp_looks_free(HvpLooks *self);

/* Has @uuid looked at in its turn; once more, behind it, where that is at work. */
void hvp_looks_want(HvpLooks *self, const char *uuid, const char *name);

/* Whether @uuid is looked at, or will be; whether it is looked at now. */
bool hvp_looks_are_wanted(const HvpLooks *self, const char *uuid);
bool hvp_looks_are_at(const HvpLooks *self, const char *uuid);

/* Ends or forgets it. */
void hvp_looks_drop(HvpLooks *self, const char *uuid);
