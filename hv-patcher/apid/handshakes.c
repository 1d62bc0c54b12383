/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/handshakes.h"

#include <string.h>

#define MAX_ALL 32
#define MAX_EACH 8
#define NETWORK_BYTES 8
/*
 * GLib has ten threads for all of them, and one more every 0.1 s while some wait: the newest is
 * given it, so that it does not wait behind those that are silent.
 */
#define SERIALS 1024

struct HvpHandshakes {
	GQueue queue; /* Handshake, the oldest first; none that was cut off */
	int serial;
	guint seconds;
	HvpHandshakesDone done;
	void *data;
};

typedef struct {
	HvpHandshakes *handshakes;
	GSocket *socket;
	GTlsConnection *tls;
	char *source;
	GCancellable *cancellable;
	guint deadline_id;
} Handshake;

HvpHandshakes *hvp_handshakes_new(guint seconds, HvpHandshakesDone done, void *data)
{
	HvpHandshakes *self = g_new0(HvpHandshakes, 1);

	g_queue_init(&self->queue);
	self->seconds = seconds;
	self->done = done;
	self->data = data;
	return self;
}

static void free_handshake(Handshake *handshake)
{
	g_source_remove(handshake->deadline_id);
	g_clear_object(&handshake->socket);
	g_clear_object(&handshake->tls);
	g_clear_object(&handshake->cancellable);
	g_free(handshake->source);
	g_free(handshake);
}

void hvp_handshakes_free(HvpHandshakes *self)
{
	if (self == NULL)
		return;
	g_queue_clear(&self->queue);
	g_free(self);
}

static guint8 *copy_network(const guint8 *bytes)
{
	guint8 *network = g_malloc0(16);

	memcpy(network, bytes, NETWORK_BYTES);
	return network;
}

char *hvp_handshakes_source(GInetAddress *address)
{
	static const guint8 mapped[] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	const guint8 *bytes = g_inet_address_to_bytes(address);
	g_autofree guint8 *network = NULL;
	g_autoptr(GInetAddress) source = NULL;

	if (g_inet_address_get_family(address) != G_SOCKET_FAMILY_IPV6)
		return g_inet_address_to_string(address);
	if (memcmp(bytes, mapped, sizeof mapped) == 0) {
		source = g_inet_address_new_from_bytes(bytes + sizeof mapped, G_SOCKET_FAMILY_IPV4);
	} else {
		network = copy_network(bytes);
		source = g_inet_address_new_from_bytes(network, G_SOCKET_FAMILY_IPV6);
	}
	return g_inet_address_to_string(source);
}

static char *source_of(GSocket *socket)
{
	g_autoptr(GSocketAddress) address = g_socket_get_remote_address(socket, NULL);

	return G_IS_INET_SOCKET_ADDRESS(address)
		       ? hvp_handshakes_source(
				 g_inet_socket_address_get_address(G_INET_SOCKET_ADDRESS(address)))
		       : g_strdup("");
}

static guint count_of(const HvpHandshakes *self, const char *source)
{
	guint count = 0;

	for (GList *link = self->queue.head; link != NULL; link = link->next)
		count += strcmp(((Handshake *)link->data)->source, source) == 0;
	return count;
}

static Handshake *oldest_of(const HvpHandshakes *self, const char *source)
{
	GList *link = self->queue.head;

	while (strcmp(((Handshake *)link->data)->source, source) != 0)
		link = link->next;
	return link->data;
}

static Handshake *oldest_of_most(const HvpHandshakes *self)
{
	Handshake *found = NULL;
	guint most = 0;

	for (GList *link = self->queue.head; link != NULL; link = link->next) {
		guint count = count_of(self, ((Handshake *)link->data)->source);

		if (count > most)
			found = link->data;
		most = MAX(most, count);
	}
	return found;
}

static void cut_off(Handshake *handshake)
{
	g_queue_remove(&handshake->handshakes->queue, handshake);
	g_cancellable_cancel(handshake->cancellable);
}

static void make_room(HvpHandshakes *self, const char *source)
{
	if (count_of(self, source) >= MAX_EACH)
		cut_off(oldest_of(self, source));
	else if (self->queue.length >= MAX_ALL)
		cut_off(oldest_of_most(self));
}

static gboolean deadline_passed(void *data)
{
	cut_off(data);
	return G_SOURCE_CONTINUE;
}

static void shook_hands(GObject *source, GAsyncResult *result, void *data)
{
	Handshake *handshake = data;
	HvpHandshakes *self = handshake->handshakes;
	g_autoptr(GError) error = NULL;

	g_tls_connection_handshake_finish(G_TLS_CONNECTION(source), result, &error);
	g_queue_remove(&self->queue, handshake);
	self->done(handshake->socket, handshake->tls, error, self->data);
	free_handshake(handshake);
}

void hvp_handshakes_begin(HvpHandshakes *self, GSocket *socket, GTlsConnection *tls)
{
	Handshake *handshake = g_new0(Handshake, 1);

	handshake->handshakes = self;
	handshake->socket = g_object_ref(socket);
	handshake->tls = g_object_ref(tls);
	handshake->source = source_of(socket);
	handshake->cancellable = g_cancellable_new();
	handshake->deadline_id = g_timeout_add_seconds(self->seconds, deadline_passed, handshake);
	make_room(self, handshake->source);
	g_queue_push_tail(&self->queue, handshake);
	self->serial = (self->serial + 1) % SERIALS;
	g_tls_connection_handshake_async(tls, G_PRIORITY_DEFAULT - self->serial,
					 handshake->cancellable, shook_hands, handshake);
}
