/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What becomes of the domains' patches: a line, or an object on a line, for each finding. */
#include <stdio.h>

#include "cli/options.h"
#include "cli/output.h"
#include "follow/follow.h"
#include "patch/store.h"

static void show_json(const HvpFinding *finding, const char *now)
{
	JsonBuilder *json = hvp_json_new();

	hvp_json_text(json, "at", now);
	hvp_json_text(json, "domain", finding->name);
	hvp_json_text(json, "uuid", finding->uuid);
	hvp_json_text(json, "event", finding->event);
	hvp_json_begin_array(json, "patches");
	for (guint i = 0; finding->patches != NULL && i < finding->patches->len; i++) {
		g_autofree char *name = hvp_cli_output_escape(
			g_ptr_array_index(finding->patches, i));

		json_builder_add_string_value(json, name);
	}
	json_builder_end_array(json);
	hvp_json_text(json, "message", finding->message);
	hvp_cli_json_print_line(json);
}

static void show_line(const HvpFinding *finding, const char *now)
{
	g_autofree char *name = hvp_cli_output_escape(finding->name ? finding->name : "libvirt");
	g_autofree char *message = hvp_cli_output_escape(finding->message);
	g_autoptr(GString) patches = g_string_new(NULL);

	for (guint i = 0; finding->patches != NULL && i < finding->patches->len; i++) {
		g_autofree char *patch = hvp_cli_output_escape(
			g_ptr_array_index(finding->patches, i));

		g_string_append_printf(patches, "%s%s", i > 0 ? ", " : " ", patch);
	}
	printf("%s %s %s%s%s%s\n", now, name, finding->event, patches->str,
	       message[0] != 0 ? ": " : "", message);
}

static bool show(gpointer data, const HvpFinding *finding)
{
	const HvpCli *cli = data;
	g_autofree char *now = hvp_cli_output_time(g_get_real_time());

	if (cli->output == HVP_CLI_JSON)
		show_json(finding, now);
	else
		show_line(finding, now);
	return fflush(stdout) == 0;
}

/* The UUID of the one that -d names. */
static char *find_uuid(const HvpCli *cli, GError **error)
{
	g_autoptr(HvpLibvirt) libvirt = hvp_libvirt_connect(cli->connect_uri, error);
	g_autoptr(HvpLibvirtDomain) domain = libvirt ? hvp_libvirt_find(libvirt, cli->domain, error)
						     : NULL;

	return domain ? g_strdup(hvp_libvirt_domain_get_uuid(domain)) : NULL;
}

static bool check_options(const HvpCli *cli, const char *at_once, guint *ret_children,
			  GError **error)
{
	guint64 count = HVP_FOLLOW_DEFAULT_CHILDREN;

	if (cli->qmp_path != NULL || cli->core_path != NULL || cli->process != NULL)
		return hvp_error_set(
			error, HVP_ERROR_INVALID_ARGUMENT,
			"watch: it is for libvirt's domains and cannot be combined with "
			"--qmp, --core or --pid");
	if (at_once != NULL &&
	    !hvp_cli_options_count("--at-once", at_once, 1, HVP_FOLLOW_MAX_CHILDREN, &count, error))
		return false;
	*ret_children = (guint)count;
	return true;
}

bool hvp_cli_watch(HvpCli *cli, char **arguments, GError **error)
{
	gboolean reapply = FALSE;
	g_autofree char *at_once = NULL, *uuid = NULL, *folder = hvp_store_default_folder();
	GOptionEntry entries[] = {
		{ "reapply", 0, 0, G_OPTION_ARG_NONE, &reapply,
		  "apply what is installed whenever a guest is up", NULL },
		{ "at-once", 0, 0, G_OPTION_ARG_STRING, &at_once,
		  "look into, or patch, so many guests at a time (2)", "N" },
		{ NULL },
	};
	HvpFollowOptions options = {
		.uri = cli->connect_uri, .store_folder = folder, .tell = show, .data = cli
	};

	if (!hvp_cli_options_parse(cli, arguments, entries, NULL, error) ||
	    !check_options(cli, at_once, &options.max_children, error))
		return false;
	options.reapply = reapply;
	if (cli->backend != HVP_TARGET_BACKEND_AUTO)
		options.backend = hvp_target_backend_names[cli->backend];
	if (cli->domain != NULL && (options.only_uuid = uuid = find_uuid(cli, error)) == NULL)
		return false;
	return hvp_follow_run(&options, error);
}
