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

/*
 * Reads a request. @max_pause_msec is what the configuration allows; where nothing is asked for, it
 * lowers the default. INVALID_ARGUMENT; PERMISSION: a longer pause than is allowed.
 */
HvpOperationRequest *hvp_operation_request_parse(const char *text, double max_pause_msec,
						 GError **error);
void hvp_operation_request_free(HvpOperationRequest *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpOperationRequest, hvp_operation_request_free)
