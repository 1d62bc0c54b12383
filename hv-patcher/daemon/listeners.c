/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/listeners.h"

#include "daemon/manager.h"

#define MAX_LISTENERS 64U

struct HvpListeners {
	GDBusConnection *connection;
	HvpEvents *events;
	GHashTable *names; /* of connections: the number of their watch */
};

static void on_vanished(GDBusConnection *connection, const char *name, gpointer data)
{
	HvpListeners *self = data;
	guint watch = GPOINTER_TO_UINT(g_hash_table_lookup(self->names, name));

	(void)connection;
	if (watch == 0)
		return;
	g_bus_unwatch_name(watch);
	g_hash_table_remove(self->names, name);
}

static void on_event(const HvpEvent *event, gpointer data)
{
	HvpListeners *self = data;
	GHashTableIter iter;
	gpointer name;

	g_hash_table_iter_init(&iter, self->names);
	while (g_hash_table_iter_next(&iter, &name, NULL))
		(void)g_dbus_connection_emit_signal(
			self->connection, name, HVP_MANAGER_PATH, HVP_MANAGER_INTERFACE, "Event",
			g_variant_new("(ts)", event->seq, event->text), NULL);
}

HvpListeners *hvp_listeners_new(GDBusConnection *connection, HvpEvents *events)
{
	HvpListeners *self = g_new0(HvpListeners, 1);

	self->connection = g_object_ref(connection);
	self->events = events;
	self->names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	hvp_events_set_listener(events, on_event, self);
	return self;
}

void hvp_listeners_free(HvpListeners *self)
{
	GHashTableIter iter;
	gpointer watch;

	if (self == NULL)
		return;
	hvp_events_set_listener(self->events, NULL, NULL);
	g_hash_table_iter_init(&iter, self->names);
	while (g_hash_table_iter_next(&iter, NULL, &watch))
		g_bus_unwatch_name(GPOINTER_TO_UINT(watch));
	g_hash_table_unref(self->names);
	g_object_unref(self->connection);
	g_free(self);
}

void hvp_listeners_add(HvpListeners *self, const char *name)
{
	guint watch;

	if (g_hash_table_contains(self->names, name) ||
	    g_hash_table_size(self->names) >= MAX_LISTENERS)
		return;
	watch = g_bus_watch_name_on_connection(self->connection, name,
					       G_BUS_NAME_WATCHER_FLAGS_NONE, NULL, on_vanished,
					       self, NULL);
	g_hash_table_insert(self->names, g_strdup(name), GUINT_TO_POINTER(watch));
}
