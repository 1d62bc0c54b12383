/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One call of a method, from the message to its answer.
 *
 *   who is it -> what is it about -> may he -> do it -> answer
 *                                     | no: FORBIDDEN where he may view it, else NOT_FOUND,
 *                                     |     as if it were not there
 */
#pragma once

#include "daemon/authority.h"
#include "daemon/domains.h"
#include "daemon/listeners.h"
#include "daemon/operations.h"

/* All that methods work with; borrowed. */
typedef struct {
	const HvpConfig *config;
	HvpPatchStore *patches;
	HvpOperations *operations;
	HvpDomains *domains;
	HvpEvents *events;
	HvpMetrics *metrics;
	HvpAuthority *authority;
	HvpCallers *callers;
	HvpListeners *listeners;
} HvpCallContext;

typedef struct HvpCall HvpCall;
typedef void (*HvpCallStep)(HvpCall *call);

struct HvpCall {
	const HvpCallContext *context;
	GDBusMethodInvocation *invocation; /* taken by the answer */
	GVariant *parameters;		   /* of the invocation */
	HvpCaller *caller;
	HvpCallStep next;
	HvpVerb verb;			 /* that is asked about */
	char *domain_uuid, *domain_name; /* that it is about; NULL: none */
	const char *missing;		 /* what to say is not there */
	bool sees_all;
	HvpOperationRequest *request; /* of StartOperation */
};

/* Begins; @step goes on once it is known who calls. Takes @invocation. */
void hvp_call_begin(const HvpCallContext *context, GDBusMethodInvocation *invocation,
		    HvpCallStep step);

/* Argument @index, a string; borrowed. */
const char *hvp_call_get_text(const HvpCall *self, guint index);

/* Goes on with @next if the caller may do @verb, which is about no domain. */
void hvp_call_need(HvpCall *self, HvpVerb verb, HvpCallStep next);

/* The same about a domain; both are copied. NULL: there is none. @missing is static. */
void hvp_call_need_on(HvpCall *self, HvpVerb verb, const char *uuid, const char *name,
		      const char *missing, HvpCallStep next);

/* Goes on with @next if he may view anything; sees_all is set then. */
void hvp_call_need_view(HvpCall *self, HvpCallStep next);

/* Goes on with @next in any case; hvp_call_may_view tells then what he may view. */
void hvp_call_see(HvpCall *self, HvpCallStep next);

/* Whether he may view that domain; after one of these two. */
bool hvp_call_may_view(const HvpCall *self, const char *uuid, const char *name);

/* The answer, which ends the call. @values is taken, NULL: none. */
void hvp_call_answer(HvpCall *self, GVariant *values);
/* @instance: what it is about; NULL. */
void hvp_call_fail(HvpCall *self, const GError *error, const char *instance);
