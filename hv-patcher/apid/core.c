/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/core.h"

#include "apid/problem.h"

#define BUS_NAME "org.hvpatch1"
#define OBJECT_PATH "/org/hvpatch1"
#define INTERFACE "org.hvpatch1.Manager"
#define RECONNECT_SECONDS 1
#define BUS_FLAGS                                        \
	(G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT | \
	 G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION)

struct HvpCore {
	char *address;
	guint timeout_seconds;
	GDBusConnection *bus; /* NULL: none now */
	GCancellable *cancellable;
	guint retry_id, signal_id, owner_id;
	void (*wake)(void *data);
	void *wake_data;
};

typedef struct {
	const GVariantType *type;
	HvpCoreDone done;
	void *data;
} Call;

static void connect_bus(HvpCore *self);

static void wake_up(HvpCore *self)
{
	if (self->wake != NULL)
		self->wake(self->wake_data);
}

static void event_signalled(G_GNUC_UNUSED GDBusConnection *bus, G_GNUC_UNUSED const char *sender,
			    G_GNUC_UNUSED const char *path, G_GNUC_UNUSED const char *interface,
			    G_GNUC_UNUSED const char *signal, G_GNUC_UNUSED GVariant *parameters,
			    void *data)
{
	wake_up(data);
}

static void core_appeared(G_GNUC_UNUSED GDBusConnection *bus, G_GNUC_UNUSED const char *name,
			  G_GNUC_UNUSED const char *owner, void *data)
{
	wake_up(data);
}

static gboolean retry(void *data)
{
	HvpCore *self = data;

	self->retry_id = 0;
	connect_bus(self);
	return G_SOURCE_REMOVE;
}

static void drop_bus(HvpCore *self)
{
	if (self->bus == NULL)
		return;
	g_signal_handlers_disconnect_by_data(self->bus, self);
	g_dbus_connection_signal_unsubscribe(self->bus, self->signal_id);
	g_bus_unwatch_name(self->owner_id);
	g_clear_object(&self->bus);
}

static void bus_closed(G_GNUC_UNUSED GDBusConnection *bus, G_GNUC_UNUSED gboolean by_peer,
		       G_GNUC_UNUSED GError *why, void *data)
{
	HvpCore *self = data;

	g_warning("the bus is gone");
	drop_bus(self);
	self->retry_id = g_timeout_add_seconds(RECONNECT_SECONDS, retry, self);
}

/* @bus is taken; NULL: @why not. */
static void take_bus(HvpCore *self, GDBusConnection *bus, const GError *why)
{
	if (bus == NULL) {
		g_warning("the bus cannot be reached: %s", why->message);
		self->retry_id = g_timeout_add_seconds(RECONNECT_SECONDS, retry, self);
		return;
	}
	self->bus = bus;
	g_dbus_connection_set_exit_on_close(bus, FALSE);
	g_signal_connect(bus, "closed", G_CALLBACK(bus_closed), self);
	self->signal_id = g_dbus_connection_signal_subscribe(
		bus, BUS_NAME, INTERFACE, "Event", OBJECT_PATH, NULL, G_DBUS_SIGNAL_FLAGS_NONE,
		event_signalled, self, NULL);
	self->owner_id = g_bus_watch_name_on_connection(
		bus, BUS_NAME, G_BUS_NAME_WATCHER_FLAGS_NONE, core_appeared, NULL, self, NULL);
}

static void bus_connected(G_GNUC_UNUSED GObject *source, GAsyncResult *result, void *data)
{
	g_autoptr(GError) error = NULL;
	GDBusConnection *bus = g_dbus_connection_new_for_address_finish(result, &error);

	if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
		take_bus(data, bus, error);
}

static void connect_bus(HvpCore *self)
{
	g_dbus_connection_new_for_address(self->address, BUS_FLAGS, NULL, self->cancellable,
					  bus_connected, self);
}

/* Whoever connects first, for whom systemd has started us, is not to be told that it is away. */
static void connect_bus_now(HvpCore *self)
{
	g_autoptr(GError) error = NULL;
	GDBusConnection *bus = g_dbus_connection_new_for_address_sync(
		self->address, BUS_FLAGS, NULL, self->cancellable, &error);

	take_bus(self, bus, error);
}

HvpCore *hvp_core_new(const char *address, guint timeout_seconds)
{
	HvpCore *self = g_new0(HvpCore, 1);

	self->address = g_strdup(address);
	self->timeout_seconds = timeout_seconds;
	self->cancellable = g_cancellable_new();
	connect_bus_now(self);
	return self;
}

void hvp_core_free(HvpCore *self)
{
	if (self == NULL)
		return;
	g_cancellable_cancel(self->cancellable);
	g_clear_object(&self->cancellable);
	if (self->retry_id != 0)
		g_source_remove(self->retry_id);
	drop_bus(self);
	g_free(self->address);
	g_free(self);
}

static void answered(GObject *source, GAsyncResult *result, void *data)
{
	g_autofree Call *call = data;
	g_autoptr(GError) error = NULL;
	g_autoptr(GError) problem = NULL;
	g_autoptr(GVariant) answer = g_dbus_connection_call_with_unix_fd_list_finish(
		G_DBUS_CONNECTION(source), NULL, result, &error);

	if (answer == NULL)
		problem = hvp_problem_from_core(error);
	else if (!g_variant_is_of_type(answer, call->type))
		hvp_problem_set(&problem, HVP_PROBLEM_INTERNAL, "hvpatchd's answer is not valid");
	call->done(problem ? NULL : answer, problem, call->data);
}

static void call_method(HvpCore *self, const char *interface, const char *method,
			GVariant *arguments, const char *type, GUnixFDList *descriptors,
			HvpCoreDone done, void *data)
{
	g_autoptr(GVariant) sunk = g_variant_ref_sink(arguments);
	g_autoptr(GError) problem = NULL;
	Call *call;

	if (self->bus == NULL) {
		hvp_problem_set(&problem, HVP_PROBLEM_UNAVAILABLE, "hvpatchd is away");
		done(NULL, problem, data);
		return;
	}
	call = g_new0(Call, 1);
	*call = (Call){ .type = G_VARIANT_TYPE(type), .done = done, .data = data };
	/* A core that was stopped stays so: to start it is nobody's right who only asks. */
	g_dbus_connection_call_with_unix_fd_list(
		self->bus, BUS_NAME, OBJECT_PATH, interface, method, sunk, NULL,
		G_DBUS_CALL_FLAGS_NO_AUTO_START, (int)self->timeout_seconds * 1000, descriptors,
		NULL, answered, call);
}

void hvp_core_call(HvpCore *self, const char *method, GVariant *arguments, const char *type,
		   GUnixFDList *descriptors, HvpCoreDone done, void *data)
{
	call_method(self, INTERFACE, method, arguments, type, descriptors, done, data);
}

void hvp_core_get_properties(HvpCore *self, HvpCoreDone done, void *data)
{
	call_method(self, "org.freedesktop.DBus.Properties", "GetAll",
		    g_variant_new("(s)", INTERFACE), "(a{sv})", NULL, done, data);
}

void hvp_core_set_wake(HvpCore *self, void (*wake)(void *data), void *data)
{
	self->wake = wake;
	self->wake_data = data;
}
