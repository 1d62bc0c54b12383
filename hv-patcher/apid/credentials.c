/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/credentials.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>

#define MAX_CHAIN 8
#define MAX_PURPOSES 32
#define MAX_NAME_BYTES 128
#define OID_BYTES 128

/* Of every HvpCredentials' members. */
static GMutex lock;

struct HvpCredentials {
	GTlsCertificate *certificate;
	gnutls_x509_trust_list_t trust;
};

/* A certificate and those above it, for one verification. */
typedef struct {
	gnutls_x509_crt_t certificates[MAX_CHAIN];
	guint count;
} Chain;

static void clear_chain(Chain *chain)
{
	for (guint i = 0; i < chain->count; i++)
		gnutls_x509_crt_deinit(chain->certificates[i]);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Chain, clear_chain)

static bool load_trust(HvpCredentials *self, const HvpSettings *settings, GError **error)
{
	int count = gnutls_x509_trust_list_add_trust_file(self->trust, settings->client_ca, NULL,
							  GNUTLS_X509_FMT_PEM, 0, 0);

	if (count <= 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s: no certificates",
				     settings->client_ca);
	if (settings->crl == NULL)
		return true;
	count = gnutls_x509_trust_list_add_trust_file(self->trust, NULL, settings->crl,
						      GNUTLS_X509_FMT_PEM, 0,
						      GNUTLS_VERIFY_ALLOW_UNSORTED_CHAIN);
	if (count <= 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "%s: no revocation list of a CA in %s", settings->crl,
				     settings->client_ca);
	return true;
}

HvpCredentials *hvp_credentials_load(const HvpSettings *settings, GError **error)
{
	g_autoptr(HvpCredentials) self = g_new0(HvpCredentials, 1);
	g_autoptr(GError) failed = NULL;

	gnutls_x509_trust_list_init(&self->trust, 0);
	self->certificate = g_tls_certificate_new_from_files(settings->certificate, settings->key,
							     &failed);
	if (self->certificate == NULL) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s: %s", settings->certificate,
			      failed->message);
		return NULL;
	}
	if (!load_trust(self, settings, error))
		return NULL;
	return g_steal_pointer(&self);
}

void hvp_credentials_free(HvpCredentials *self)
{
	if (self == NULL)
		return;
	g_clear_object(&self->certificate);
	gnutls_x509_trust_list_deinit(self->trust, 1);
	g_free(self);
}

void hvp_credentials_replace(HvpCredentials *self, HvpCredentials *other)
{
	HvpCredentials old = *self;

	/* Handshakes verify in threads of GIO's. */
	g_mutex_lock(&lock);
	*self = *other;
	*other = old;
	g_mutex_unlock(&lock);
	hvp_credentials_free(other);
}

static bool fill_chain(Chain *chain, GTlsCertificate *certificate)
{
	for (; certificate != NULL; certificate = g_tls_certificate_get_issuer(certificate)) {
		g_autoptr(GByteArray) bytes = NULL;
		gnutls_datum_t datum;

		if (chain->count == MAX_CHAIN)
			return false;
		g_object_get(certificate, "certificate", &bytes, NULL);
		datum = (gnutls_datum_t){ bytes->data, bytes->len };
		if (gnutls_x509_crt_init(&chain->certificates[chain->count]) < 0)
			return false;
		chain->count++;
		if (gnutls_x509_crt_import(chain->certificates[chain->count - 1], &datum,
					   GNUTLS_X509_FMT_DER) < 0)
			return false;
	}
	return chain->count > 0;
}

/* Named outright: a certificate without purposes would be good for all of them. */
static bool is_for_clients(gnutls_x509_crt_t certificate)
{
	for (guint i = 0; i < MAX_PURPOSES; i++) {
		char oid[OID_BYTES];
		size_t length = sizeof oid;

		if (gnutls_x509_crt_get_key_purpose_oid(certificate, i, oid, &length, NULL) < 0)
			return false;
		if (strcmp(oid, GNUTLS_KP_TLS_WWW_CLIENT) == 0)
			return true;
	}
	return false;
}

static bool verify(HvpCredentials *self, Chain *chain, GError **error)
{
	gnutls_typed_vdata_st purpose = { .type = GNUTLS_DT_KEY_PURPOSE_OID,
					  .data = (void *)GNUTLS_KP_TLS_WWW_CLIENT };
	unsigned int status = 0;
	gnutls_datum_t why = { NULL, 0 };
	int result;

	g_mutex_lock(&lock);
	result = gnutls_x509_trust_list_verify_crt2(self->trust, chain->certificates, chain->count,
						    &purpose, 1, GNUTLS_VERIFY_DO_NOT_ALLOW_SAME,
						    &status, NULL);
	g_mutex_unlock(&lock);
	if (result < 0)
		return hvp_error_set(error, HVP_ERROR_PERMISSION,
				     "the client's certificate cannot be verified");
	if (status == 0 && is_for_clients(chain->certificates[0]))
		return true;
	gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &why, 0);
	hvp_error_set(error, HVP_ERROR_PERMISSION, "the client's certificate: %s",
		      status ? (const char *)why.data : "its purpose is not to be a client's");
	gnutls_free(why.data);
	return false;
}

/* One common name, without what could be mistaken in a log or for another principal. */
static char *common_name(gnutls_x509_crt_t certificate)
{
	char name[MAX_NAME_BYTES + 1], other[MAX_NAME_BYTES + 1];
	size_t length = sizeof name, other_length = sizeof other;

	if (gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name,
					  &length) < 0 ||
	    gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 1, 0, other,
					  &other_length) != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		return NULL;
	if (length == 0 || strlen(name) != length || !g_utf8_validate(name, -1, NULL))
		return NULL;
	for (const char *at = name; *at != '\0'; at = g_utf8_next_char(at))
		if (!g_unichar_isprint(g_utf8_get_char(at)))
			return NULL;
	return g_strdup(name);
}

char *hvp_credentials_principal(HvpCredentials *self, GTlsConnection *tls, GError **error)
{
	GTlsCertificate *peer = g_tls_connection_get_peer_certificate(tls);
	g_auto(Chain) chain = { .count = 0 };
	g_autofree char *name = NULL;

	/* Whatever GLib's backend and the system's policy would let pass. */
	if (g_tls_connection_get_protocol_version(tls) < G_TLS_PROTOCOL_VERSION_TLS_1_2) {
		hvp_error_set(error, HVP_ERROR_PERMISSION, "the client speaks an old TLS");
		return NULL;
	}
	if (peer == NULL || !fill_chain(&chain, peer)) {
		hvp_error_set(error, HVP_ERROR_PERMISSION, "the client shows no certificate");
		return NULL;
	}
	if (!verify(self, &chain, error))
		return NULL;
	name = common_name(chain.certificates[0]);
	if (name == NULL) {
		hvp_error_set(error, HVP_ERROR_PERMISSION,
			      "the client's certificate has not one printable common name");
		return NULL;
	}
	return g_strconcat("cert:", name, NULL);
}

static gboolean accept_certificate(G_GNUC_UNUSED GTlsConnection *tls, GTlsCertificate *certificate,
				   G_GNUC_UNUSED GTlsCertificateFlags errors, void *data)
{
	g_auto(Chain) chain = { .count = 0 };
	g_autoptr(GError) error = NULL;

	if (fill_chain(&chain, certificate) && verify(data, &chain, &error))
		return TRUE;
	g_message("a TLS client is refused: %s",
		  error ? error->message : "a chain that is too long");
	return FALSE;
}

GTlsConnection *hvp_credentials_serve(HvpCredentials *self, GIOStream *io, GError **error)
{
	GType type = g_tls_backend_get_server_connection_type(g_tls_backend_get_default());
	/*
	 * Without a database GLib finds every certificate bad and asks. It has to be told so from
	 * the start: g_tls_server_connection_new() copies all authorities that the host trusts.
	 */
	g_autoptr(GObject)
		tls = g_initable_new(type, NULL, error, "base-io-stream", io, "certificate",
				     self->certificate, "database", NULL, NULL);

	if (tls == NULL)
		return NULL;
	g_object_set(tls, "authentication-mode", G_TLS_AUTHENTICATION_REQUIRED,
		     "require-close-notify", FALSE, NULL);
	g_signal_connect(tls, "accept-certificate", G_CALLBACK(accept_certificate), self);
	return G_TLS_CONNECTION(g_steal_pointer(&tls));
}
