/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/listeners.h"

#include "daemon/manager.h"

#define MAX_LISTENERS 64U

struct HvpListeners {
	GDBusConnection *connection;
	HvpEvents *events;
	HvpAuthority *authority;
	GHashTable *listeners; /* names of connections: Listener */
	guint64 added;	       /* ever */
};

typedef struct {
	HvpCaller who; /* a copy, which does not count as a call of his; callers: NULL */
	guint64 number;
	guint watch;
} Listener;

/* Whether one may listen still: that one, not whoever has come to its name since. */
typedef struct {
	HvpListeners *listeners;
	char *name;
	guint64 number;
} Question;

static void listener_free(gpointer data)
{
	Listener *listener = data;

	g_bus_unwatch_name(listener->watch);
	g_free(listener->who.sender);
	g_free(listener->who.principal);
	g_free(listener);
}

static void on_vanished(GDBusConnection *connection, const char *name, gpointer data)
{
	HvpListeners *self = data;

	(void)connection;
	g_hash_table_remove(self->listeners, name);
}

static void on_event(const HvpEvent *event, gpointer data)
{
	HvpListeners *self = data;
	GHashTableIter iter;
	gpointer name;

	g_hash_table_iter_init(&iter, self->listeners);
	while (g_hash_table_iter_next(&iter, &name, NULL))
		(void)g_dbus_connection_emit_signal(
			self->connection, name, HVP_MANAGER_PATH, HVP_MANAGER_INTERFACE, "Event",
			g_variant_new("(ts)", event->seq, event->text), NULL);
}

/* --- whether they still may --- */

static void on_may_still(HvpAuthorityVerdict verdict, gpointer data)
{
	Question *question = data;
	const Listener *listener = g_hash_table_lookup(question->listeners->listeners,
						       question->name);

	if (verdict != HVP_AUTHORITY_YES && listener != NULL &&
	    listener->number == question->number)
		g_hash_table_remove(question->listeners->listeners, question->name);
	g_free(question->name);
	g_free(question);
}

static void ask_again(HvpListeners *self, const char *name)
{
	const Listener *listener = g_hash_table_lookup(self->listeners, name);
	Question *question;

	/* Who speaks for others asks for each of them. */
	if (listener == NULL || listener->who.is_api)
		return;
	question = g_new0(Question, 1);
	question->listeners = self;
	question->name = g_strdup(name);
	question->number = listener->number;
	hvp_authority_ask_view_all(self->authority, &listener->who, on_may_still, question);
}

/* An answer that comes at once may take a listener away. */
static void ask_all_again(HvpListeners *self)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	GHashTableIter iter;
	gpointer name;

	g_hash_table_iter_init(&iter, self->listeners);
	while (g_hash_table_iter_next(&iter, &name, NULL))
		g_ptr_array_add(names, g_strdup(name));
	for (guint i = 0; i < names->len; i++)
		ask_again(self, g_ptr_array_index(names, i));
}

static gboolean is_of_api(gpointer name, gpointer listener, gpointer data)
{
	(void)name;
	(void)data;
	return ((const Listener *)listener)->who.is_api;
}

void hvp_listeners_reload(HvpListeners *self)
{
	/* Which user that is may have changed; it asks for what it missed at the next event. */
	g_hash_table_foreach_remove(self->listeners, is_of_api, NULL);
	ask_all_again(self);
}

static void on_changed(gpointer data)
{
	ask_all_again(data);
}

/* --- the beginning and the end --- */

HvpListeners *hvp_listeners_new(GDBusConnection *connection, HvpEvents *events,
				HvpAuthority *authority)
{
	HvpListeners *self = g_new0(HvpListeners, 1);

	self->connection = g_object_ref(connection);
	self->events = events;
	self->authority = authority;
	self->listeners = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, listener_free);
	hvp_events_set_listener(events, on_event, self);
	hvp_authority_set_listener(authority, on_changed, self);
	return self;
}

void hvp_listeners_free(HvpListeners *self)
{
	if (self == NULL)
		return;
	hvp_events_set_listener(self->events, NULL, NULL);
	hvp_authority_set_listener(self->authority, NULL, NULL);
	g_hash_table_unref(self->listeners);
	g_object_unref(self->connection);
	g_free(self);
}

void hvp_listeners_add(HvpListeners *self, const HvpCaller *caller)
{
	Listener *listener;

	if (g_hash_table_contains(self->listeners, caller->sender) ||
	    g_hash_table_size(self->listeners) >= MAX_LISTENERS)
		return;
	listener = g_new0(Listener, 1);
	listener->number = ++self->added;
	listener->who = (HvpCaller){ .sender = g_strdup(caller->sender),
				     .uid = caller->uid,
				     .principal = g_strdup(caller->principal),
				     .is_direct = caller->is_direct,
				     .is_api = caller->is_api };
	listener->watch = g_bus_watch_name_on_connection(self->connection, caller->sender,
							 G_BUS_NAME_WATCHER_FLAGS_NONE, NULL,
							 on_vanished, self, NULL);
	g_hash_table_insert(self->listeners, listener->who.sender, listener);
}
