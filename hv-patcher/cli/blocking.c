/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/look.h"
#include "cli/options.h"
#include "cli/show.h"
#include "engine/check.h"
#include "engine/prove.h"

#define MAX_BLOCKERS 1024U
#define EXIT_BUSY 4

/* How many functions are to be switched now: those of modules that are not loaded wait. */
static guint count_wanted(HvpTarget *target, const HvpPatch *patch)
{
	guint count = 0;

	for (guint i = 0; i < patch->object_count; i++)
		if (patch->objects[i].name == NULL ||
		    hvp_modules_find(target->modules, patch->objects[i].name) != NULL)
			count += patch->objects[i].function_count;
	return count;
}

/*
 * The text that must be empty of tasks: of the old functions; for a patch that is in force, its
 * own, which a revert would take away. Borrows from @check and @target.
 */
static GArray *find_forbidden(HvpTarget *target, const HvpPatch *patch, const HvpCheck *check,
			      GError **error)
{
	g_autoptr(GArray) forbidden = g_array_new(FALSE, FALSE, sizeof(HvpForbidden));

	if (check->already_applied) {
		const HvpModule *module = hvp_modules_find(target->modules, patch->name);
		HvpForbidden text = { .name = patch->name };

		if (module != NULL)
			text.range = module->text;
		g_array_append_val(forbidden, text);
	}
	for (guint i = 0; i < check->functions->len; i++) {
		const HvpFunctionFacts *facts =
			&g_array_index(check->functions, HvpCheckFunction, i).facts;
		HvpForbidden function = { facts->old, facts->name };

		g_array_append_val(forbidden, function);
	}
	if (!check->already_applied &&
	    (!patch->objects_known || check->functions->len < count_wanted(target, patch))) {
		if (hvp_check_verdict(check, error))
			hvp_error_set(
				error, HVP_ERROR_UNSUPPORTED,
				"only the patch's own code knows which functions it replaces");
		return NULL;
	}
	return g_steal_pointer(&forbidden);
}

static void show_json(HvpTarget *target, const HvpPatch *patch, const HvpSweep *sweep,
		      const GPtrArray *blockers)
{
	JsonBuilder *json = hvp_json_new();

	hvp_json_text(json, "patch", patch->name);
	hvp_json_text(json, "kernel", hvp_kernel_get_release(target->kernel));
	hvp_json_integer(json, "tasks", hvp_sweep_count(sweep));
	hvp_parts_add_blockers(json, blockers);
	hvp_cli_json_print(json);
}

static void show_table(const HvpSweep *sweep, const GPtrArray *blockers)
{
	hvp_cli_show_blockers_table(blockers);
	if (blockers->len == 0)
		printf("none of %u tasks is in the way\n", hvp_sweep_count(sweep));
}

static bool run(HvpCli *cli, const char *path, GError **error)
{
	const HvpOptions options = { 0 };
	g_autoptr(HvpPatch) patch = hvp_patch_open(path, error);
	g_autoptr(HvpTarget) target = patch ? hvp_cli_open(cli, error) : NULL;
	g_autoptr(HvpCheck) check = target ? hvp_check_run(target, patch, &options, error) : NULL;
	g_autoptr(GArray) forbidden = check ? find_forbidden(target, patch, check, error) : NULL;
	g_autoptr(HvpSweep) sweep = forbidden ? hvp_cli_look(target, error) : NULL;
	g_autoptr(GPtrArray) blockers = NULL;

	if (sweep == NULL)
		return false;
	blockers = hvp_prove_blockers(sweep, (const HvpForbidden *)(void *)forbidden->data,
				      forbidden->len, target, MAX_BLOCKERS);
	if (cli->output == HVP_CLI_JSON)
		show_json(target, patch, sweep, blockers);
	else
		show_table(sweep, blockers);
	cli->exit_status = blockers->len > 0 ? EXIT_BUSY : 0;
	return true;
}

bool hvp_cli_blocking(HvpCli *cli, char **arguments, GError **error)
{
	GOptionEntry entries[] = { { NULL } };
	g_autofree char *path = NULL;

	return hvp_cli_options_parse(cli, arguments, entries, &path, error) &&
	       run(cli, path, error);
}
