/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A scripted hvpatchd: fake-core ADDRESS SCRIPT
 *
 * Answers the calls on bus ADDRESS in the order of SCRIPT, a JSON array of
 *
 *   {"method": NAME, "reply": "a tuple in GVariant's text form"}
 *   {"method": NAME, "error": CODE, "message": TEXT}
 *   {"method": NAME, "dies": true}
 *
 * With "repeat": true as often as they come. Prints "ready", then each call as a line: its name,
 * its arguments, and the SHA-256 of a descriptor's content. Whatever the script does not expect is
 * printed as "UNEXPECTED" and refused.
 */
#include <gio/gio.h>
#include <gio/gunixfdlist.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME "org.hvpatch1"

typedef struct {
	JsonArray *script;
	guint next;
} Core;

static JsonObject *step_at(const Core *self, guint index)
{
	return index < json_array_get_length(self->script)
		       ? json_array_get_object_element(self->script, index)
		       : NULL;
}

static bool is_for(JsonObject *step, const char *method)
{
	return step != NULL && g_str_equal(json_object_get_string_member(step, "method"), method);
}

/* The one before, if it repeats, or the next. */
static JsonObject *find_step(Core *self, const char *method)
{
	JsonObject *last = self->next > 0 ? step_at(self, self->next - 1) : NULL;
	JsonObject *next = step_at(self, self->next);

	if (is_for(next, method)) {
		self->next++;
		return next;
	}
	if (is_for(last, method) && json_object_has_member(last, "repeat"))
		return last;
	return NULL;
}

static char *digest_file(GDBusMessage *call)
{
	GUnixFDList *files = g_dbus_message_get_unix_fd_list(call);
	g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);
	guint8 bytes[4096];
	ssize_t count;
	int fd;

	if (files == NULL)
		return g_strdup("");
	fd = g_unix_fd_list_get(files, 0, NULL);
	while ((count = read(fd, bytes, sizeof bytes)) > 0)
		g_checksum_update(checksum, bytes, count);
	close(fd);
	return g_strdup(g_checksum_get_string(checksum));
}

static void print_call(GDBusMessage *call, bool is_expected)
{
	GVariant *body = g_dbus_message_get_body(call);
	g_autofree char *arguments = body ? g_variant_print(body, FALSE) : g_strdup("()");
	g_autofree char *digest = digest_file(call);

	printf("%s%s %s %s\n", is_expected ? "" : "UNEXPECTED ", g_dbus_message_get_member(call),
	       arguments, digest);
	fflush(stdout);
}

static GDBusMessage *refuse(GDBusMessage *call, const char *code, const char *message)
{
	g_autofree char *name = g_strconcat("org.hvpatch1.Error.", code, NULL);

	return g_dbus_message_new_method_error_literal(call, name, message);
}

static GDBusMessage *answer(GDBusMessage *call, JsonObject *step)
{
	GDBusMessage *reply;
	GVariant *body;

	if (json_object_has_member(step, "dies"))
		_exit(0);
	if (json_object_has_member(step, "error"))
		return refuse(call, json_object_get_string_member(step, "error"),
			      json_object_get_string_member(step, "message"));
	body = g_variant_parse(NULL, json_object_get_string_member(step, "reply"), NULL, NULL,
			       NULL);
	if (body == NULL)
		g_error("the script's reply is no GVariant");
	reply = g_dbus_message_new_method_reply(call);
	g_dbus_message_set_body(reply, body);
	return reply;
}

static GDBusMessage *filter(GDBusConnection *connection, GDBusMessage *message, gboolean incoming,
			    gpointer data)
{
	g_autoptr(GDBusMessage) reply = NULL;
	JsonObject *step;

	if (!incoming ||
	    g_dbus_message_get_message_type(message) != G_DBUS_MESSAGE_TYPE_METHOD_CALL)
		return message;
	step = find_step(data, g_dbus_message_get_member(message));
	print_call(message, step != NULL);
	reply = step ? answer(message, step) : refuse(message, "INTERNAL", "not in the script");
	g_dbus_connection_send_message(connection, reply, G_DBUS_SEND_MESSAGE_FLAGS_NONE, NULL,
				       NULL);
	g_object_unref(message);
	return NULL;
}

static void take_name(GDBusConnection *connection)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
		connection, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
		"RequestName", g_variant_new("(su)", NAME, 0U), NULL, G_DBUS_CALL_FLAGS_NONE, -1,
		NULL, &error);

	if (reply == NULL)
		g_error("%s", error->message);
}

int main(int argc, char **argv)
{
	g_autoptr(JsonParser) parser = json_parser_new();
	g_autoptr(GDBusConnection) connection = NULL;
	g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
	g_autoptr(GError) error = NULL;
	Core core = { 0 };

	if (argc != 3 || !json_parser_load_from_file(parser, argv[2], &error))
		g_error("%s", error ? error->message : "fake-core ADDRESS SCRIPT");
	core.script = json_node_get_array(json_parser_get_root(parser));
	connection = g_dbus_connection_new_for_address_sync(
		argv[1],
		G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
			G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
		NULL, NULL, &error);
	if (connection == NULL)
		g_error("%s", error->message);
	g_dbus_connection_add_filter(connection, filter, &core, NULL);
	take_name(connection);
	printf("ready\n");
	fflush(stdout);
	g_main_loop_run(loop);
	return 0;
}
