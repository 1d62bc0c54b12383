/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hvpatchd, the core: patches the kernels of this host's VMs for whoever may ask for it. */
#include <gio/gio.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "daemon/manager.h"
#include "daemon/notify.h"
#include "vm/libvirt.h"

#define BUS_VARIABLE "HVPATCH_BUS"
#define SYSTEM_VARIABLE "DBUS_SYSTEM_BUS_ADDRESS"

typedef struct {
	/* Options. */
	char *config_path;
	char *state_folder;
	gboolean session;
	gboolean version;

	GMainLoop *loop;
	HvpDaemon *daemon;
	guint signals;
	int exit_status;
} Program;

static bool parse(Program *self, int argc, char **argv, GError **error)
{
	GOptionEntry entries[] = {
		{ "config", 0, 0, G_OPTION_ARG_FILENAME, &self->config_path,
		  "the configuration (" HVP_CONFIG_DEFAULT_PATH ")", "FILE" },
		{ "state", 0, 0, G_OPTION_ARG_FILENAME, &self->state_folder,
		  "where the state is kept, whatever the configuration says", "FOLDER" },
		{ "session", 0, 0, G_OPTION_ARG_NONE, &self->session,
		  "on the session's bus, without polkit; for tests", NULL },
		{ "version", 0, 0, G_OPTION_ARG_NONE, &self->version, "print it and end", NULL },
		{ NULL },
	};
	g_autoptr(GOptionContext) context = g_option_context_new(NULL);

	g_option_context_add_main_entries(context, entries, NULL);
	g_option_context_set_summary(context, "Patches the kernels of this host's VMs.");
	return g_option_context_parse(context, &argc, &argv, error) &&
	       (argc == 1 ||
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "there are no operands"));
}

static HvpConfig * override(const Program *self, HvpConfig *config)
{
	if (config != NULL && self->state_folder != NULL) {
		g_free(config->state_folder);
		config->state_folder = g_canonicalize_filename(self->state_folder, NULL);
	}
	return config;
}

static HvpConfig *read_file(const Program *self, GError **error)
{
	return override(self, hvp_config_read(self->config_path ? self->config_path
								: HVP_CONFIG_DEFAULT_PATH,
					      error));
}

/* A file that is not there is fine where nobody has named one. */
static HvpConfig *read_config(const Program *self, GError **error)
{
	g_autoptr(GError) reason = NULL;
	HvpConfig *config = read_file(self, &reason);

	if (config == NULL && self->config_path == NULL &&
	    g_error_matches(reason, HVP_ERROR, HVP_ERROR_NOT_FOUND))
		config = override(self, hvp_config_new());
	if (config == NULL)
		g_propagate_error(error, g_steal_pointer(&reason));
	return config;
}

/* polkit knows the names of connections of the system's bus, and of no other. */
static GDBusConnection *connect_bus(const Program *self, HvpAuthorityKind *ret_kind, GError **error)
{
	const char *address = secure_getenv(BUS_VARIABLE);
	const GDBusConnectionFlags flags = G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
					   G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION;

	*ret_kind = HVP_AUTHORITY_WITHOUT_POLKIT;
	if (self->session)
		return g_bus_get_sync(G_BUS_TYPE_SESSION, NULL, error);
	if (address == NULL) {
		*ret_kind = HVP_AUTHORITY_WITH_POLKIT;
		return g_bus_get_sync(G_BUS_TYPE_SYSTEM, NULL, error);
	}
	if (g_strcmp0(address, secure_getenv(SYSTEM_VARIABLE)) == 0)
		*ret_kind = HVP_AUTHORITY_WITH_POLKIT;
	return g_dbus_connection_new_for_address_sync(address, flags, NULL, NULL, error);
}

/* Where connect_bus looks for it, for people; the caller's. */
static char *describe_bus(const Program *self)
{
	const char *address = secure_getenv(BUS_VARIABLE);

	if (self->session)
		return g_strdup("the session's address");
	return address ? g_strdup(address)
		       : g_dbus_address_get_for_bus_sync(G_BUS_TYPE_SYSTEM, NULL, NULL);
}

static GDBusConnection *open_bus(const Program *self, HvpAuthorityKind *ret_kind, GError **error)
{
	g_autoptr(GError) reason = NULL;
	g_autofree char *place = describe_bus(self);
	GDBusConnection *connection = connect_bus(self, ret_kind, &reason);

	if (connection == NULL)
		hvp_error_set(error, HVP_ERROR_FAULT, "no connection to D-Bus at %s: %s",
			      place ? place : "the system's address", reason->message);
	return connection;
}

/* --- while it runs --- */

static void on_ended(gpointer data)
{
	g_main_loop_quit(((Program *)data)->loop);
}

/* The second one is for those who do not want to wait. */
static gboolean on_signal(gpointer data)
{
	Program *self = data;

	if (self->signals++ == 0)
		hvp_daemon_drain(self->daemon);
	else
		g_main_loop_quit(self->loop);
	return G_SOURCE_CONTINUE;
}

/* One that is bad, or not there, while another one holds, is not taken. */
static gboolean on_reload(gpointer data)
{
	Program *self = data;
	g_autoptr(GError) error = NULL;
	g_autofree char *status = NULL;
	HvpConfig *config;

	if (self->signals > 0)
		return G_SOURCE_CONTINUE;
	hvp_notify_send_reloading();
	config = read_file(self, &error);
	if (config != NULL && hvp_daemon_reload(self->daemon, config, &error))
		g_message("the configuration was read again");
	else
		g_warning("the configuration stays as it was: %s", error->message);
	if (error != NULL)
		status = g_strconcat("READY=1\nSTATUS=the configuration stays as it was: ",
				     error->message, NULL);
	else
		status = g_strconcat(
			"READY=1\nSTATUS=",
			hvp_daemon_is_ready(self->daemon) ? "ready" : "waits for libvirt", NULL);
	hvp_notify_send(status);
	return G_SOURCE_CONTINUE;
}

static void on_name(GDBusConnection *connection, const char *name, gpointer data)
{
	(void)connection;
	(void)name;
	(void)data;
	hvp_notify_send("READY=1");
}

static void on_no_name(GDBusConnection *connection, const char *name, gpointer data)
{
	Program *self = data;

	(void)connection;
	fprintf(stderr, "hvpatchd: the name %s is another's, or the bus is gone\n", name);
	self->exit_status = 1;
	g_main_loop_quit(self->loop);
}

static void run(Program *self, GDBusConnection *connection)
{
	guint name = g_bus_own_name_on_connection(connection, HVP_MANAGER_NAME,
						  G_BUS_NAME_OWNER_FLAGS_DO_NOT_QUEUE, on_name,
						  on_no_name, self, NULL);

	g_unix_signal_add(SIGTERM, on_signal, self);
	g_unix_signal_add(SIGINT, on_signal, self);
	g_unix_signal_add(SIGHUP, on_reload, self);
	hvp_notify_start_watchdog();
	g_main_loop_run(self->loop);
	g_bus_unown_name(name);
}

static bool serve(Program *self, GError **error)
{
	HvpConfig *config = read_config(self, error);
	g_autoptr(GDBusConnection) connection = NULL;
	HvpAuthorityKind kind;
	bool has_run;

	if (config == NULL)
		return false;
	connection = open_bus(self, &kind, error);
	if (connection == NULL) {
		hvp_config_free(config);
		return false;
	}
	g_dbus_connection_set_exit_on_close(connection, FALSE);
	self->loop = g_main_loop_new(NULL, FALSE);
	self->daemon = hvp_daemon_new(connection, config, kind, on_ended, self, error);
	has_run = self->daemon != NULL;
	if (has_run)
		run(self, connection);
	hvp_daemon_free(self->daemon);
	g_main_loop_unref(self->loop);
	return has_run;
}

int main(int argc, char **argv)
{
	Program self = { 0 };
	g_autoptr(GError) error = NULL;

	signal(SIGPIPE, SIG_IGN);
	hvp_libvirt_be_quiet();
	if (!parse(&self, argc, argv, &error)) {
		self.exit_status = 2;
	} else if (self.version) {
		printf("hvpatchd %s\n", HVP_VERSION);
	} else if (!serve(&self, &error)) {
		self.exit_status = hvp_error_exit_status(error);
	}
	if (error != NULL)
		fprintf(stderr, "hvpatchd: %s\n", error->message);
	g_free(self.config_path);
	g_free(self.state_folder);
	/* Threads in libvirt's hands may be at work still with what exit() takes down. */
	fflush(NULL);
	_exit(self.exit_status);
}
