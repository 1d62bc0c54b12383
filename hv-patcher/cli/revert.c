/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/revert.h"

#include "cli/note.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/remote-show.h"
#include "cli/result.h"

static HvpResult *run(HvpCli *cli, const char *name, const HvpOptions *options,
		      HvpTarget **ret_target, GError **error)
{
	*ret_target = hvp_cli_open(cli, error);
	if (*ret_target == NULL)
		return NULL;
	hvp_cli_find_agent(cli, *ret_target);
	return hvp_revert(*ret_target, name, NULL, options, error);
}

bool hvp_cli_revert(HvpCli *cli, char **arguments, GError **error)
{
	HvpCliProgress progress = hvp_cli_progress_begin();
	HvpOptions options = { .progress = hvp_cli_progress_show, .progress_data = &progress };
	g_auto(HvpCliLimits) limits = { 0 };
	GOptionEntry entries[] = {
		{ "timeout", 0, 0, G_OPTION_ARG_STRING, &limits.timeout,
		  "give up when tasks stay in the way (30)", "SECONDS" },
		{ "max-pause", 0, 0, G_OPTION_ARG_STRING, &limits.max_pause,
		  "never stop the VM for longer to switch (10)", "MS" },
		{ "no-prod", 0, 0, G_OPTION_ARG_NONE, &limits.no_prod,
		  "leave sleeping tasks that are in the way alone", NULL },
		{ NULL },
	};
	g_autofree char *name = NULL;
	g_autoptr(HvpTarget) target = NULL;
	g_autoptr(HvpResult) result = NULL;
	g_autoptr(GError) reason = NULL;

	if (!hvp_cli_options_parse(cli, arguments, entries, &name, error) ||
	    !hvp_cli_limits_read(&limits, &options, error))
		return false;
	if (hvp_remote_show_run(cli, &(HvpRemoteRequest){ .verb = "revert",
							  .name = name,
							  .options = &options,
							  .has_limits = true,
							  .progress = &progress }))
		return true;
	result = run(cli, name, &options, &target, &reason);
	hvp_cli_progress_end(&progress);
	hvp_cli_result_show(cli, "revert", target, result, reason);
	hvp_cli_note_update(cli, target, NULL, NULL, result);
	return true;
}
