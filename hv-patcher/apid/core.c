/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/core.h"

#include "apid/problem.h"
#include "apid/turns.h"

#define BUS_NAME "org.hvpatch1"
#define OBJECT_PATH "/org/hvpatch1"
#define INTERFACE "org.hvpatch1.Manager"
#define RECONNECT_SECONDS 1
#define AWAY "hvpatchd is away"
/*
 * The system's bus takes 128 calls of a connection that have no answer yet (its limit
 * max_replies_per_connection), and refuses all beyond, whoever they are for.
 */
#define MAX_CALLS 100
#define MAX_CALLS_EACH 25
#define MAX_WAITING 1024
#define MAX_WAITING_EACH 256
#define BUS_FLAGS                                        \
	(G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT | \
	 G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION)

struct HvpCore {
	char *address;
	guint timeout_seconds;
	GDBusConnection *bus; /* NULL: none now */
	GCancellable *cancellable;
	HvpTurns *turns; /* of Call */
	guint retry_id, signal_id, owner_id;
	void (*wake)(void *data);
	void *wake_data;
};

/* Waits for its turn, then for its answer. */
typedef struct {
	HvpCore *core;
	char *principal;
	const char *interface, *method;
	GVariant *arguments;
	GUnixFDList *descriptors; /* NULL: none */
	const GVariantType *type;
	HvpCoreDone done; /* NULL: has been called */
	void *data;
	guint deadline_id;
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

static void free_call(Call *call)
{
	if (call->deadline_id != 0)
		g_source_remove(call->deadline_id);
	g_variant_unref(call->arguments);
	g_clear_object(&call->descriptors);
	g_free(call->principal);
	g_free(call);
}

static void tell(Call *call, GVariant *answer, const GError *problem)
{
	HvpCoreDone done = call->done;

	call->done = NULL;
	if (done != NULL)
		done(problem ? NULL : answer, problem, call->data);
}

/* Ends a call that is not on the bus. */
static void fail(Call *call, HvpProblemCode code, const char *detail)
{
	g_autoptr(GError) problem = NULL;

	hvp_problem_set(&problem, code, "%s", detail);
	tell(call, NULL, problem);
	free_call(call);
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

static void fail_waiting(HvpCore *self)
{
	Call *call;

	while ((call = hvp_turns_drop(self->turns)) != NULL)
		fail(call, HVP_PROBLEM_UNAVAILABLE, AWAY);
}

static void bus_closed(G_GNUC_UNUSED GDBusConnection *bus, G_GNUC_UNUSED gboolean by_peer,
		       G_GNUC_UNUSED GError *why, void *data)
{
	HvpCore *self = data;

	g_warning("the bus is gone");
	drop_bus(self);
	fail_waiting(self);
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
	static const HvpTurnsLimits limits = { MAX_CALLS, MAX_CALLS_EACH, MAX_WAITING,
					       MAX_WAITING_EACH };
	HvpCore *self = g_new0(HvpCore, 1);

	self->address = g_strdup(address);
	self->timeout_seconds = timeout_seconds;
	self->cancellable = g_cancellable_new();
	self->turns = hvp_turns_new(&limits);
	connect_bus_now(self);
	return self;
}

void hvp_core_free(HvpCore *self)
{
	Call *call;

	if (self == NULL)
		return;
	while ((call = hvp_turns_drop(self->turns)) != NULL)
		free_call(call);
	g_cancellable_cancel(self->cancellable);
	g_clear_object(&self->cancellable);
	if (self->retry_id != 0)
		g_source_remove(self->retry_id);
	drop_bus(self);
	hvp_turns_free(self->turns);
	g_free(self->address);
	g_free(self);
}

static void start_calls(HvpCore *self);

static void answered(GObject *source, GAsyncResult *result, void *data)
{
	Call *call = data;
	HvpCore *self = call->core;
	g_autoptr(GError) error = NULL;
	g_autoptr(GError) problem = NULL;
	g_autoptr(GVariant) answer = g_dbus_connection_call_with_unix_fd_list_finish(
		G_DBUS_CONNECTION(source), NULL, result, &error);

	if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
		/* There is no core any more. */
		free_call(call);
		return;
	}
	hvp_turns_end(self->turns, call->principal);
	if (answer == NULL)
		problem = hvp_problem_from_core(error);
	else if (!g_variant_is_of_type(answer, call->type))
		hvp_problem_set(&problem, HVP_PROBLEM_INTERNAL, "hvpatchd's answer is not valid");
	tell(call, answer, problem);
	free_call(call);
	start_calls(self);
}

static void start_calls(HvpCore *self)
{
	Call *call;

	/* A core that was stopped stays so: to start it is nobody's right who only asks. */
	while (self->bus != NULL && (call = hvp_turns_next(self->turns)) != NULL)
		g_dbus_connection_call_with_unix_fd_list(
			self->bus, BUS_NAME, OBJECT_PATH, call->interface, call->method,
			call->arguments, NULL, G_DBUS_CALL_FLAGS_NO_AUTO_START, G_MAXINT,
			call->descriptors, self->cancellable, answered, call);
}

/* One that is on the bus keeps its turn until it is answered: as long as the bus counts it. */
static gboolean deadline_passed(void *data)
{
	Call *call = data;
	bool is_waiting = hvp_turns_leave(call->core->turns, call);
	g_autoptr(GError) problem = NULL;

	call->deadline_id = 0;
	hvp_problem_set(&problem, HVP_PROBLEM_TIMED_OUT, "hvpatchd does not answer");
	tell(call, NULL, problem);
	if (is_waiting)
		free_call(call);
	return G_SOURCE_REMOVE;
}

/* Takes @call. */
static void begin(HvpCore *self, Call *call)
{
	if (self->bus == NULL) {
		fail(call, HVP_PROBLEM_UNAVAILABLE, AWAY);
		return;
	}
	if (!hvp_turns_join(self->turns, call->principal, call)) {
		fail(call, HVP_PROBLEM_UNAVAILABLE, "too many requests wait for hvpatchd");
		return;
	}
	call->deadline_id = g_timeout_add(self->timeout_seconds * 1000, deadline_passed, call);
	start_calls(self);
}

void hvp_core_call(HvpCore *self, const char *method, GVariant *arguments, const char *type,
		   GUnixFDList *descriptors, HvpCoreDone done, void *data)
{
	Call *call = g_new0(Call, 1);

	*call = (Call){ .core = self,
			.interface = INTERFACE,
			.method = method,
			.arguments = g_variant_ref_sink(arguments),
			.descriptors = descriptors ? g_object_ref(descriptors) : NULL,
			.type = G_VARIANT_TYPE(type),
			.done = done,
			.data = data };
	g_variant_get_child(arguments, 0, "s", &call->principal);
	begin(self, call);
}

void hvp_core_get_properties(HvpCore *self, const char *principal, HvpCoreDone done, void *data)
{
	Call *call = g_new0(Call, 1);

	*call = (Call){ .core = self,
			.principal = g_strdup(principal),
			.interface = "org.freedesktop.DBus.Properties",
			.method = "GetAll",
			.arguments = g_variant_ref_sink(g_variant_new("(s)", INTERFACE)),
			.type = G_VARIANT_TYPE("(a{sv})"),
			.done = done,
			.data = data };
	begin(self, call);
}

void hvp_core_set_wake(HvpCore *self, void (*wake)(void *data), void *data)
{
	self->wake = wake;
	self->wake_data = data;
}
