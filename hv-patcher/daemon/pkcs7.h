/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The signature that the kernel's sign-file appends to a module: PKCS#7 (CMS), detached, without
 * certificates, by one that is known here. The certificate itself is what is trusted: no chain is
 * built. As in the kernel the signature covers all before it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/error.h"

typedef struct HvpPkcs7Certificates HvpPkcs7Certificates;

HvpPkcs7Certificates *hvp_pkcs7_certificates_new(void);
void hvp_pkcs7_certificates_free(HvpPkcs7Certificates *self);

/* Reads the certificate at @path, in PEM. NOT_FOUND, PERMISSION, FAULT, BAD_DATA. */
bool hvp_pkcs7_certificates_add(HvpPkcs7Certificates *self, const char *path,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;

typedef enum {
	HVP_PKCS7_NONE,	   /* the module has no such signature */
	HVP_PKCS7_UNKNOWN, /* by a certificate that is not known */
	HVP_PKCS7_GOOD,
} HvpPkcs7Verdict;

/*
 * @ret_index: of GOOD, which certificate, in the order in which they were added. PERMISSION: a
 * known certificate, and not its signature for this module; or it is not valid now, or the
 * hash is too weak. BAD_DATA: what should be a signature is none.
 */
bool hvp_pkcs7_verify(const HvpPkcs7Certificates *self, GBytes *module,
		      HvpPkcs7Verdict *ret_verdict, guint *ret_index,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;
