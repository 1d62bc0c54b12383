/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/check.h"

#include "cli/options.h"
#include "cli/remote-show.h"
#include "cli/show.h"

static void show_replace(JsonBuilder *json, HvpPatchTristate replace)
{
	if (replace == HVP_PATCH_UNKNOWN)
		hvp_cli_json_text(json, "replace", NULL);
	else
		hvp_cli_json_bool(json, "replace", replace == HVP_PATCH_YES);
}

static void show_item_json(JsonBuilder *json, const HvpCheckItem *item)
{
	json_builder_begin_object(json);
	hvp_cli_json_text(json, "item", item->item);
	hvp_cli_json_bool(json, "ok", item->ok);
	hvp_cli_json_bool(json, "accepted", item->accepted);
	hvp_cli_json_text(json, "why", item->why ? item->why : "");
	json_builder_end_object(json);
}

static void show_json(const HvpPatch *patch, const HvpCheck *check, const GError *verdict)
{
	JsonBuilder *json = hvp_cli_json_new();

	hvp_cli_json_bool(json, "applicable", check->applicable);
	hvp_cli_json_bool(json, "already_applied", check->already_applied);
	hvp_cli_json_error(json, verdict);
	hvp_cli_json_text(json, "format", hvp_patch_format_name(patch->format));
	hvp_cli_json_begin_array(json, "items");
	for (guint i = 0; i < check->items->len; i++)
		show_item_json(json, &g_array_index(check->items, HvpCheckItem, i));
	json_builder_end_array(json);
	hvp_cli_json_begin_array(json, "functions");
	for (guint i = 0; i < check->functions->len; i++) {
		const HvpCheckFunction *function = &g_array_index(check->functions,
								  HvpCheckFunction, i);

		hvp_cli_show_function_json(
			json, function->facts.object ? function->facts.object : "vmlinux",
			function->facts.name, function->facts.old.start, hvp_gva(0),
			function->site.site);
	}
	json_builder_end_array(json);
	show_replace(json, patch->replace);
	hvp_cli_json_print(json);
}

static void show_items_table(const HvpCheck *check)
{
	static const HvpCliColumn columns[] = {
		{ "ITEM", 0 },
		{ "OK", 0 },
		{ "WHY", SCOLS_FL_WRAP },
		{ NULL },
	};
	struct libscols_table *table = hvp_cli_table_new(columns);

	for (guint i = 0; i < check->items->len; i++) {
		const HvpCheckItem *item = &g_array_index(check->items, HvpCheckItem, i);

		hvp_cli_table_add(table, item->item,
				  item->ok	   ? "ok"
				  : item->accepted ? "accepted"
						   : "no",
				  item->why, NULL);
	}
	hvp_cli_table_print(table);
}

static void show_functions_table(const HvpCheck *check)
{
	static const HvpCliColumn columns[] = {
		{ "OBJECT", 0 }, { "FUNCTION", 0 }, { "OLD", 0 }, { "SITE", 0 }, { NULL },
	};
	struct libscols_table *table = hvp_cli_table_new(columns);

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

static bool run(HvpCli *cli, const char *path, const HvpOptions *options, GError **error)
{
	HvpCliProgress progress = hvp_cli_progress_begin();
	g_autoptr(HvpPatch) patch = hvp_patch_open(path, error);
	g_autoptr(HvpTarget) target = NULL;
	g_autoptr(HvpCheck) check = NULL;
	g_autoptr(GError) verdict = NULL;

	if (patch == NULL)
		return false;
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
		show_json(patch, check, verdict);
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
