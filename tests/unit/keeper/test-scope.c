/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A bus of the test's own, with a systemd on it that writes down what it is asked. */
#include "keeper/scope.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PID 4711

typedef struct {
	GTestDBus *bus;
	GDBusConnection *systemd; /* NULL: there is none */
	GDBusConnection *tool;
	GThread *thread;
	GMainContext *context;
	GMainLoop *loop;
	char *request; /* what it was asked, printed */
	bool refuses;
} Host;

static void handle(GDBusConnection *connection, const char *sender, const char *path,
		   const char *interface, const char *method, GVariant *arguments,
		   GDBusMethodInvocation *invocation, gpointer data)
{
	Host *host = data;

	(void)connection;
	(void)sender;
	(void)path;
	(void)interface;
	g_assert_cmpstr(method, ==, "StartTransientUnit");
	g_assert_null(host->request);
	host->request = g_variant_print(arguments, FALSE);
	if (host->refuses)
		g_dbus_method_invocation_return_dbus_error(
			invocation, "org.freedesktop.DBus.Error.AccessDenied", "not you");
	else
		g_dbus_method_invocation_return_value(invocation, g_variant_new("(o)", "/job/1"));
}

static const char description[] =
	"<node><interface name='org.freedesktop.systemd1.Manager'>"
	"<method name='StartTransientUnit'>"
	"<arg type='s' direction='in'/><arg type='s' direction='in'/>"
	"<arg type='a(sv)' direction='in'/><arg type='a(sa(sv))' direction='in'/>"
	"<arg type='o' direction='out'/></method></interface></node>";

static gpointer serve(gpointer data)
{
	Host *host = data;

	g_main_context_push_thread_default(host->context);
	g_main_loop_run(host->loop);
	g_main_context_pop_thread_default(host->context);
	return NULL;
}

static GDBusConnection *connect_to(GTestDBus *bus)
{
	return g_dbus_connection_new_for_address_sync(
		g_test_dbus_get_bus_address(bus),
		G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
			G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
		NULL, NULL, NULL);
}

static void start_systemd(Host *host)
{
	static const GDBusInterfaceVTable table = { handle, NULL, NULL, { 0 } };
	g_autoptr(GDBusNodeInfo) node = g_dbus_node_info_new_for_xml(description, NULL);
	g_autoptr(GVariant) reply = NULL;

	host->context = g_main_context_new();
	host->loop = g_main_loop_new(host->context, FALSE);
	host->systemd = connect_to(host->bus);
	g_main_context_push_thread_default(host->context);
	g_assert_cmpuint(
		g_dbus_connection_register_object(host->systemd, "/org/freedesktop/systemd1",
						  node->interfaces[0], &table, host, NULL, NULL),
		>, 0);
	g_main_context_pop_thread_default(host->context);
	reply = g_dbus_connection_call_sync(host->systemd, "org.freedesktop.DBus",
					    "/org/freedesktop/DBus", "org.freedesktop.DBus",
					    "RequestName",
					    g_variant_new("(su)", "org.freedesktop.systemd1", 0U),
					    NULL, G_DBUS_CALL_FLAGS_NONE, -1, NULL, NULL);
	g_assert_nonnull(reply);
	host->thread = g_thread_new("systemd", serve, host);
}

static bool host_open(Host *host, bool has_systemd)
{
	g_autofree char *program = g_find_program_in_path("dbus-daemon");

	if (program == NULL) {
		g_test_skip("dbus-daemon is missing");
		return false;
	}
	host->bus = g_test_dbus_new(G_TEST_DBUS_NONE);
	g_test_dbus_up(host->bus);
	if (has_systemd)
		start_systemd(host);
	host->tool = connect_to(host->bus);
	return true;
}

static void host_close(Host *host)
{
	if (host->thread != NULL) {
		g_main_loop_quit(host->loop);
		g_thread_join(host->thread);
		g_object_unref(host->systemd);
		g_main_loop_unref(host->loop);
		g_main_context_unref(host->context);
	}
	g_object_unref(host->tool);
	g_test_dbus_stop(host->bus);
	g_object_unref(host->bus);
	g_free(host->request);
}

static void test_request(void)
{
	g_autoptr(GError) error = NULL;
	Host host = { 0 };

	if (!host_open(&host, true))
		return;
	g_assert_true(hvp_scope_start(host.tool, PID, &error));
	g_assert_no_error(error);
	g_assert_cmpstr(
		host.request, ==,
		"('hvpatch-keeper-4711.scope', 'fail', ["
		"('Description', <\"hvpatch's hold on a guest\">), ('PIDs', <[uint32 4711]>), "
		"('KillMode', <'control-group'>), ('TimeoutStopUSec', <uint64 120000000>), "
		"('ManagedOOMPreference', <'omit'>), "
		"('CollectMode', <'inactive-or-failed'>)], [])");
	host_close(&host);
}

static void test_refused(void)
{
	g_autoptr(GError) error = NULL;
	Host host = { .refuses = true };

	if (!host_open(&host, true))
		return;
	g_assert_false(hvp_scope_start(host.tool, PID, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
	g_assert_nonnull(strstr(error->message, "not you"));
	host_close(&host);
}

/* Not started by asking, either. */
static void test_no_systemd(void)
{
	g_autoptr(GError) error = NULL;
	Host host = { 0 };

	if (!host_open(&host, false))
		return;
	g_assert_false(hvp_scope_start(host.tool, PID, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
	host_close(&host);
}

static void test_oom_score(void)
{
	g_autofree char *path = NULL, *text = NULL;
	pid_t child;

	if (geteuid() != 0) {
		g_test_skip("to be root is needed");
		return;
	}
	child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	hvp_scope_take(child);
	path = g_strdup_printf("/proc/%d/oom_score_adj", (int)child);
	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	if (atoi(text) == 0)
		g_test_skip("CAP_SYS_RESOURCE is missing");
	else
		g_assert_cmpint(atoi(text), ==, HVP_SCOPE_OOM_SCORE);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/scope/request", test_request);
	g_test_add_func("/scope/systemd-says-no-UNSUPPORTED", test_refused);
	g_test_add_func("/scope/no-systemd-NOT_FOUND", test_no_systemd);
	g_test_add_func("/scope/oom-score", test_oom_score);
	return g_test_run();
}
