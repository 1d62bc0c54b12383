/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

G_DEFINE_QUARK(hvp-error-quark, hvp_error)

static const struct {
	const char *name;
	int exit_status;
} hvp_error_codes[] = {
	[HVP_ERROR_INVALID_ARGUMENT] = { "INVALID_ARGUMENT", 2 },
	[HVP_ERROR_UNSUPPORTED] = { "UNSUPPORTED", 3 },
	[HVP_ERROR_PERMISSION] = { "PERMISSION", 5 },
	[HVP_ERROR_BAD_DATA] = { "BAD_DATA", 1 },
	[HVP_ERROR_FAULT] = { "FAULT", 1 },
	[HVP_ERROR_NOT_FOUND] = { "NOT_FOUND", 1 },
	[HVP_ERROR_AMBIGUOUS] = { "AMBIGUOUS", 3 },
	[HVP_ERROR_BUSY] = { "BUSY", 4 },
	[HVP_ERROR_TIMED_OUT] = { "TIMED_OUT", 4 },
	[HVP_ERROR_UNRELIABLE] = { "UNRELIABLE", 4 },
	[HVP_ERROR_CONFLICT] = { "CONFLICT", 5 },
	[HVP_ERROR_TAMPERED] = { "TAMPERED", 7 },
	[HVP_ERROR_CANCELLED] = { "CANCELLED", 1 },
	[HVP_ERROR_VM_GONE] = { "VM_GONE", 1 },
	[HVP_ERROR_UNDONE] = { "UNDONE", 6 },
	[HVP_ERROR_INCONSISTENT] = { "INCONSISTENT", 7 },
	[HVP_ERROR_INTERNAL] = { "INTERNAL", 1 },
};

const char *hvp_error_code_name(HvpErrorCode code)
{
	if ((guint)code >= G_N_ELEMENTS(hvp_error_codes))
		return "INTERNAL";
	return hvp_error_codes[code].name;
}

HvpErrorCode hvp_error_code_by_name(const char *name)
{
	for (guint code = 0; name != NULL && code < G_N_ELEMENTS(hvp_error_codes); code++)
		if (strcmp(hvp_error_codes[code].name, name) == 0)
			return (HvpErrorCode)code;
	return HVP_ERROR_INTERNAL;
}

const char *hvp_error_name(const GError *error)
{
	if (error == NULL || error->domain != HVP_ERROR)
		return "INTERNAL";
	return hvp_error_code_name((HvpErrorCode)error->code);
}

int hvp_error_exit_status(const GError *error)
{
	if (error == NULL || error->domain != HVP_ERROR ||
	    (guint)error->code >= G_N_ELEMENTS(hvp_error_codes))
		return 1;
	return hvp_error_codes[error->code].exit_status;
}

static HvpErrorCode hvp_error_code_from_errno(int errno_value, HvpErrorCode fallback)
{
	switch (errno_value) {
	case EPERM:
	case EACCES:
		return HVP_ERROR_PERMISSION;
	case ENOENT:
		return HVP_ERROR_NOT_FOUND;
	case ESRCH:
		return HVP_ERROR_VM_GONE;
	case EFAULT:
	case EIO:
		return HVP_ERROR_FAULT;
	default:
		return fallback;
	}
}

gboolean hvp_error_set_errno(GError **error, int errno_value, HvpErrorCode fallback,
			     const char *format, ...)
{
	g_autofree char *what = NULL;
	va_list arguments;

	va_start(arguments, format);
	what = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	g_set_error(error, HVP_ERROR, hvp_error_code_from_errno(errno_value, fallback), "%s: %s",
		    what, g_strerror(errno_value));
	return FALSE;
}

gboolean hvp_error_set(GError **error, HvpErrorCode code, const char *format, ...)
{
	va_list arguments;

	if (error == NULL)
		return FALSE;
	va_start(arguments, format);
	g_propagate_error(error, g_error_new_valist(HVP_ERROR, (int)code, format, arguments));
	va_end(arguments);
	return FALSE;
}
