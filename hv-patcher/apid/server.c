/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/server.h"

#include <string.h>

#include "apid/credentials.h"
#include "apid/feed.h"
#include "apid/handlers.h"
#include "apid/handshakes.h"
#include "apid/listener.h"
#include "apid/notify.h"
#include "apid/problem.h"
#include "apid/routes.h"

#define MAX_UPLOADS_EACH 2

struct HvpServer {
	HvpApi api;
	SoupServer *soup;
	HvpConnectionHost host;
	HvpPeers *connections;
	HvpHandshakes *handshakes;
	HvpCredentials *credentials;
	GHashTable *remote; /* HvpConnection, borrowed: the GTlsConnection that it is */
	GPtrArray *listeners;
};

static void connection_closed(HvpConnection *connection, void *data)
{
	HvpServer *self = data;

	g_hash_table_remove(self->remote, connection);
	hvp_peers_remove(self->connections, hvp_connection_principal(connection));
	self->api.counters.connections--;
}

/* One connection too many is told so, in what its socket takes at once, and is none of ours. */
static void turn_away(HvpServer *self, GIOStream *io)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *document = NULL;
	g_autofree char *text = NULL;

	self->api.counters.connections_refused++;
	hvp_problem_set(&error, HVP_PROBLEM_TOO_MANY, "too many connections are open already");
	document = hvp_problem_document(error);
	text = g_strdup_printf("HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\n"
			       "Retry-After: 1\r\nContent-Type: application/problem+json\r\n"
			       "Content-Length: %" G_GSIZE_FORMAT "\r\n\r\n%s",
			       strlen(document), document);
	g_pollable_output_stream_write_nonblocking(
		G_POLLABLE_OUTPUT_STREAM(g_io_stream_get_output_stream(io)), text, strlen(text),
		NULL, NULL);
}

static void serve(HvpServer *self, GSocket *socket, GIOStream *io, const char *principal)
{
	HvpConnection *connection;

	if (!hvp_peers_add(self->connections, principal)) {
		turn_away(self, io);
		return;
	}
	self->api.counters.connections++;
	connection = hvp_connection_start(socket, io, principal, &self->host);
	if (G_IS_TLS_CONNECTION(io))
		g_hash_table_insert(self->remote, connection, g_object_ref(io));
}

/* By the uid as it was at connect(), never by a pid, which somebody else may have by now. */
static void take_local(HvpServer *self, GSocket *socket)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GCredentials) credentials = g_socket_get_credentials(socket, &error);
	uid_t uid = credentials ? g_credentials_get_unix_user(credentials, &error) : (uid_t)-1;
	g_autoptr(GSocketConnection) io = NULL;
	g_autofree char *principal = NULL;

	if (uid == (uid_t)-1) {
		self->api.counters.connections_refused++;
		return;
	}
	io = g_socket_connection_factory_create_connection(socket);
	principal = g_strdup_printf("uid:%u", uid);
	serve(self, socket, G_IO_STREAM(io), principal);
}

static void shook_hands(GSocket *socket, GTlsConnection *tls, const GError *failed, void *data)
{
	HvpServer *self = data;
	g_autoptr(GError) error = failed ? g_error_copy(failed) : NULL;
	g_autofree char *principal = NULL;

	if (failed == NULL)
		principal = hvp_credentials_principal(self->credentials, tls, &error);
	if (principal != NULL) {
		serve(self, socket, G_IO_STREAM(tls), principal);
	} else {
		self->api.counters.connections_refused++;
		g_debug("a handshake: %s", error->message);
	}
}

static void take_remote(HvpServer *self, GSocket *socket)
{
	g_autoptr(GSocketConnection) io = g_socket_connection_factory_create_connection(socket);
	g_autoptr(GTlsConnection)
		tls = hvp_credentials_serve(self->credentials, G_IO_STREAM(io), NULL);

	if (tls != NULL)
		hvp_handshakes_begin(self->handshakes, socket, tls);
	else
		self->api.counters.connections_refused++;
}

static void take(HvpListener *listener, GSocket *socket, void *data)
{
	if (hvp_listener_is_tcp(listener))
		take_remote(data, socket);
	else
		take_local(data, socket);
}

/* Who may not upload is told so before his patch is taken, and takes no place of who may. */
static void admitted(HvpConnection *connection, void *data)
{
	HvpServer *self = data;

	if (hvp_routes_is_upload(hvp_connection_head(connection)))
		hvp_patches_admit(&self->api, connection);
	else
		hvp_connection_go_on(connection, NULL);
}

static void answer_written(G_GNUC_UNUSED SoupServerMessage *message, void *data)
{
	hvp_connection_set_answered(data);
}

static bool is_good(HvpConnection *connection)
{
	return hvp_connection_head(connection) != NULL &&
	       hvp_connection_problem(connection) == NULL;
}

static void got_headers(SoupServerMessage *message, void *data)
{
	HvpConnection *connection = hvp_connection_of_message(message);

	if (is_good(connection) && hvp_routes_is_upload(hvp_connection_head(connection)))
		hvp_patches_expect(data, message);
}

static void request_started(G_GNUC_UNUSED SoupServer *soup, SoupServerMessage *message, void *data)
{
	HvpServer *self = data;

	g_signal_connect(message, "wrote-body", G_CALLBACK(answer_written),
			 hvp_connection_of_message(message));
	g_signal_connect(message, "got-headers", G_CALLBACK(got_headers), &self->api);
}

/* The request is whole, or there is something wrong with it. */
static void request_read(G_GNUC_UNUSED SoupServer *soup, SoupServerMessage *message,
			 G_GNUC_UNUSED const char *path, G_GNUC_UNUSED GHashTable *query,
			 void *data)
{
	HvpServer *self = data;
	HvpExchange *exchange = hvp_exchange_new(&self->api, message);

	if (is_good(exchange->connection))
		hvp_routes_dispatch(exchange);
	else
		hvp_exchange_fail(exchange, hvp_connection_problem(exchange->connection));
}

static bool add_listener(HvpServer *self, HvpListener *listener)
{
	if (listener != NULL)
		g_ptr_array_add(self->listeners, listener);
	return listener != NULL;
}

static bool open_listeners(HvpServer *self, GError **error)
{
	const HvpSettings *settings = self->api.settings;
	int count = hvp_notify_inherited_count();

	for (int i = 0; i < count; i++)
		if (!add_listener(self, hvp_listener_new_inherited(HVP_NOTIFY_FIRST_FD + i, error)))
			return false;
	if (count > 0)
		return true;
	if (settings->socket != NULL && !add_listener(self, hvp_listener_new_unix(settings, error)))
		return false;
	if (settings->tcp_host != NULL &&
	    !add_listener(self, hvp_listener_new_tcp(settings, error)))
		return false;
	return self->listeners->len > 0 ||
	       hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "neither a socket nor tcp is set");
}

/* No connection from a network without certificates, however its socket came to be. */
static bool load_credentials(HvpServer *self, GError **error)
{
	const HvpSettings *settings = self->api.settings;
	bool is_tcp = false;

	for (guint i = 0; i < self->listeners->len; i++)
		is_tcp |= hvp_listener_is_tcp(g_ptr_array_index(self->listeners, i));
	if (!is_tcp)
		return true;
	if (settings->certificate == NULL || settings->key == NULL || settings->client_ca == NULL)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "[api] a socket of a network is served only with cert, key "
				     "and client-ca");
	self->credentials = hvp_credentials_load(settings, error);
	return self->credentials != NULL;
}

static void free_listener(void *data)
{
	hvp_listener_free(data);
}

HvpServer *hvp_server_new(const HvpSettings *settings, GError **error)
{
	g_autoptr(HvpServer) self = g_new0(HvpServer, 1);

	self->api.settings = settings;
	self->listeners = g_ptr_array_new_with_free_func(free_listener);
	self->remote = g_hash_table_new_full(NULL, NULL, NULL, g_object_unref);
	self->connections = hvp_peers_new(settings->max_connections,
					  settings->max_connections_each);
	self->handshakes = hvp_handshakes_new(settings->head_seconds, shook_hands, self);
	self->api.uploads = hvp_peers_new(settings->max_uploads, MAX_UPLOADS_EACH);
	hvp_routes_set_max_patch(settings->max_patch_bytes);
	if (!open_listeners(self, error) || !load_credentials(self, error))
		return NULL;
	return g_steal_pointer(&self);
}

static void start_listener(void *listener, void *data)
{
	HvpServer *self = data;

	hvp_listener_start(listener, take, self, &self->api.counters.accept_failures);
	if (hvp_listener_is_tcp(listener))
		g_message("port %u", hvp_listener_get_port(listener));
}

void hvp_server_start(HvpServer *self, const char *bus_address)
{
	self->soup = soup_server_new("raw-paths", TRUE, NULL);
	g_signal_connect(self->soup, "request-started", G_CALLBACK(request_started), self);
	soup_server_add_handler(self->soup, NULL, request_read, self, NULL);
	self->host = (HvpConnectionHost){ .server = self->soup,
					  .settings = self->api.settings,
					  .admit = hvp_routes_admit,
					  .admitted = admitted,
					  .closed = connection_closed,
					  .data = self };
	self->api.core = hvp_core_new(bus_address, self->api.settings->core_seconds);
	self->api.feed = hvp_feed_new(&self->api);
	g_ptr_array_foreach(self->listeners, start_listener, self);
}

/* What they have begun goes on; its answer is for nobody any more. */
static void cut_off_revoked(HvpServer *self)
{
	GHashTableIter iter;
	gpointer connection, tls;

	g_hash_table_iter_init(&iter, self->remote);
	while (g_hash_table_iter_next(&iter, &connection, &tls)) {
		g_autoptr(GError) error = NULL;
		g_autofree char *principal = hvp_credentials_principal(self->credentials, tls,
								       &error);

		if (principal != NULL)
			continue;
		g_message("a connection of %s is closed: %s", hvp_connection_principal(connection),
			  error->message);
		hvp_connection_abort(connection);
	}
}

void hvp_server_reload(HvpServer *self)
{
	g_autoptr(GError) error = NULL;
	HvpCredentials *credentials;

	if (self->credentials == NULL)
		return;
	credentials = hvp_credentials_load(self->api.settings, &error);
	if (credentials == NULL) {
		g_warning("the certificates stay as they were: %s", error->message);
		return;
	}
	hvp_credentials_replace(self->credentials, credentials);
	cut_off_revoked(self);
}

void hvp_server_free(HvpServer *self)
{
	if (self == NULL)
		return;
	g_ptr_array_unref(self->listeners);
	g_clear_pointer(&self->api.feed, hvp_feed_free);
	g_clear_pointer(&self->api.core, hvp_core_free);
	if (self->soup != NULL)
		soup_server_disconnect(self->soup);
	g_clear_object(&self->soup);
	hvp_credentials_free(self->credentials);
	g_hash_table_unref(self->remote);
	hvp_peers_free(self->connections);
	hvp_handshakes_free(self->handshakes);
	hvp_peers_free(self->api.uploads);
	g_free(self);
}
