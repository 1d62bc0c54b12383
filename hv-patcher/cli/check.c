/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/check.h"

#include "cli/options.h"
#include "cli/remote-show.h"
#include "cli/show.h"
#include "document/check-document.h"

static void show_items_table(const HvpCheck *check)
{
	struct libscols_table *table = hvp_cli_show_items_table();

	for (guint i = 0; i < check->items->len; i++) {
		const HvpCheckItem *item = &g_array_index(check->items, HvpCheckItem, i);

		hvp_cli_show_item_line(table, item->item, item->ok, item->accepted, item->why);
	}
	hvp_cli_table_print(table);
}

static void show_functions_table(const HvpCheck *check)
{
	struct libscols_table *table = hvp_cli_show_targets_table();

	for (guint i = 0; i < check->functions->len; i++) {
		const HvpCheckFunction *function = &g_array_index(check->functions,
								  HvpCheckFunction, i);
		g_autofree char *old = hvp_cli_output_address(function->facts.old.start);
		g_autofree char *site = hvp_cli_output_address(function->site.site);

		hvp_cli_table_add(table,
				  function->facts.object ? function->facts.object : "vmlinux",
				  function->facts.name, old, site, NULL);
	}
	hvp_cli_table_print(table);
}

static void show_table(const HvpPatch *patch, const HvpCheck *check, const GError *verdict)
{
	show_items_table(check);
	if (check->functions->len > 0)
		printf("\n");
	show_functions_table(check);
	if (verdict != NULL)
		hvp_cli_output_error_line(verdict);
	else
		printf("\n%s %s\n", patch->name,
		       check->already_applied ? "is applied already" : "can be applied");
}

static bool run(HvpCli *cli, const char *path, HvpOptions *options, GError **error)
{
	HvpCliProgress progress = hvp_cli_progress_begin();
	g_autoptr(HvpPatch) patch = hvp_patch_open(path, error);
	g_autoptr(HvpManifest) manifest = patch ? hvp_manifest_open(patch, path, error) : NULL;
	g_autoptr(HvpTarget) target = NULL;
	g_autoptr(HvpCheck) check = NULL;
	g_autoptr(GError) verdict = NULL;

	if (manifest == NULL)
		return false;
	options->manifest = manifest;
	if (hvp_remote_show_run(cli, &(HvpRemoteRequest){ .verb = "check",
							  .patch = patch,
							  .path = path,
							  .options = options,
							  .progress = &progress }))
		return true;
	target = hvp_cli_open(cli, error);
	if (target == NULL)
		return false;
	check = hvp_check_run(target, patch, options, error);
	if (check == NULL)
		return false;
	if (!hvp_check_verdict(check, &verdict))
		cli->exit_status = hvp_error_exit_status(verdict);
	if (cli->output == HVP_CLI_JSON)
		hvp_cli_json_print_node(hvp_check_document_new(patch, check, verdict));
	else
		show_table(patch, check, verdict);
	return true;
}

bool hvp_cli_check(HvpCli *cli, char **arguments, GError **error)
{
	g_autofree char *path = NULL;
	g_auto(GStrv) accepted = NULL;
	gboolean replace = FALSE, no_replace = FALSE;
	HvpOptions options = { 0 };
	GOptionEntry entries[] = {
		{ "accept", 0, 0, G_OPTION_ARG_STRING_ARRAY, &accepted,
		  "go on though this item fails", "ITEM" },
		{ "replace", 0, 0, G_OPTION_ARG_NONE, &replace,
		  "as if it replaced all patches in force", NULL },
		{ "no-replace", 0, 0, G_OPTION_ARG_NONE, &no_replace, "as if it came beside them",
		  NULL },
		{ NULL },
	};

	if (!hvp_cli_options_parse(cli, arguments, entries, &path, error) ||
	    !hvp_cli_options_check_accepted(accepted, error) ||
	    !hvp_cli_options_read_replace(replace, no_replace, &options.replace, error))
		return false;
	options.accepted = (const char *const *)accepted;
	return run(cli, path, &options, error);
}
