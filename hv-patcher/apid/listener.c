/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/listener.h"

#include <errno.h>
#include <gio/gunixsocketaddress.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 128
#define RETRY_MSEC 250
/* sun_path without its NUL. */
#define MAX_PATH_BYTES 107
/* At one go, so that clients who have come are not kept waiting by those who come. */
#define TAKE_AT_ONCE 16

struct HvpListener {
	GSocket *socket;
	char *path; /* of a file of ours; NULL: none */
	GSource *source;
	guint retry_id;
	HvpListenerTake take;
	void *data;
	guint64 *failures;
};

static HvpListener *new_listener(GSocket *socket)
{
	HvpListener *self = g_new0(HvpListener, 1);

	g_socket_set_blocking(socket, FALSE);
	self->socket = g_object_ref(socket);
	return self;
}

/* Errors of GIO as ours. */
static bool fail(GError **error, const char *what, const GError *why)
{
	HvpErrorCode code = HVP_ERROR_FAULT;

	if (g_error_matches(why, G_IO_ERROR, G_IO_ERROR_ADDRESS_IN_USE))
		code = HVP_ERROR_BUSY;
	else if (g_error_matches(why, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED))
		code = HVP_ERROR_PERMISSION;
	else if (g_error_matches(why, G_IO_ERROR, G_IO_ERROR_NOT_FOUND))
		code = HVP_ERROR_NOT_FOUND;
	return hvp_error_set(error, code, "%s: %s", what, why->message);
}

static HvpListener *listen_at(GSocketAddress *address, const char *what, GError **error)
{
	g_autoptr(GError) failed = NULL;
	g_autoptr(GSocket)
		socket = g_socket_new(g_socket_address_get_family(address), G_SOCKET_TYPE_STREAM,
				      G_SOCKET_PROTOCOL_DEFAULT, &failed);

	if (socket != NULL)
		g_socket_set_listen_backlog(socket, BACKLOG);
	if (socket == NULL || !g_socket_bind(socket, address, TRUE, &failed) ||
	    !g_socket_listen(socket, &failed)) {
		fail(error, what, failed);
		return NULL;
	}
	return new_listener(socket);
}

/* A file that a process which is gone left; nothing else is put away. */
static bool remove_stale(GSocketAddress *address, const char *path, GError **error)
{
	struct stat status;
	g_autoptr(GSocket) probe = NULL;
	g_autoptr(GError) failed = NULL;

	if (lstat(path, &status) != 0)
		return true;
	if (!S_ISSOCK(status.st_mode))
		return hvp_error_set(error, HVP_ERROR_BUSY, "%s is no socket", path);
	probe = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_DEFAULT,
			     NULL);
	if (probe == NULL || g_socket_connect(probe, address, NULL, &failed) ||
	    !g_error_matches(failed, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED))
		return hvp_error_set(error, HVP_ERROR_BUSY, "%s: somebody listens there", path);
	if (unlink(path) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", path);
	return true;
}

static bool set_access(const HvpSettings *settings, GError **error)
{
	const struct group *group = settings->socket_group ? getgrnam(settings->socket_group)
							   : NULL;

	if (settings->socket_group != NULL && group == NULL)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND, "there is no group %s",
				     settings->socket_group);
	if (group != NULL && lchown(settings->socket, (uid_t)-1, group->gr_gid) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", settings->socket);
	if (chmod(settings->socket, settings->socket_mode) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "%s", settings->socket);
	return true;
}

HvpListener *hvp_listener_new_unix(const HvpSettings *settings, GError **error)
{
	g_autoptr(GSocketAddress) address = NULL;
	g_autoptr(HvpListener) self = NULL;
	mode_t mask;

	if (strlen(settings->socket) > MAX_PATH_BYTES) {
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: too long for a socket",
			      settings->socket);
		return NULL;
	}
	address = g_unix_socket_address_new(settings->socket);
	if (!remove_stale(address, settings->socket, error))
		return NULL;
	/* Nobody's, until its mode is what it should be. */
	mask = umask(0777);
	self = listen_at(address, settings->socket, error);
	umask(mask);
	if (self == NULL)
		return NULL;
	self->path = g_strdup(settings->socket);
	return set_access(settings, error) ? g_steal_pointer(&self) : NULL;
}

HvpListener *hvp_listener_new_tcp(const HvpSettings *settings, GError **error)
{
	g_autoptr(GSocketAddress) address = g_inet_socket_address_new_from_string(
		settings->tcp_host, settings->tcp_port);

	return listen_at(address, settings->tcp_host, error);
}

HvpListener *hvp_listener_new_inherited(int fd, GError **error)
{
	g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, NULL);
	int is_listening = 0;

	if (socket == NULL || g_socket_get_socket_type(socket) != G_SOCKET_TYPE_STREAM ||
	    !g_socket_get_option(socket, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, NULL) ||
	    !is_listening) {
		hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "descriptor %d takes no connections",
			      fd);
		return NULL;
	}
	return new_listener(socket);
}

bool hvp_listener_is_tcp(const HvpListener *self)
{
	/* Whatever is not of this host counts as a network. */
	return g_socket_get_family(self->socket) != G_SOCKET_FAMILY_UNIX;
}

guint16 hvp_listener_get_port(const HvpListener *self)
{
	g_autoptr(GSocketAddress) address = g_socket_get_local_address(self->socket, NULL);

	return G_IS_INET_SOCKET_ADDRESS(address)
		       ? g_inet_socket_address_get_port(G_INET_SOCKET_ADDRESS(address))
		       : 0;
}

static void watch(HvpListener *self);

static gboolean retry(void *data)
{
	HvpListener *self = data;

	self->retry_id = 0;
	watch(self);
	return G_SOURCE_REMOVE;
}

/* The connection stays in the queue, and the socket readable: looking on would be spinning. */
static void pause_taking(HvpListener *self, const GError *why)
{
	g_warning("a connection cannot be taken: %s", why->message);
	++*self->failures;
	g_clear_pointer(&self->source, g_source_unref);
	self->retry_id = g_timeout_add(RETRY_MSEC, retry, self);
}

static gboolean socket_ready(G_GNUC_UNUSED GSocket *socket, G_GNUC_UNUSED GIOCondition condition,
			     void *data)
{
	HvpListener *self = data;

	for (guint i = 0; i < TAKE_AT_ONCE; i++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(GSocket) client = g_socket_accept(self->socket, NULL, &error);

		if (client == NULL && g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
			return G_SOURCE_CONTINUE;
		if (client == NULL) {
			pause_taking(self, error);
			return G_SOURCE_REMOVE;
		}
		g_socket_set_blocking(client, FALSE);
		self->take(self, client, self->data);
	}
	return G_SOURCE_CONTINUE;
}

static void watch(HvpListener *self)
{
	self->source = g_socket_create_source(self->socket, G_IO_IN, NULL);
	g_source_set_callback(self->source, G_SOURCE_FUNC(socket_ready), self, NULL);
	g_source_attach(self->source, NULL);
}

void hvp_listener_start(HvpListener *self, HvpListenerTake take, void *data, guint64 *failures)
{
	self->take = take;
	self->data = data;
	self->failures = failures;
	watch(self);
}

void hvp_listener_free(HvpListener *self)
{
	if (self == NULL)
		return;
	if (self->source != NULL)
		g_source_destroy(self->source);
	g_clear_pointer(&self->source, g_source_unref);
	if (self->retry_id != 0)
		g_source_remove(self->retry_id);
	g_clear_object(&self->socket);
	if (self->path != NULL)
		unlink(self->path);
	g_free(self->path);
	g_free(self);
}
