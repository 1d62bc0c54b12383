/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What somebody asks for: {"verb", "patch" or "name", "options"}. Read strictly; options that are
 * left out get their defaults, so that from here on all of them are there.
 */
#pragma once

#include <json-glib/json-glib.h>

#include "base/error.h"
#include "daemon/roles.h"

typedef struct {
	HvpVerb verb;
	char *patch;	   /* its SHA-256; NULL */
	char *name;	   /* of the patch's module; NULL */
	JsonNode *options; /* all of them, with defaults */
} HvpOperationRequest;

/* What the configuration allows. */
typedef struct {
	double max_pause_msec;
	double max_timeout_seconds;
} HvpOperationRequestLimits;

/*
 * Reads a request. Where nothing is asked for, @limits lower the defaults. INVALID_ARGUMENT;
 * PERMISSION: a longer pause, or a longer wait for tasks in the way, than is allowed.
 */
HvpOperationRequest *hvp_operation_request_parse(const char *text,
						 const HvpOperationRequestLimits *limits,
						 GError **error);
void hvp_operation_request_free(HvpOperationRequest *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpOperationRequest, hvp_operation_request_free)
