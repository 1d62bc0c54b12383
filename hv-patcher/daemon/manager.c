/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/manager.h"

#include <gio/gunixfdlist.h>
#include <string.h>

#include "daemon/hvp-manager-interface.h"
#include "daemon/methods.h"

#define PROPERTIES "org.freedesktop.DBus.Properties"

struct HvpManager {
	GDBusConnection *connection;
	const HvpCallContext *context;
	guint registration;
	bool is_ready;
};

/* Descriptors that nobody asked for would be held until the call is answered. */
static bool has_strange_files(GDBusMethodInvocation *invocation, const char *method)
{
	GDBusMessage *message = g_dbus_method_invocation_get_message(invocation);
	GUnixFDList *files = g_dbus_message_get_unix_fd_list(message);
	int wanted = strcmp(method, "UploadPatch") == 0 ? 1 : 0;

	return files != NULL && g_unix_fd_list_get_length(files) > wanted;
}

static void on_method(GDBusConnection *connection, const char *sender, const char *path,
		      const char *interface, const char *method, GVariant *parameters,
		      GDBusMethodInvocation *invocation, gpointer data)
{
	HvpManager *self = data;
	HvpCallStep step = hvp_methods_find(method);

	(void)connection;
	(void)sender;
	(void)path;
	(void)interface;
	(void)parameters;
	if (has_strange_files(invocation, method))
		g_dbus_method_invocation_return_error(invocation, G_DBUS_ERROR,
						      G_DBUS_ERROR_INVALID_ARGS,
						      "%s takes no such files", method);
	else if (step != NULL)
		hvp_call_begin(self->context, invocation, step);
	else
		g_dbus_method_invocation_return_error(invocation, G_DBUS_ERROR,
						      G_DBUS_ERROR_UNKNOWN_METHOD, "%s", method);
}

static GVariant *on_get_property(GDBusConnection *connection, const char *sender, const char *path,
				 const char *interface, const char *property, GError **error,
				 gpointer data)
{
	const HvpManager *self = data;

	(void)connection;
	(void)sender;
	(void)path;
	(void)interface;
	(void)error;
	if (strcmp(property, "Ready") == 0)
		return g_variant_new_boolean(self->is_ready);
	return g_variant_new_string(HVP_VERSION);
}

HvpManager *hvp_manager_new(GDBusConnection *connection, const HvpCallContext *context,
			    GError **error)
{
	static const GDBusInterfaceVTable table = { .method_call = on_method,
						    .get_property = on_get_property };
	HvpManager *self = g_new0(HvpManager, 1);
	g_autoptr(GError) reason = NULL;

	self->connection = g_object_ref(connection);
	self->context = context;
	self->registration = g_dbus_connection_register_object(connection, HVP_MANAGER_PATH,
							       hvp_dbus_manager_interface_info(),
							       &table, self, NULL, &reason);
	if (self->registration == 0) {
		hvp_error_set(error, HVP_ERROR_INTERNAL, "%s", reason->message);
		hvp_manager_free(self);
		return NULL;
	}
	return self;
}

void hvp_manager_free(HvpManager *self)
{
	if (self == NULL)
		return;
	if (self->registration != 0)
		g_dbus_connection_unregister_object(self->connection, self->registration);
	g_object_unref(self->connection);
	g_free(self);
}

void hvp_manager_set_ready(HvpManager *self, bool is_ready)
{
	GVariantBuilder changed;

	if (self->is_ready == is_ready)
		return;
	self->is_ready = is_ready;
	g_variant_builder_init(&changed, G_VARIANT_TYPE("a{sv}"));
	g_variant_builder_add(&changed, "{sv}", "Ready", g_variant_new_boolean(is_ready));
	(void)g_dbus_connection_emit_signal(
		self->connection, NULL, HVP_MANAGER_PATH, PROPERTIES, "PropertiesChanged",
		g_variant_new("(sa{sv}as)", HVP_MANAGER_INTERFACE, &changed, NULL), NULL);
}
