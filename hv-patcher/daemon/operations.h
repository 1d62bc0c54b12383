/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All operations: those that wait, in the order in which they came but for reverts and recoveries,
 * which come first; those at work; and those that have ended, which are kept to be asked for.
 *
 *   STATE/operations/ID.json   written at the beginning, when it starts, and at the end
 *
 * One operation a domain. At most "workers" at work at once, of which "max-stopped" that rewrite.
 * After a restart those that waited wait again; those that were at work are recovered.
 */
#pragma once

#include "daemon/config.h"
#include "daemon/events.h"
#include "daemon/metrics.h"
#include "daemon/operation.h"
#include "daemon/patch-store.h"

typedef struct HvpOperations HvpOperations;

typedef struct {
	/* What is at domain @uuid now: @operation, or NULL: nothing any more. */
	void (*at_domain)(const char *uuid, const HvpOperation *operation, gpointer data);
	/* A worker has looked at it. */
	void (*looked)(const char *uuid, JsonNode *look, gpointer data);
	/* The last one at work has ended. */
	void (*idle)(gpointer data);
} HvpOperationsHandlers;

typedef struct {
	const HvpConfig *config;
	HvpPatchStore *patches;
	HvpEvents *events;
	HvpMetrics *metrics;
	const HvpOperationsHandlers *handlers;
	gpointer data;
} HvpOperationsSetup;

/* Reads what is there; begins nothing. What @setup points to is borrowed. FAULT, PERMISSION. */
HvpOperations *hvp_operations_new(const HvpOperationsSetup *setup, GError **error);
/* Ends all that are at work. */
void hvp_operations_free(HvpOperations *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpOperations, hvp_operations_free)

/* Tells of those that were there, and begins. */
void hvp_operations_begin(HvpOperations *self);

/* Begins those that the configuration has room for by now. */
void hvp_operations_look_again(HvpOperations *self);

/* Begins no further ones from now on; whether any are at work. */
bool hvp_operations_drain(HvpOperations *self);

typedef struct {
	const char *uuid;
	const char *name;
	const char *principal;
	const char *body; /* the request's text, for the key */
	const char *key;  /* "": none */
} HvpOperationsCall;

/*
 * The operation that @call's key began before (@ret_found; NULL: none). IDEMPOTENCY: with another
 * request. INVALID_ARGUMENT: it is no key.
 */
bool hvp_operations_find_by_key(const HvpOperations *self, const HvpOperationsCall *call,
				const HvpOperation **ret_found,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Begins one; takes @request. Borrowed. IN_THE_WAY, TOO_MANY, UNAVAILABLE; NOT_FOUND: no such
 * patch; CONFLICT: an older one than allowed; FAULT: it cannot be written down.
 */
const HvpOperation *hvp_operations_start(HvpOperations *self, const HvpOperationsCall *call,
					 HvpOperationRequest *request, GError **error);

/* NULL: none. Borrowed. */
const HvpOperation *hvp_operations_find(const HvpOperations *self, const char *id);

/* All, newest first, borrowed; the array is the caller's. */
GPtrArray *hvp_operations_list(const HvpOperations *self);

/* CONFLICT: it is too late. It may take a while until it has ended. */
bool hvp_operations_cancel(HvpOperations *self, const char *id,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* One that has not ended and needs patch @sha256; NULL: none. */
const HvpOperation *hvp_operations_find_user(const HvpOperations *self, const char *sha256);

void hvp_operations_count(const HvpOperations *self, guint *ret_queued, guint *ret_running);
