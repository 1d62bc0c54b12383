/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The plugin's server and the host's client of it, over a real socket. */
#include "server.h"

#include <glib/gstdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vm/plugin.h"

#define LONG_USEC (20 * G_USEC_PER_SEC)
#define BASE 0xffffffff81000000ULL

static const HvpGvaRange old_range = { { BASE }, { BASE + 0x40 } };
static PluginWatch *watch; /* served for as long as the test runs */
static char *folder, *path;

static HvpDeadline later(void)
{
	return hvp_deadline_in(LONG_USEC);
}

static void start_server(void)
{
	const char *reason;
	int listener;

	folder = g_dir_make_tmp("hvpatch-test-XXXXXX", NULL);
	path = g_build_filename(folder, "plugin", NULL);
	watch = g_new0(PluginWatch, 1);
	g_assert_true(plugin_watch_init(watch, 2));
	listener = plugin_server_listen(path, &reason);
	g_assert_cmpint(listener, >=, 0);
	g_assert_true(plugin_server_start(watch, 1, listener));
}

static HvpPlugin *client(void)
{
	g_autoptr(GError) error = NULL;
	HvpPlugin *plugin = hvp_plugin_connect(path, later(), &error);

	g_assert_no_error(error);
	return plugin;
}

static void run(guint64 pc, guint vcpu)
{
	plugin_watch_execute(watch, plugin_watch_find(watch, pc), vcpu);
}

static void test_private(void)
{
	struct stat status;

	g_assert_cmpint(stat(path, &status), ==, 0);
	g_assert_cmpint(status.st_mode & 0777, ==, 0600);
}

static void test_conversation(void)
{
	g_autoptr(HvpPlugin) plugin = client();
	HvpPluginChange change = { old_range, hvp_gva(BASE + 14), true };
	g_autoptr(GError) error = NULL;
	g_autoptr(GArray) counts = NULL, violations = NULL;
	HvpPluginViolation *violation;
	guint64 total;
	bool complete;

	g_assert_cmpuint(hvp_plugin_get_vcpu_count(plugin), ==, 2);
	g_assert_false(hvp_plugin_switch(plugin, &change, 1, later(), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	g_clear_error(&error);
	g_assert_true(hvp_plugin_watch(plugin, &old_range, 1, later(), &error));
	run(BASE + 20, 1);
	g_assert_true(hvp_plugin_switch(plugin, &change, 1, later(), &error));
	run(BASE + 20, 1);
	g_assert_true(hvp_plugin_decide(plugin, HVP_PLUGIN_CONFIRM, later(), &error));
	violations = hvp_plugin_read_violations(plugin, &total, later(), &error);
	g_assert_no_error(error);
	g_assert_cmpuint(total, ==, 1);
	g_assert_cmpuint(violations->len, ==, 1);
	violation = &g_array_index(violations, HvpPluginViolation, 0);
	g_assert_cmphex(violation->pc.value, ==, BASE + 20);
	g_assert_cmpuint(violation->vcpu, ==, 1);
	g_assert_cmpint(violation->verdict, ==, HVP_PLUGIN_FINAL);
	counts = hvp_plugin_read_vcpu_counts(plugin, old_range, 1, later(), &error);
	g_assert_no_error(error);
	g_assert_cmpuint(counts->len, ==, 1);
	g_assert_cmpuint(g_array_index(counts, HvpPluginCount, 0).before, ==, 1);
	g_assert_cmpuint(g_array_index(counts, HvpPluginCount, 0).since, ==, 1);
	g_assert_true(hvp_plugin_is_complete(plugin, &complete, later(), &error));
	g_assert_true(complete);
	g_assert_true(hvp_plugin_withdraw(plugin, &old_range, 1, later(), &error));
	g_assert_null(plugin_watch_find(watch, BASE));
}

static void test_more_counts_than_a_reply(void)
{
	const HvpGvaRange range = { hvp_gva(BASE + 0x10000), hvp_gva(BASE + 0x10000 + 4000) };
	g_autoptr(HvpPlugin) plugin = client();
	g_autoptr(GError) error = NULL;
	g_autoptr(GArray) counts = NULL;

	g_assert_true(hvp_plugin_watch(plugin, &range, 1, later(), &error));
	for (guint64 pc = range.start.value; pc < range.end.value; pc++)
		run(pc, 0);
	counts = hvp_plugin_read_counts(plugin, range, later(), &error);
	g_assert_no_error(error);
	g_assert_cmpuint(counts->len, ==, 4000);
	g_assert_true(hvp_plugin_withdraw(plugin, &range, 1, later(), &error));
}

static int raw_client(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_strlcpy(address.sun_path, path, sizeof address.sun_path);
	g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
	return fd;
}

static void test_garbage(void)
{
	char byte, garbage[64] = "GET / HTTP/1.0";
	int fd = raw_client();

	g_assert_cmpint(write(fd, garbage, sizeof garbage), ==, sizeof garbage);
	g_assert_cmpint(read(fd, &byte, 1), <=, 0);
	close(fd);
	hvp_plugin_free(client());
}

/* Half a request: nobody else waits for the other half. */
static void test_stalled(void)
{
	const HvpPluginWireHeader header = { HVP_PLUGIN_WIRE_MAGIC, HVP_PLUGIN_WIRE_WATCH, 0, 1,
					     4096 };
	int fd = raw_client();
	char byte;

	g_assert_cmpint(write(fd, &header, sizeof header), ==, sizeof header);
	hvp_plugin_free(client());
	/* And he is told to leave. */
	g_assert_cmpint(read(fd, &byte, 1), ==, 0);
	close(fd);
}

static void test_many_clients(void)
{
	HvpPlugin *plugins[PLUGIN_SERVER_MAX_CLIENTS];
	g_autoptr(GError) error = NULL;
	HvpPlugin *last;

	for (guint i = 0; i < PLUGIN_SERVER_MAX_CLIENTS; i++)
		plugins[i] = client();
	last = hvp_plugin_connect(path, later(), &error);
	g_assert_null(last);
	g_assert_error(error, HVP_ERROR, HVP_ERROR_VM_GONE);
	for (guint i = 0; i < PLUGIN_SERVER_MAX_CLIENTS; i++)
		hvp_plugin_free(plugins[i]);
	/* Until the server has seen that they are gone. */
	for (guint i = 0; i < 1000 && last == NULL; i++, g_usleep(10000))
		last = hvp_plugin_connect(path, later(), NULL);
	g_assert_nonnull(last);
	hvp_plugin_free(last);
}

static void test_path(void)
{
	g_autofree char *other = g_build_filename(folder, "other", NULL);
	g_autofree char *endless = g_strnfill(200, 'x');
	const char *reason;
	int first = plugin_server_listen(other, &reason);

	g_assert_cmpint(first, >=, 0);
	g_assert_cmpint(plugin_server_listen(other, &reason), ==, -1);
	g_assert_cmpstr(reason, ==, g_strerror(EADDRINUSE));
	close(first);
	/* Nobody listens any more: taken over. */
	first = plugin_server_listen(other, &reason);
	g_assert_cmpint(first, >=, 0);
	close(first);
	g_assert_cmpint(g_unlink(other), ==, 0);
	g_assert_true(g_file_set_contents(other, "x", 1, NULL));
	g_assert_cmpint(plugin_server_listen(other, &reason), ==, -1);
	g_assert_true(g_file_test(other, G_FILE_TEST_IS_REGULAR));
	g_assert_cmpint(plugin_server_listen(endless, &reason), ==, -1);
	g_assert_cmpint(g_unlink(other), ==, 0);
}

static void test_nobody_listens(void)
{
	g_autoptr(GError) error = NULL;

	g_assert_null(hvp_plugin_connect("/nonexistent/plugin", later(), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
}

/* A peer that never answers: the deadline is kept. */
static void test_mute(void)
{
	g_autofree char *mute = g_build_filename(folder, "mute", NULL);
	g_autoptr(GError) error = NULL;
	const char *reason;
	int fd = plugin_server_listen(mute, &reason);

	g_assert_null(hvp_plugin_connect(mute, hvp_deadline_in(50000), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_TIMED_OUT);
	close(fd);
	g_unlink(mute);
}

int main(int argc, char **argv)
{
	int status;

	g_test_init(&argc, &argv, NULL);
	start_server();
	g_test_add_func("/qemu-plugin/server/socket-PRIVATE", test_private);
	g_test_add_func("/qemu-plugin/server/conversation-OK", test_conversation);
	g_test_add_func("/qemu-plugin/server/more-counts-than-a-reply-ALL",
			test_more_counts_than_a_reply);
	g_test_add_func("/qemu-plugin/server/garbage-CLOSED", test_garbage);
	g_test_add_func("/qemu-plugin/server/stalled-DROPPED", test_stalled);
	g_test_add_func("/qemu-plugin/server/too-many-clients-REFUSED", test_many_clients);
	g_test_add_func("/qemu-plugin/server/path-CHECKED", test_path);
	g_test_add_func("/qemu-plugin/client/nobody-listens-NOT_FOUND", test_nobody_listens);
	g_test_add_func("/qemu-plugin/client/mute-TIMED_OUT", test_mute);
	status = g_test_run();
	g_unlink(path);
	g_rmdir(folder);
	return status;
}
