/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The request for an operation: OperationRequest of openapi.json. */
#pragma once

#include <glib.h>

/*
 * The body @bytes as the core takes it: checked member by member and written anew, so that the
 * core, which has more rights, sees no JSON of a stranger's making. INVALID_ARGUMENT: it is not
 * valid.
 */
char *hvp_request_normalize(GBytes *bytes, GError **error);
