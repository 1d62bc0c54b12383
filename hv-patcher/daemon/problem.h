/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors as the API tells them: problem documents (RFC 9457). The codes are those of base/error.h
 * and a few of the API's own, which are a second error domain.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "base/error.h"

#define HVP_PROBLEM (hvp_problem_quark())

typedef enum {
	HVP_PROBLEM_UNAUTHENTICATED,
	HVP_PROBLEM_FORBIDDEN,
	HVP_PROBLEM_IN_THE_WAY, /* told as BUSY, with the operation that is */
	HVP_PROBLEM_IDEMPOTENCY,
	HVP_PROBLEM_TOO_LARGE,
	HVP_PROBLEM_TOO_MANY,
	HVP_PROBLEM_GONE,
	HVP_PROBLEM_UNAVAILABLE,
} HvpProblemCode;

GQuark hvp_problem_quark(void);

/* Sets @error in that domain; always false, so that callers can return it. */
bool hvp_problem_set(GError **error, HvpProblemCode code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

/* IN_THE_WAY: operation @id is. Always false. */
bool hvp_problem_set_in_the_way(GError **error, const char *id);

/* The stable name of @error's code, of either domain; "INTERNAL" for any other. Static. */
const char *hvp_problem_code(const GError *error);

/* The HTTP status for a code's name; 500 for a name that is not known. */
guint hvp_problem_status(const char *code);

/* The document for @code and @detail; @instance and @operation may be NULL. The caller's. */
JsonNode *hvp_problem_make(const char *code, const char *detail, const char *instance,
			   const char *operation);

/* The same for @error. */
JsonNode *hvp_problem_of(const GError *error, const char *instance);
