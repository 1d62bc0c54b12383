/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signatures are made here by the libraries themselves, as minisign and sign-file make them. */
#include "daemon/keyring.h"

#include <glib/gstdio.h>
#include <openssl/cms.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <sodium.h>
#include <string.h>

static const guint8 key_id[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
static const char marker[] = "~Module signature appended~\n";

typedef struct {
	guint8 public_key[crypto_sign_PUBLICKEYBYTES];
	guint8 secret_key[crypto_sign_SECRETKEYBYTES];
} Pair;

static char *encode(const guint8 *bytes, gsize length_bytes)
{
	return g_base64_encode(bytes, length_bytes);
}

static char *public_key(const Pair *pair)
{
	guint8 bytes[2 + sizeof key_id + crypto_sign_PUBLICKEYBYTES] = "Ed";

	memcpy(bytes + 2, key_id, sizeof key_id);
	memcpy(bytes + 2 + sizeof key_id, pair->public_key, sizeof pair->public_key);
	return encode(bytes, sizeof bytes);
}

static char *sign(const Pair *pair, const char *text, const char *algorithm, const char *comment)
{
	guint8 bytes[2 + sizeof key_id + crypto_sign_BYTES];
	guint8 hash[64], global[crypto_sign_BYTES];
	g_autoptr(GByteArray) both = g_byte_array_new();
	g_autofree char *first = NULL, *second = NULL;
	bool hashed = strcmp(algorithm, "ED") == 0;

	crypto_generichash(hash, sizeof hash, (const guint8 *)text, strlen(text), NULL, 0);
	memcpy(bytes, algorithm, 2);
	memcpy(bytes + 2, key_id, sizeof key_id);
	crypto_sign_detached(bytes + 2 + sizeof key_id, NULL, hashed ? hash : (const guint8 *)text,
			     hashed ? sizeof hash : strlen(text), pair->secret_key);
	g_byte_array_append(both, bytes + 2 + sizeof key_id, crypto_sign_BYTES);
	g_byte_array_append(both, (const guint8 *)comment, strlen(comment));
	crypto_sign_detached(global, NULL, both->data, both->len, pair->secret_key);
	first = encode(bytes, sizeof bytes);
	second = encode(global, sizeof global);
	return g_strdup_printf("untrusted comment: x\n%s\ntrusted comment: %s\n%s\n", first,
			       comment, second);
}

static HvpConfig *config_with(const Pair *pair)
{
	HvpConfig *config = hvp_config_new();
	HvpConfigKey *key = g_new0(HvpConfigKey, 1);

	key->name = g_strdup("vendor");
	key->place = g_strdup("conf:1");
	key->minisign = public_key(pair);
	key->not_after_usec = G_MAXINT64;
	g_ptr_array_add(config->keys, key);
	return config;
}

static HvpErrorCode verify(const HvpConfig *config, const char *text, const char *signature,
			   HvpKeyringVerdict *ret_verdict)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpKeyring) keyring = hvp_keyring_new(config, &error);
	g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));
	g_autoptr(GBytes) by = g_bytes_new(signature, strlen(signature));

	g_assert_no_error(error);
	if (hvp_keyring_verify(keyring, bytes, by, ret_verdict, &error))
		return G_MAXUINT;
	g_assert_true(error->domain == HVP_ERROR);
	return error->code;
}

static void test_minisign(void)
{
	static const char *const algorithms[] = { "Ed", "ED" };
	Pair pair;

	crypto_sign_keypair(pair.public_key, pair.secret_key);
	for (guint i = 0; i < G_N_ELEMENTS(algorithms); i++) {
		g_autoptr(HvpConfig) config = config_with(&pair);
		g_autofree char *signature = sign(&pair, "content", algorithms[i],
						  "timestamp:1\tserial:7");
		HvpKeyringVerdict verdict;

		g_assert_cmpuint(verify(config, "content", signature, &verdict), ==, G_MAXUINT);
		g_assert_cmpint(verdict.kind, ==, HVP_KEYRING_MINISIGN);
		g_assert_cmpint(verdict.serial, ==, 7);
		g_assert_cmpuint(verify(config, "contenT", signature, &verdict), ==,
				 HVP_ERROR_PERMISSION);
	}
}

static void test_minisign_comment_REFUSED(void)
{
	HvpKeyringVerdict verdict;
	g_autofree char *signature = NULL, *forged = NULL;
	g_autoptr(HvpConfig) config = NULL;
	g_auto(GStrv) parts = NULL;
	Pair pair;

	crypto_sign_keypair(pair.public_key, pair.secret_key);
	config = config_with(&pair);
	signature = sign(&pair, "content", "ED", "serial:7");
	parts = g_strsplit(signature, "serial:7", 2);
	forged = g_strjoinv("serial:8", parts);
	g_assert_cmpuint(verify(config, "content", forged, &verdict), ==, HVP_ERROR_PERMISSION);
}

static void test_minisign_keys_REFUSED(void)
{
	HvpKeyringVerdict verdict;
	Pair pair, other;
	g_autofree char *signature = NULL;
	g_autoptr(HvpConfig) config = NULL, wrong = NULL, empty = hvp_config_new();

	crypto_sign_keypair(pair.public_key, pair.secret_key);
	crypto_sign_keypair(other.public_key, other.secret_key);
	config = config_with(&pair);
	wrong = config_with(&other);
	signature = sign(&pair, "content", "ED", "");
	/* Of the same id, of none, and of one that has ended; allowing unsigned ones is no help. */
	empty->unsigned_allowed = true;
	g_assert_cmpuint(verify(wrong, "content", signature, &verdict), ==, HVP_ERROR_PERMISSION);
	g_assert_cmpuint(verify(empty, "content", signature, &verdict), ==, HVP_ERROR_PERMISSION);
	g_assert_cmpuint(verify(config, "content", signature, &verdict), ==, G_MAXUINT);
	((HvpConfigKey *)config->keys->pdata[0])->not_after_usec = 1;
	g_assert_cmpuint(verify(config, "content", signature, &verdict), ==, HVP_ERROR_PERMISSION);
}

static void test_minisign_malformed_REFUSED(void)
{
	Pair pair;
	g_autofree char *signature = NULL;
	g_autoptr(HvpConfig) config = NULL;
	HvpKeyringVerdict verdict;

	crypto_sign_keypair(pair.public_key, pair.secret_key);
	config = config_with(&pair);
	signature = sign(&pair, "content", "ED", "c");
	g_assert_cmpuint(verify(config, "content", "\n", &verdict), ==, HVP_ERROR_BAD_DATA);
	/* Cut anywhere but before its last line's end. */
	for (gsize length = 1; length < strlen(signature) - 1; length++) {
		g_autofree char *cut = g_strndup(signature, length);

		g_assert_cmpuint(verify(config, "content", cut, &verdict), !=, G_MAXUINT);
	}
}

static void test_unsigned(void)
{
	g_autoptr(HvpConfig) config = hvp_config_new();
	HvpKeyringVerdict verdict;

	g_assert_cmpuint(verify(config, "content", "", &verdict), ==, HVP_ERROR_PERMISSION);
	config->unsigned_allowed = true;
	g_assert_cmpuint(verify(config, "content", "", &verdict), ==, G_MAXUINT);
	g_assert_cmpint(verdict.kind, ==, HVP_KEYRING_UNSIGNED);
	g_assert_null(verdict.key);
}

/* --- PKCS#7 --- */

typedef struct {
	EVP_PKEY *key;
	X509 *certificate;
	char *path;
} Signer;

static void signer_init(Signer *self, long valid_seconds)
{
	X509_NAME *name = X509_NAME_new();
	FILE *file;

	self->key = EVP_EC_gen("P-256");
	self->certificate = X509_new();
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const guint8 *)"signer", -1, -1, 0);
	ASN1_INTEGER_set(X509_get_serialNumber(self->certificate), g_random_int_range(1, 1 << 30));
	X509_set_subject_name(self->certificate, name);
	X509_set_issuer_name(self->certificate, name);
	X509_NAME_free(name);
	X509_gmtime_adj(X509_getm_notBefore(self->certificate), -7200);
	X509_gmtime_adj(X509_getm_notAfter(self->certificate), valid_seconds);
	X509_set_pubkey(self->certificate, self->key);
	g_assert_cmpint(X509_sign(self->certificate, self->key, EVP_sha256()), >, 0);
	g_close(g_file_open_tmp("cert-XXXXXX.pem", &self->path, NULL), NULL);
	file = fopen(self->path, "w");
	PEM_write_X509(file, self->certificate);
	fclose(file);
}

static void signer_clear(Signer *self)
{
	g_unlink(self->path);
	g_free(self->path);
	EVP_PKEY_free(self->key);
	X509_free(self->certificate);
}

static GBytes *append_signature(const Signer *self, const char *text, const EVP_MD *digest)
{
	const guint flags = CMS_NOCERTS | CMS_BINARY | CMS_DETACHED | CMS_NOSMIMECAP;
	BIO *content = BIO_new_mem_buf(text, -1);
	CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL, flags | CMS_PARTIAL | CMS_STREAM);
	GByteArray *file = g_byte_array_new();
	guint8 trailer[12] = { [2] = 2 };
	guint8 *der = NULL;
	int length;

	g_assert_nonnull(
		CMS_add1_signer(cms, self->certificate, self->key, digest, flags | CMS_NOATTR));
	g_assert_cmpint(CMS_final(cms, content, NULL, flags), ==, 1);
	length = i2d_CMS_ContentInfo(cms, &der);
	*(guint32 *)(void *)(trailer + 8) = GUINT32_TO_BE((guint32)length);
	g_byte_array_append(file, (const guint8 *)text, strlen(text));
	g_byte_array_append(file, der, (guint)length);
	g_byte_array_append(file, trailer, sizeof trailer);
	g_byte_array_append(file, (const guint8 *)marker, sizeof marker - 1);
	OPENSSL_free(der);
	CMS_ContentInfo_free(cms);
	BIO_free(content);
	return g_byte_array_free_to_bytes(file);
}

static HvpConfig *config_of(const Signer *signer)
{
	HvpConfig *config = hvp_config_new();
	HvpConfigKey *key = g_new0(HvpConfigKey, 1);

	key->name = g_strdup("distribution");
	key->place = g_strdup("conf:1");
	key->certificate = g_strdup(signer->path);
	key->not_after_usec = G_MAXINT64;
	g_ptr_array_add(config->keys, key);
	return config;
}

static HvpErrorCode verify_module(const HvpConfig *config, GBytes *module,
				  HvpKeyringVerdict *ret_verdict)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpKeyring) keyring = hvp_keyring_new(config, &error);
	g_autoptr(GBytes) none = g_bytes_new_static("", 0);

	g_assert_no_error(error);
	if (hvp_keyring_verify(keyring, module, none, ret_verdict, &error))
		return G_MAXUINT;
	return error->code;
}

static void test_pkcs7(void)
{
	HvpKeyringVerdict verdict;
	Signer signer, other;
	g_autoptr(HvpConfig) config = NULL, foreign = NULL;
	g_autoptr(GBytes) module = NULL;

	signer_init(&signer, 3600);
	signer_init(&other, 3600);
	config = config_of(&signer);
	foreign = config_of(&other);
	module = append_signature(&signer, "the module", EVP_sha512());
	g_assert_cmpuint(verify_module(config, module, &verdict), ==, G_MAXUINT);
	g_assert_cmpint(verdict.kind, ==, HVP_KEYRING_PKCS7);
	g_assert_cmpuint(verify_module(foreign, module, &verdict), ==, HVP_ERROR_PERMISSION);
	/* Nobody's here, but where that is all the same it may be its guest's. */
	foreign->unsigned_allowed = true;
	g_assert_cmpuint(verify_module(foreign, module, &verdict), ==, G_MAXUINT);
	g_assert_cmpint(verdict.kind, ==, HVP_KEYRING_UNSIGNED);
	signer_clear(&signer);
	signer_clear(&other);
}

/* Each byte of content, signature and trailer counts. */
static void test_pkcs7_changed_REFUSED(void)
{
	HvpKeyringVerdict verdict;
	Signer signer;
	g_autoptr(HvpConfig) config = NULL;
	g_autoptr(GBytes) module = NULL;
	gsize length, content = strlen("the module");
	const guint8 *bytes;

	signer_init(&signer, 3600);
	config = config_of(&signer);
	module = append_signature(&signer, "the module", EVP_sha256());
	bytes = g_bytes_get_data(module, &length);
	for (gsize i = 0; i < length; i++) {
		g_autofree guint8 *copy = g_memdup2(bytes, length);
		g_autoptr(GBytes) changed = NULL;

		copy[i] ^= 1;
		changed = g_bytes_new(copy, length);
		/* Some bytes of the DER can stand for the same; what is signed cannot. */
		if (verify_module(config, changed, &verdict) == G_MAXUINT)
			g_assert_cmpuint(i, >=, content);
	}
	signer_clear(&signer);
}

static void test_pkcs7_weak_or_ended_REFUSED(void)
{
	HvpKeyringVerdict verdict;
	Signer signer, ended;
	g_autoptr(HvpConfig) config = NULL, past = NULL;
	g_autoptr(GBytes) weak = NULL, late = NULL;

	signer_init(&signer, 3600);
	signer_init(&ended, -3600);
	config = config_of(&signer);
	past = config_of(&ended);
	weak = append_signature(&signer, "the module", EVP_sha1());
	late = append_signature(&ended, "the module", EVP_sha256());
	g_assert_cmpuint(verify_module(config, weak, &verdict), ==, HVP_ERROR_PERMISSION);
	g_assert_cmpuint(verify_module(past, late, &verdict), ==, HVP_ERROR_PERMISSION);
	signer_clear(&signer);
	signer_clear(&ended);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_assert_cmpint(sodium_init(), >=, 0);
	g_test_add_func("/keyring/minisign", test_minisign);
	g_test_add_func("/keyring/minisign-comment-REFUSED", test_minisign_comment_REFUSED);
	g_test_add_func("/keyring/minisign-keys-REFUSED", test_minisign_keys_REFUSED);
	g_test_add_func("/keyring/minisign-malformed-REFUSED", test_minisign_malformed_REFUSED);
	g_test_add_func("/keyring/unsigned", test_unsigned);
	g_test_add_func("/keyring/pkcs7", test_pkcs7);
	g_test_add_func("/keyring/pkcs7-changed-REFUSED", test_pkcs7_changed_REFUSED);
	g_test_add_func("/keyring/pkcs7-weak-or-ended-REFUSED", test_pkcs7_weak_or_ended_REFUSED);
	return g_test_run();
}
