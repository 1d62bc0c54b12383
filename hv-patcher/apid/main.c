/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hvpatch-apid: HTTP for the management plane. It has no rights: all that it does is to ask the
 * core, in the name of whom it found its client to be.
 */
#include <gio/gio.h>
#include <glib-unix.h>
#include <grp.h>
#include <locale.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "apid/notify.h"
#include "apid/server.h"

#define DEFAULT_CONFIGURATION "/etc/hvpatch/hvpatchd.conf"
#define EXIT_USAGE 2

typedef struct {
	char *configuration;
	char *bus;
	gboolean session, as_root, version;
} Options;

static bool parse_options(Options *options, int *argc, char ***argv, GError **error)
{
	const GOptionEntry entries[] = {
		{ "config", 'c', 0, G_OPTION_ARG_FILENAME, &options->configuration,
		  "read FILE (" DEFAULT_CONFIGURATION ")", "FILE" },
		{ "bus", 0, 0, G_OPTION_ARG_STRING, &options->bus,
		  "reach hvpatchd by the bus at ADDRESS ($HVPATCH_BUS, else the system's)",
		  "ADDRESS" },
		{ "session", 0, 0, G_OPTION_ARG_NONE, &options->session,
		  "reach hvpatchd by the session's bus", NULL },
		{ "as-root", 0, 0, G_OPTION_ARG_NONE, &options->as_root,
		  "stay root where no other user is set", NULL },
		{ "version", 0, 0, G_OPTION_ARG_NONE, &options->version, "print the version",
		  NULL },
		{ NULL },
	};
	g_autoptr(GOptionContext) context = g_option_context_new("- hvpatch's HTTP interface");

	g_option_context_add_main_entries(context, entries, NULL);
	if (!g_option_context_parse(context, argc, argv, error))
		return false;
	return *argc == 1 ||
	       hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "no arguments are taken");
}

static char *bus_address(const Options *options, GError **error)
{
	const char *given = options->bus ? options->bus : g_getenv("HVPATCH_BUS");

	if (given != NULL)
		return g_strdup(given);
	return g_dbus_address_get_for_bus_sync(
		options->session ? G_BUS_TYPE_SESSION : G_BUS_TYPE_SYSTEM, NULL, error);
}

static bool become(const struct passwd *user, GError **error)
{
	if (initgroups(user->pw_name, user->pw_gid) != 0 ||
	    setresgid(user->pw_gid, user->pw_gid, user->pw_gid) != 0 ||
	    setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0)
		return hvp_error_set(error, HVP_ERROR_PERMISSION, "cannot become user %s",
				     user->pw_name);
	return true;
}

static bool drop_rights(const HvpSettings *settings, const Options *options, GError **error)
{
	const struct passwd *user = settings->user ? getpwnam(settings->user) : NULL;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (geteuid() != 0 || options->as_root)
		return true;
	if (settings->user == NULL)
		return hvp_error_set(error, HVP_ERROR_PERMISSION,
				     "not as root: [api] user is not set (or say --as-root)");
	if (user == NULL || user->pw_uid == 0)
		return hvp_error_set(error, HVP_ERROR_PERMISSION,
				     "[api] user: %s is no user to become", settings->user);
	return become(user, error);
}

/* Of GLib's GnuTLS backend, which has no other way to be told: no TLS below 1.2, which it allows.
 */
static void restrict_tls(void)
{
	g_setenv("G_TLS_GNUTLS_PRIORITY", "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", TRUE);
}

/* Every connection is a descriptor: as many as may be had. */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static gboolean stop(void *data)
{
	g_main_loop_quit(data);
	return G_SOURCE_CONTINUE;
}

static gboolean reload(void *data)
{
	g_autofree char *state = g_strdup_printf("RELOADING=1\nMONOTONIC_USEC=%" G_GINT64_FORMAT,
						 g_get_monotonic_time());

	hvp_notify_send(state);
	hvp_server_reload(data);
	hvp_notify_send("READY=1");
	return G_SOURCE_CONTINUE;
}

static gboolean beat(G_GNUC_UNUSED void *data)
{
	hvp_notify_send("WATCHDOG=1");
	return G_SOURCE_CONTINUE;
}

static void serve(HvpServer *server, const char *address)
{
	g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
	guint watchdog_msec = hvp_notify_watchdog_msec();

	g_unix_signal_add(SIGTERM, stop, loop);
	g_unix_signal_add(SIGINT, stop, loop);
	g_unix_signal_add(SIGHUP, reload, server);
	if (watchdog_msec > 0)
		g_timeout_add(watchdog_msec, beat, NULL);
	hvp_server_start(server, address);
	hvp_notify_send("READY=1");
	g_main_loop_run(loop);
	hvp_notify_send("STOPPING=1");
}

static bool run(const Options *options, GError **error)
{
	g_autofree char *address = bus_address(options, error);
	g_autoptr(HvpSettings) settings = NULL;
	g_autoptr(HvpServer) server = NULL;

	if (address == NULL)
		return false;
	settings = hvp_settings_load(
		options->configuration ? options->configuration : DEFAULT_CONFIGURATION, error);
	if (settings == NULL)
		return false;
	server = hvp_server_new(settings, error);
	if (server == NULL || !drop_rights(settings, options, error))
		return false;
	serve(server, address);
	return true;
}

int main(int argc, char **argv)
{
	Options options = { NULL };
	g_autoptr(GError) error = NULL;
	int status = 0;

	setlocale(LC_ALL, "");
	signal(SIGPIPE, SIG_IGN);
	restrict_tls();
	raise_descriptors();
	if (!parse_options(&options, &argc, &argv, &error)) {
		fprintf(stderr, "hvpatch-apid: %s\n", error->message);
		status = EXIT_USAGE;
	} else if (options.version) {
		printf("hvpatch-apid %s\n", HVP_VERSION);
	} else if (!run(&options, &error)) {
		fprintf(stderr, "hvpatch-apid: %s\n", error->message);
		status = error->domain == HVP_ERROR ? hvp_error_exit_status(error) : 1;
	}
	g_free(options.configuration);
	g_free(options.bus);
	return status;
}
