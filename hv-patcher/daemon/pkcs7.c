/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/pkcs7.h"

#include <errno.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "patch/signature.h"

#define MARKER_BYTES (sizeof "~Module signature appended~\n" - 1)
/* struct module_signature of the kernel's include/linux/module_signature.h. */
#define TRAILER_BYTES 12U
#define TRAILER_ID_TYPE 2U
#define TRAILER_SIGNER_LENGTH 3U
#define TRAILER_KEY_ID_LENGTH 4U
#define ID_TYPE_PKCS7 2
#define MAX_SIGNERS 4
/* The signature is over the bytes as they are, by a certificate of ours and none it brings. */
#define VERIFY_FLAGS (CMS_BINARY | CMS_NOINTERN | CMS_NO_SIGNER_CERT_VERIFY)

struct HvpPkcs7Certificates {
	STACK_OF(X509) * known;
};

G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIO, BIO_free_all)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CMS_ContentInfo, CMS_ContentInfo_free)

HvpPkcs7Certificates *hvp_pkcs7_certificates_new(void)
{
	HvpPkcs7Certificates *self = g_new0(HvpPkcs7Certificates, 1);

	self->known = sk_X509_new_null();
	return self;
}

void hvp_pkcs7_certificates_free(HvpPkcs7Certificates *self)
{
	if (self == NULL)
		return;
	sk_X509_pop_free(self->known, X509_free);
	g_free(self);
}

bool hvp_pkcs7_certificates_add(HvpPkcs7Certificates *self, const char *path, GError **error)
{
	FILE *file = fopen(path, "re");
	X509 *certificate;

	if (file == NULL)
		return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", path);
	certificate = PEM_read_X509(file, NULL, NULL, NULL);
	fclose(file);
	ERR_clear_error();
	if (certificate == NULL)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s: not a certificate in PEM",
				     path);
	if (sk_X509_push(self->known, certificate) <= 0) {
		X509_free(certificate);
		return hvp_error_set(error, HVP_ERROR_INTERNAL, "no memory for a certificate");
	}
	return true;
}

static bool set_bad(GError **error, const char *why)
{
	return hvp_error_set(error, HVP_ERROR_BAD_DATA, "the module's signature: %s", why);
}

/* The signature proper; NULL: it is none of PKCS#7's. @signature_bytes: with all around it. */
static CMS_ContentInfo *parse(const guint8 *end, gsize signature_bytes, GError **error)
{
	const guint8 *trailer = end - MARKER_BYTES - TRAILER_BYTES;
	const guint8 *at = end - signature_bytes;
	gsize length_bytes = signature_bytes - MARKER_BYTES - TRAILER_BYTES;
	const guint8 *begin = at;
	g_autoptr(CMS_ContentInfo) cms = NULL;

	if (trailer[TRAILER_ID_TYPE] != ID_TYPE_PKCS7 || trailer[TRAILER_SIGNER_LENGTH] != 0 ||
	    trailer[TRAILER_KEY_ID_LENGTH] != 0) {
		set_bad(error, "not of the PKCS#7 kind");
		return NULL;
	}
	cms = d2i_CMS_ContentInfo(NULL, &at, (long)length_bytes);
	ERR_clear_error();
	if (cms == NULL || at != begin + length_bytes ||
	    OBJ_obj2nid(CMS_get0_type(cms)) != NID_pkcs7_signed) {
		set_bad(error, "not a PKCS#7 message");
		return NULL;
	}
	return g_steal_pointer(&cms);
}

static bool is_strong(CMS_SignerInfo *signer)
{
	X509_ALGOR *digest = NULL;

	CMS_SignerInfo_get0_algs(signer, NULL, NULL, &digest, NULL);
	switch (digest ? OBJ_obj2nid(digest->algorithm) : NID_undef) {
	case NID_sha256:
	case NID_sha384:
	case NID_sha512:
	case NID_sha3_256:
	case NID_sha3_384:
	case NID_sha3_512:
		return true;
	default:
		return false;
	}
}

static bool check_signers(CMS_ContentInfo *cms, GError **error)
{
	STACK_OF(CMS_SignerInfo) *signers = CMS_get0_SignerInfos(cms);
	int count = signers ? sk_CMS_SignerInfo_num(signers) : 0;

	if (count < 1 || count > MAX_SIGNERS)
		return set_bad(error, "by nobody, or by too many");
	for (int i = 0; i < count; i++)
		if (!is_strong(sk_CMS_SignerInfo_value(signers, i)))
			return hvp_error_set(error, HVP_ERROR_PERMISSION,
					     "the module's signature: its hash is too weak");
	return true;
}

static bool is_valid_now(const X509 *certificate)
{
	return X509_cmp_current_time(X509_get0_notBefore(certificate)) < 0 &&
	       X509_cmp_current_time(X509_get0_notAfter(certificate)) > 0;
}

/* Which of ours made it; all that signed have to be valid. */
static bool find_signer(const HvpPkcs7Certificates *self, CMS_ContentInfo *cms, guint *ret_index,
			GError **error)
{
	STACK_OF(X509) *signers = CMS_get0_signers(cms);
	bool all_valid = signers != NULL;
	int index = -1;

	for (int i = 0; signers != NULL && i < sk_X509_num(signers); i++) {
		X509 *signer = sk_X509_value(signers, i);

		all_valid = all_valid && is_valid_now(signer);
		for (int j = 0; index < 0 && j < sk_X509_num(self->known); j++)
			if (X509_cmp(sk_X509_value(self->known, j), signer) == 0)
				index = j;
	}
	sk_X509_free(signers);
	if (!all_valid || index < 0)
		return hvp_error_set(error, HVP_ERROR_PERMISSION,
				     "the module's signature: its certificate is not valid now");
	*ret_index = (guint)index;
	return true;
}

/*
 * Of what is a memory BIO itself CMS_verify makes a copy, and loses it where the signature is not
 * for it (OpenSSL 3.0).
 */
static BIO *open_content(const guint8 *bytes, gsize length_bytes)
{
	g_autoptr(BIO) memory = BIO_new_mem_buf(bytes, (int)length_bytes);
	BIO *filter = memory ? BIO_new(BIO_f_null()) : NULL;

	return filter ? BIO_push(filter, g_steal_pointer(&memory)) : NULL;
}

static bool verify(const HvpPkcs7Certificates *self, CMS_ContentInfo *cms, const guint8 *bytes,
		   gsize length_bytes, HvpPkcs7Verdict *ret_verdict, guint *ret_index,
		   GError **error)
{
	g_autoptr(BIO) content = open_content(bytes, length_bytes);
	bool good, unknown;

	ERR_clear_error();
	good = content != NULL &&
	       CMS_verify(cms, self->known, NULL, content, NULL, VERIFY_FLAGS) == 1;
	unknown = ERR_GET_REASON(ERR_peek_last_error()) == CMS_R_SIGNER_CERTIFICATE_NOT_FOUND;
	ERR_clear_error();
	if (!good && !unknown)
		return hvp_error_set(error, HVP_ERROR_PERMISSION,
				     "the module's signature is not for this module");
	*ret_verdict = good ? HVP_PKCS7_GOOD : HVP_PKCS7_UNKNOWN;
	return !good || find_signer(self, cms, ret_index, error);
}

bool hvp_pkcs7_verify(const HvpPkcs7Certificates *self, GBytes *module,
		      HvpPkcs7Verdict *ret_verdict, guint *ret_index, GError **error)
{
	gsize length_bytes, signature_bytes;
	const guint8 *bytes = g_bytes_get_data(module, &length_bytes);
	g_autoptr(CMS_ContentInfo) cms = NULL;

	if (!hvp_signature_measure(bytes, length_bytes, &signature_bytes, error))
		return false;
	if (signature_bytes == 0) {
		*ret_verdict = HVP_PKCS7_NONE;
		return true;
	}
	if (length_bytes > G_MAXINT)
		return set_bad(error, "the module is too large");
	cms = parse(bytes + length_bytes, signature_bytes, error);
	return cms != NULL && check_signers(cms, error) &&
	       verify(self, cms, bytes, length_bytes - signature_bytes, ret_verdict, ret_index,
		      error);
}
