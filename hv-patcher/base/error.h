/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one error domain. The code says what the caller does next, the message
 * what went wrong and where: a phrase, lower case, addresses in hex, no full
 * stop. Foreign errors (errno, libelf, QMP) are converted where they enter.
 */
#pragma once

#include <glib.h>

#define HVP_ERROR (hvp_error_quark())

typedef enum {
	/* Nothing was touched. */
	HVP_ERROR_INVALID_ARGUMENT,
	HVP_ERROR_UNSUPPORTED,
	HVP_ERROR_PERMISSION,
	HVP_ERROR_BAD_DATA,
	HVP_ERROR_FAULT,
	HVP_ERROR_NOT_FOUND,
	HVP_ERROR_AMBIGUOUS,
	/* Retry later. */
	HVP_ERROR_BUSY,
	HVP_ERROR_TIMED_OUT,
	/* Refuse. */
	HVP_ERROR_UNRELIABLE,
	HVP_ERROR_CONFLICT,
	HVP_ERROR_TAMPERED,
	/* The caller wanted it no more; nothing is changed. */
	HVP_ERROR_CANCELLED,
	/* The VM ended or its monitor closed. */
	HVP_ERROR_VM_GONE,
	/* Failed, the old bytes proven back. */
	HVP_ERROR_UNDONE,
	/* Needs an operator. */
	HVP_ERROR_INCONSISTENT,
	/* A bug of ours. */
	HVP_ERROR_INTERNAL,
} HvpErrorCode;

GQuark hvp_error_quark(void);

/* The stable upper-case name of a code, such as "BUSY"; never NULL. Static. */
const char *hvp_error_code_name(HvpErrorCode code);

/* The code of that name; INTERNAL where there is none, or @name is NULL. */
HvpErrorCode hvp_error_code_by_name(const char *name);

/* The stable name of @error's code; "INTERNAL" for a foreign domain or NULL. */
const char *hvp_error_name(const GError *error);

/* Exit status of the command line for @error (1 to 7); see EXIT STATUS in docs/hvpatch.1.rst. */
int hvp_error_exit_status(const GError *error);

/*
 * Sets @error from an errno value: EPERM/EACCES become PERMISSION, ENOENT
 * NOT_FOUND, ESRCH VM_GONE, EFAULT/EIO FAULT, all others @fallback.
 * Always returns false, so that callers can return it.
 */
gboolean hvp_error_set_errno(GError **error, int errno_value, HvpErrorCode fallback,
			     const char *format, ...) G_GNUC_PRINTF(4, 5);

/* Sets @error in our domain and returns false, so that callers can return it. */
gboolean hvp_error_set(GError **error, HvpErrorCode code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);
