/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One operation: what was asked for, where it is, and what came out.
 *
 *   queued -> checking -> loading -> waiting <-> switching -> verifying -> an end
 *
 * Steps may be left out; each running state may lead to an end. The ends are applied, checked,
 * reverted, recovered, failed (nothing was changed), rolled-back, needs-operator and cancelled.
 * It can be cancelled before verifying, that is while the switch is not made.
 */
#pragma once

#include <json-glib/json-glib.h>

#include "base/error.h"
#include "daemon/operation-request.h"

#define HVP_OPERATION_MAX_KEY_BYTES 128U

typedef enum {
	HVP_OPERATION_QUEUED,
	HVP_OPERATION_CHECKING,
	HVP_OPERATION_LOADING,
	HVP_OPERATION_WAITING,
	HVP_OPERATION_SWITCHING,
	HVP_OPERATION_VERIFYING,
	HVP_OPERATION_APPLIED,
	HVP_OPERATION_CHECKED,
	HVP_OPERATION_REVERTED,
	HVP_OPERATION_RECOVERED,
	HVP_OPERATION_FAILED,
	HVP_OPERATION_ROLLED_BACK,
	HVP_OPERATION_NEEDS_OPERATOR,
	HVP_OPERATION_CANCELLED,
	HVP_OPERATION_STATE_COUNT,
} HvpOperationState;

/* Static. */
const char *hvp_operation_state_name(HvpOperationState state);
bool hvp_operation_find_state(const char *name,
			      HvpOperationState *ret_state) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_operation_may_follow(HvpOperationState from, HvpOperationState to);
bool hvp_operation_is_end(HvpOperationState state);

typedef struct {
	char *id;
	char *domain; /* its UUID */
	char *domain_name;
	char *principal;
	HvpOperationRequest *request;
	HvpOperationState state;
	char *step;
	guint attempt;
	guint blockers;
	gint64 created_usec;
	gint64 started_usec; /* 0: not yet */
	gint64 ended_usec;   /* likewise */
	JsonNode *error;     /* a problem; NULL */
	JsonNode *result;    /* NULL */
	char *key;	     /* for idempotency; NULL */
	char *body_sha256;   /* what came with the key */
	bool cancel_wanted;
	bool is_settling; /* its worker was lost: what it left is being looked at */
} HvpOperation;

/* Queued. Takes @request. */
HvpOperation *hvp_operation_new(const char *domain, const char *domain_name, const char *principal,
				HvpOperationRequest *request);
void hvp_operation_free(HvpOperation *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpOperation, hvp_operation_free)

/* Whether it may stop its VM to rewrite it. */
bool hvp_operation_is_changing(const HvpOperation *self);
bool hvp_operation_is_cancellable(const HvpOperation *self);

/* The document, for everybody; and with what is nobody's business, for the file. */
JsonNode *hvp_operation_to_document(const HvpOperation *self);
JsonNode *hvp_operation_to_file(const HvpOperation *self);

/* Reads what hvp_operation_to_file made. BAD_DATA. */
HvpOperation *hvp_operation_parse_file(JsonNode *file, GError **error);
