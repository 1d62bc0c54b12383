/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/config.h"

#include <glib/gstdio.h>
#include <string.h>

static HvpConfig *read_text(const char *text, GError **error)
{
	g_autofree char *path = NULL;
	int fd = g_file_open_tmp("hvpatchd-XXXXXX.conf", &path, NULL);
	HvpConfig *config;

	g_assert_cmpint(fd, >=, 0);
	g_close(fd, NULL);
	g_assert_true(g_file_set_contents(path, text, -1, NULL));
	config = hvp_config_read(path, error);
	g_unlink(path);
	return config;
}

static void test_all_keys(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpConfig) config = read_text(
		"[core]\nstate=/srv/state\nuri=test:///default\nworkers=3\nmax-stopped=1\n"
		"max-pause=2.5\nmax-timeout=90\nunsigned=allow\nallow-downgrade=yes\n"
		"drain=0\n"
		"[api]\nuser=api\nsocket=/run/a\ntcp=[::]:1\ncert=/c\nkey=/k\nclient-ca=/d\n"
		"crl=/e\n"
		"[key vendor]\nminisign=RWQ\nnot-after=2001-09-09T01:46:40Z\n"
		"[key other]\ncertificate=/a.pem\n"
		"[role admin]\nprincipals=uid:0; cert:a b\nverbs=*\ndomains=web-*;db-*;\n",
		&error);
	const HvpConfigKey *key;
	const HvpRole *role;

	g_assert_no_error(error);
	g_assert_cmpstr(config->state_folder, ==, "/srv/state");
	g_assert_cmpstr(config->uri, ==, "test:///default");
	g_assert_cmpint(config->workers, ==, 3);
	g_assert_cmpint(config->max_stopped, ==, 1);
	g_assert_cmpfloat(config->max_pause_msec, ==, 2.5);
	g_assert_cmpint(config->max_timeout_seconds, ==, 90);
	g_assert_true(config->unsigned_allowed && config->downgrade_allowed);
	g_assert_cmpint(config->drain_seconds, ==, 0);
	g_assert_cmpstr(config->api_user, ==, "api");
	g_assert_cmpint(config->keys->len, ==, 2);
	key = g_ptr_array_index(config->keys, 0);
	g_assert_cmpstr(key->name, ==, "vendor");
	g_assert_cmpint(key->not_after_usec, ==, (gint64)1000000000 * G_USEC_PER_SEC);
	role = g_ptr_array_index(config->roles, 0);
	g_assert_cmpstr(role->principals[1], ==, "cert:a b");
	g_assert_cmpstr(role->domains[1], ==, "db-*");
}

static void test_defaults_DENY(void)
{
	g_autoptr(HvpConfig) config = hvp_config_new();

	g_assert_false(config->unsigned_allowed);
	g_assert_false(config->downgrade_allowed);
	g_assert_null(config->api_user);
	g_assert_cmpint(config->roles->len, ==, 0);
}

static void test_malformed_REFUSED(void)
{
	static const char *const texts[] = {
		"state=/a\n",
		"[core]\nworker=3\n",
		"[core]\nworkers=0\n",
		"[core]\nworkers=65\n",
		"[core]\nworkers=three\n",
		"[core]\nmax-pause=0\n",
		"[core]\nmax-timeout=0\n",
		"[core]\nmax-timeout=86401\n",
		"[core]\nmax-pause=1001\n",
		"[core]\nmax-pause=nan\n",
		"[core]\nunsigned=maybe\n",
		"[core]\nallow-downgrade=true\n",
		"[core]\nstate=here\n",
		"[api]\nport=1\n",
		"[cores]\n",
		"[key]\nminisign=a\n",
		"[key ]\nminisign=a\n",
		"[key a]\n",
		"[key a]\nminisign=a\ncertificate=/b\n",
		"[key a]\nminisign=a\nnot-after=tomorrow\n",
		"[key a]\nminisign=a\nowner=b\n",
		"[role a]\nverbs=view\ndomains=*\n",
		"[role a]\nprincipals=uid:0\nverbs=force\n",
		"[role a]\nprincipals=uid:0\nverb=view\n",
		"[core]\nstate=/a\\q\n",
		"[core]\nuri=\\q\n",
		"[core]\nworkers=\\q\n",
		"[core]\nmax-pause=\\q\n",
		"[core]\nunsigned=\\q\n",
		"[core]\nallow-downgrade=no\\\n",
		"[core]\nuri=\xff\n",
		"[api]\nuser=\\q\n",
		"[api]\nuser=a\\;b\n",
		"[key a]\nminisign=a\nnot-after=\\q\n",
		"[key a]\nminisign=a\ncertificate=\\q\n",
		"[key a]\nminisign=\\q\ncertificate=/b\n",
		"[role a]\nprincipals=uid:0\nverbs=view\ndomains=web-1;\\q\n",
		"[role a]\nprincipals=uid:0\nverbs=\\q\ndomains=*\n",
		"[role a]\nprincipals=uid:0;\\q\nverbs=view\ndomains=*\n",
	};

	for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_autoptr(GError) error = NULL;

		g_test_message("%s", g_utf8_validate(texts[i], -1, NULL) ? texts[i] : "no UTF-8");
		g_assert_null(read_text(texts[i], &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	}
}

static void test_malformed_by_LINE(void)
{
	static const struct {
		const char *text, *place;
	} files[] = {
		{ "[core]\nworkers=2\nworkers=0\n",
		  ".conf:3: [core] workers: '0' is no whole number between 1 and 64" },
		{ "[core]\n[api]\nuser=a\n[core]\n  drain = x\n", ".conf:5: [core] drain" },
		{ "[core]\n\n# a\nnothing\n[core]\n", ".conf:4: " },
		{ "state=/a", ".conf:1: " },
		{ "[core]\n\n[cores]\n", ".conf:3: [cores]" },
		{ "[core]\nworkers=2\n[api]\nuser=\\q\n", ".conf:4: [api] user: no UTF-8, or a" },
		{ "[role a]\nprincipals=uid:0\n\ndomains=\\q\n", ".conf:4: [role a] domains" },
		{ "[role a]\nprincipals=uid:0\n[role b]\nverbs=view\n", ".conf:3: [role b]" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_null(read_text(files[i].text, &error));
		g_test_message("%s", error->message);
		g_assert_nonnull(strstr(error->message, files[i].place));
	}
}

static void test_missing_NOT_FOUND(void)
{
	g_autoptr(GError) error = NULL;

	g_assert_null(hvp_config_read("/nowhere/hvpatchd.conf", &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
	g_assert_cmpstr(error->message, ==, "/nowhere/hvpatchd.conf: No such file or directory");
}

/* The example is what holds without a file, and has every key. */
static void test_example(void)
{
	const char *path = g_getenv("HVPATCH_EXAMPLE_CONF");
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpConfig) config = NULL;
	g_autoptr(HvpConfig) defaults = hvp_config_new();

	if (path == NULL) {
		g_test_skip("HVPATCH_EXAMPLE_CONF is not set");
		return;
	}
	config = hvp_config_read(path, &error);
	g_assert_no_error(error);
	g_assert_cmpstr(config->state_folder, ==, defaults->state_folder);
	g_assert_cmpint(config->workers, ==, defaults->workers);
	g_assert_cmpint(config->max_stopped, ==, defaults->max_stopped);
	g_assert_cmpfloat(config->max_pause_msec, ==, defaults->max_pause_msec);
	g_assert_cmpint(config->drain_seconds, ==, defaults->drain_seconds);
	g_assert_false(config->unsigned_allowed || config->downgrade_allowed);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/config/all-keys", test_all_keys);
	g_test_add_func("/config/defaults-DENY", test_defaults_DENY);
	g_test_add_func("/config/malformed-REFUSED", test_malformed_REFUSED);
	g_test_add_func("/config/malformed-by-LINE", test_malformed_by_LINE);
	g_test_add_func("/config/missing-NOT_FOUND", test_missing_NOT_FOUND);
	g_test_add_func("/config/example", test_example);
	return g_test_run();
}
