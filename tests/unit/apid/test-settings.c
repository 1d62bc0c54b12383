/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/settings.h"

#include <glib/gstdio.h>
#include <unistd.h>

static HvpSettings *load(const char *text, GError **error)
{
	g_autofree char *path = NULL;
	int fd = g_file_open_tmp("hvpatch-settings-XXXXXX", &path, NULL);
	HvpSettings *settings;

	close(fd);
	g_assert_true(g_file_set_contents(path, text, -1, NULL));
	settings = hvp_settings_load(path, error);
	g_unlink(path);
	return settings;
}

static void test_defaults(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpSettings) settings = load("[core]\nstate=/x\n", &error);
	g_autoptr(HvpSettings) none = hvp_settings_load("/nonexistent/hvpatchd.conf", &error);

	g_assert_no_error(error);
	g_assert_cmpstr(settings->socket, ==, "/run/hvpatch/api.socket");
	g_assert_cmpuint(settings->socket_mode, ==, 0660);
	g_assert_null(settings->tcp_host);
	g_assert_cmpuint(none->max_connections, ==, settings->max_connections);
}

static void test_read(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpSettings) settings = load("[api]\nsocket=\ntcp=[::1]:8443\ncert=/c\nkey=/k\n"
					       "client-ca=/a\nsocket-mode=0600\nidle-timeout=7\n",
					       &error);

	g_assert_no_error(error);
	g_assert_null(settings->socket);
	g_assert_cmpstr(settings->tcp_host, ==, "::1");
	g_assert_cmpuint(settings->tcp_port, ==, 8443);
	g_assert_cmpuint(settings->socket_mode, ==, 0600);
	g_assert_cmpuint(settings->idle_seconds, ==, 7);
}

static void test_refused(void)
{
	static const char *const bad[] = {
		"[api]\ntcp=127.0.0.1:1\n",
		"[api]\ntcp=127.0.0.1:1\ncert=/c\nkey=/k\n",
		"[api]\ncert=/c\nkey=/k\nclient-ca=/a\ntcp=localhost:1\n",
		"[api]\ncert=/c\nkey=/k\nclient-ca=/a\ntcp=127.0.0.1\n",
		"[api]\ncert=/c\nkey=/k\nclient-ca=/a\ntcp=127.0.0.1:65536\n",
		"[api]\nsocket-mode=0999\n",
		"[api]\nmax-connections=-1\n",
		"[api]\nnonsense=1\n",
		"[api]\ncrl=\\q\n",
		"[api]\ntcp=\\q\n",
		"[api]\nmax-uploads=\\q\n",
		"[api]\ncrl=\xff\n",
		"nonsense",
	};

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;

		g_test_message("%s", g_utf8_validate(bad[i], -1, NULL) ? bad[i] : "no UTF-8");
		g_assert_null(load(bad[i], &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/apid/settings/defaults", test_defaults);
	g_test_add_func("/apid/settings/given-READ", test_read);
	g_test_add_func("/apid/settings/invalid-REFUSED", test_refused);
	return g_test_run();
}
