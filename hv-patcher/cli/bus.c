/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/bus.h"

#include <gio/gunixfdlist.h>
#include <stdlib.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/output.h"

#define NAME "org.hvpatch1"
#define PATH "/org/hvpatch1"
#define INTERFACE "org.hvpatch1.Manager"
#define ERROR_PREFIX "org.hvpatch1.Error."
#define BUS_VARIABLE "HVPATCH_BUS"
#define OWNER_TIMEOUT_MSEC 2000
#define CALL_TIMEOUT_MSEC (30 * 1000)
#define FILE_TIMEOUT_MSEC (120 * 1000)
#define CALLER_HIMSELF ""

struct HvpBus {
	GDBusConnection *connection;
	bool gone;
};

static GDBusConnection *connect_bus(void)
{
	const char *address = secure_getenv(BUS_VARIABLE);

	if (address == NULL)
		return g_bus_get_sync(G_BUS_TYPE_SYSTEM, NULL, NULL);
	return g_dbus_connection_new_for_address_sync(
		address,
		G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
			G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
		NULL, NULL, NULL);
}

static bool has_owner(GDBusConnection *connection)
{
	g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
		connection, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
		"NameHasOwner", g_variant_new("(s)", NAME), G_VARIANT_TYPE("(b)"),
		G_DBUS_CALL_FLAGS_NO_AUTO_START, OWNER_TIMEOUT_MSEC, NULL, NULL);
	gboolean owned = FALSE;

	if (reply != NULL)
		g_variant_get(reply, "(b)", &owned);
	return owned;
}

HvpBus *hvp_bus_open(void)
{
	g_autoptr(HvpBus) self = g_new0(HvpBus, 1);

	self->connection = connect_bus();
	if (self->connection == NULL)
		return NULL;
	/* A bus that closes is no reason to end at once: the command has something to say then. */
	g_dbus_connection_set_exit_on_close(self->connection, FALSE);
	return has_owner(self->connection) ? g_steal_pointer(&self) : NULL;
}

void hvp_bus_free(HvpBus *self)
{
	if (self == NULL)
		return;
	g_clear_object(&self->connection);
	g_free(self);
}

bool hvp_bus_is_gone(const HvpBus *self)
{
	return self->gone;
}

static bool means_gone(const GError *reason)
{
	static const int codes[] = { G_DBUS_ERROR_SERVICE_UNKNOWN, G_DBUS_ERROR_NAME_HAS_NO_OWNER,
				     G_DBUS_ERROR_NO_REPLY, G_DBUS_ERROR_DISCONNECTED };

	for (guint i = 0; i < G_N_ELEMENTS(codes); i++)
		if (g_error_matches(reason, G_DBUS_ERROR, codes[i]))
			return true;
	return g_error_matches(reason, G_IO_ERROR, G_IO_ERROR_CLOSED);
}

/* The message of an error of the daemon's is a problem document; @code is what it is without. */
static bool convert_problem(const char *code, const char *message, GError **error)
{
	g_autoptr(JsonNode) problem = hvp_answer_parse(message, "error", NULL);

	if (problem != NULL && JSON_NODE_HOLDS_OBJECT(problem))
		return hvp_answer_fail(json_node_get_object(problem), error);
	return hvp_error_set(error, hvp_answer_code(code), "%s", message);
}

static bool convert_error(HvpBus *self, const char *method, GError *reason, GError **error)
{
	g_autofree char *name = g_dbus_error_get_remote_error(reason);

	g_dbus_error_strip_remote_error(reason);
	if (name != NULL && g_str_has_prefix(name, ERROR_PREFIX))
		return convert_problem(name + strlen(ERROR_PREFIX), reason->message, error);
	self->gone = means_gone(reason);
	if (self->gone)
		return hvp_error_set(error, HVP_ERROR_BUSY, "hvpatchd does not answer: %s",
				     reason->message);
	if (g_error_matches(reason, G_DBUS_ERROR, G_DBUS_ERROR_ACCESS_DENIED))
		return hvp_error_set(error, HVP_ERROR_PERMISSION, "%s: %s", method,
				     reason->message);
	if (g_error_matches(reason, G_DBUS_ERROR, G_DBUS_ERROR_TIMEOUT) ||
	    g_error_matches(reason, G_IO_ERROR, G_IO_ERROR_TIMED_OUT))
		return hvp_error_set(error, HVP_ERROR_TIMED_OUT, "hvpatchd: %s: no answer", method);
	return hvp_error_set(error, HVP_ERROR_INTERNAL, "hvpatchd: %s: %s", method,
			     reason->message);
}

/* The principal in front of @arguments, a tuple that is taken. */
static GVariant *add_principal(GVariant *arguments)
{
	g_autoptr(GVariant) rest = arguments ? g_variant_ref_sink(arguments) : NULL;
	GVariantBuilder all;

	g_variant_builder_init(&all, G_VARIANT_TYPE_TUPLE);
	g_variant_builder_add(&all, "s", CALLER_HIMSELF);
	for (gsize i = 0; rest != NULL && i < g_variant_n_children(rest); i++) {
		g_autoptr(GVariant) argument = g_variant_get_child_value(rest, i);

		g_variant_builder_add_value(&all, argument);
	}
	return g_variant_builder_end(&all);
}

static GVariant *call(HvpBus *self, const char *method, GVariant *arguments, GUnixFDList *files,
		      const char *reply_type, GError **error)
{
	g_autoptr(GError) reason = NULL;
	GVariant *reply = g_dbus_connection_call_with_unix_fd_list_sync(
		self->connection, NAME, PATH, INTERFACE, method, add_principal(arguments),
		G_VARIANT_TYPE(reply_type), G_DBUS_CALL_FLAGS_NO_AUTO_START,
		files ? FILE_TIMEOUT_MSEC : CALL_TIMEOUT_MSEC, files, NULL, NULL, &reason);

	self->gone = false;
	if (reply == NULL)
		convert_error(self, method, reason, error);
	return reply;
}

GVariant *hvp_bus_call(HvpBus *self, const char *method, GVariant *arguments,
		       const char *reply_type, GError **error)
{
	return call(self, method, arguments, NULL, reply_type, error);
}

GVariant *hvp_bus_call_with_file(HvpBus *self, const char *method, GVariant *arguments, int fd,
				 const char *reply_type, GError **error)
{
	g_autoptr(GUnixFDList) files = g_unix_fd_list_new();
	g_autoptr(GError) reason = NULL;

	if (g_unix_fd_list_append(files, fd, &reason) < 0) {
		g_variant_unref(g_variant_ref_sink(arguments));
		hvp_error_set(error, HVP_ERROR_INTERNAL, "descriptor: %s", reason->message);
		return NULL;
	}
	return call(self, method, arguments, files, reply_type, error);
}

JsonNode *hvp_bus_get(HvpBus *self, const char *method, GVariant *arguments, GError **error)
{
	g_autoptr(GVariant) reply = hvp_bus_call(self, method, arguments, "(s)", error);
	const char *text;

	if (reply == NULL)
		return NULL;
	g_variant_get(reply, "(&s)", &text);
	return hvp_answer_parse(text, method, error);
}

HvpBus *hvp_cli_bus_require(GError **error)
{
	HvpBus *self = hvp_bus_open();

	if (self == NULL)
		hvp_error_set(error, HVP_ERROR_NOT_FOUND, "hvpatchd does not run");
	return self;
}

bool hvp_cli_bus_check_options(const HvpCli *cli, GError **error)
{
	if (cli->direct)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "%s: it asks hvpatchd and cannot be combined with --direct",
				     cli->command->name);
	return (cli->domain == NULL && cli->qmp_path == NULL && cli->core_path == NULL &&
		cli->process == NULL && cli->connect_uri == NULL) ||
	       hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
			     "%s: it shows all that hvpatchd knows and cannot be combined with "
			     "--domain, --connect, --qmp, --core or --pid",
			     cli->command->name);
}

static void show_list_json(JsonNode *list, const char *name)
{
	g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
	JsonObject *document = json_object_new();

	json_object_set_int_member(document, "version", 1);
	json_object_set_member(document, name, json_node_copy(list));
	json_node_take_object(root, document);
	hvp_cli_json_print_node(json_node_ref(root));
}

bool hvp_cli_bus_show_list(const HvpCli *cli, JsonNode *list, const char *name,
			   void (*show_table)(JsonArray *list), GError **error)
{
	if (!JSON_NODE_HOLDS_ARRAY(list))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "hvpatchd's answer is no list");
	if (cli->output == HVP_CLI_JSON)
		show_list_json(list, name);
	else
		show_table(json_node_get_array(list));
	return true;
}
