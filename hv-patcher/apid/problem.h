/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What goes wrong with a request, as a GError, and its problem document (RFC 9457). The code
 * decides the HTTP status, here and nowhere else: what the core says of it does not matter.
 */
#pragma once

#include <gio/gio.h>

#define HVP_PROBLEM (hvp_problem_quark())

/* Those of base/error.h in their order, and those of HTTP. */
typedef enum {
	HVP_PROBLEM_INVALID_ARGUMENT,
	HVP_PROBLEM_UNSUPPORTED,
	HVP_PROBLEM_PERMISSION,
	HVP_PROBLEM_BAD_DATA,
	HVP_PROBLEM_FAULT,
	HVP_PROBLEM_NOT_FOUND,
	HVP_PROBLEM_AMBIGUOUS,
	HVP_PROBLEM_BUSY,
	HVP_PROBLEM_TIMED_OUT,
	HVP_PROBLEM_UNRELIABLE,
	HVP_PROBLEM_CONFLICT,
	HVP_PROBLEM_TAMPERED,
	HVP_PROBLEM_VM_GONE,
	HVP_PROBLEM_UNDONE,
	HVP_PROBLEM_INCONSISTENT,
	HVP_PROBLEM_INTERNAL,
	HVP_PROBLEM_UNAUTHENTICATED,
	HVP_PROBLEM_FORBIDDEN,
	HVP_PROBLEM_GONE,
	HVP_PROBLEM_IDEMPOTENCY,
	HVP_PROBLEM_TOO_LARGE,
	HVP_PROBLEM_TOO_MANY,
	HVP_PROBLEM_METHOD_NOT_ALLOWED,
	HVP_PROBLEM_NOT_ACCEPTABLE,
	HVP_PROBLEM_UNSUPPORTED_MEDIA_TYPE,
	HVP_PROBLEM_EXPECTATION,
	HVP_PROBLEM_MISDIRECTED,
	HVP_PROBLEM_URI_TOO_LONG,
	HVP_PROBLEM_HEADERS_TOO_LARGE,
	HVP_PROBLEM_UNAVAILABLE,
	HVP_PROBLEM_CANCELLED,
	/* The client's request was not whole in time: TIMED_OUT, as 408. */
	HVP_PROBLEM_REQUEST_TIMEOUT,
} HvpProblemCode;

GQuark hvp_problem_quark(void);

/* Sets @error in this domain and returns false, so that callers can return it. */
gboolean hvp_problem_set(GError **error, HvpProblemCode code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

/* GONE: events are there behind @oldest up to @newest, and not behind what was asked for. */
gboolean hvp_problem_set_gone(GError **error, guint64 oldest, guint64 newest);

/*
 * The error that the core answered: org.hvpatch1.Error.CODE with a problem document as its message,
 * of which the known members are kept. What is not of this form becomes INTERNAL; a core that is
 * away UNAVAILABLE; one that does not answer TIMED_OUT. Owned by the caller; @error stays his.
 */
GError *hvp_problem_from_core(const GError *error);

/* The HTTP status of @error; 500 for a foreign domain. */
guint hvp_problem_status(const GError *error);

/* The problem document of @error as JSON, owned by the caller. */
char *hvp_problem_document(const GError *error);
