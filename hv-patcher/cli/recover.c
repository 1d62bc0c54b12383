/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/note.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/recover-all.h"
#include "cli/remote-show.h"
#include "document/recovery-document.h"
#include "engine/transaction.h"

static void show(const HvpCli *cli, const char *done)
{
	g_autofree char *escaped = hvp_cli_output_escape(done);

	if (cli->output == HVP_CLI_JSON)
		hvp_cli_json_print_node(hvp_recovery_document_new(done));
	else
		printf("%s\n", done[0] ? escaped : "nothing to recover");
}

char *hvp_cli_recover_one(HvpTarget *target, HvpOptions *options, GError **error)
{
	g_autoptr(HvpRecovery) recovery = NULL;
	bool ok = hvp_transaction_recover(target, options, &recovery, error);

	hvp_cli_progress_end(options->progress_data);
	if (!ok)
		return NULL;
	return recovery ? hvp_recovery_describe(recovery) : g_strdup("");
}

static bool recover(HvpCli *cli, HvpOptions *options, GError **error)
{
	g_autoptr(HvpTarget) target = hvp_cli_open(cli, error);
	g_autofree char *done = target ? hvp_cli_recover_one(target, options, error) : NULL;

	if (done == NULL)
		return false;
	show(cli, done);
	hvp_cli_note_update(cli, target, NULL, NULL, NULL);
	return true;
}

bool hvp_cli_recover(HvpCli *cli, char **arguments, GError **error)
{
	HvpCliProgress progress = hvp_cli_progress_begin();
	HvpOptions options = { .timeout_usec = HVP_DEFAULT_TIMEOUT_USEC,
			       .max_pause_usec = HVP_DEFAULT_MAX_PAUSE_USEC,
			       .progress = hvp_cli_progress_show,
			       .progress_data = &progress };
	gboolean all = FALSE;
	GOptionEntry entries[] = {
		{ "all", 0, 0, G_OPTION_ARG_NONE, &all,
		  "every domain of which something is left; never by hvpatchd", NULL },
		{ NULL },
	};

	if (!hvp_cli_options_parse(cli, arguments, entries, NULL, error))
		return false;
	if (all)
		return hvp_recover_all(cli, &options, error);
	if (hvp_remote_show_run(cli, &(HvpRemoteRequest){ .verb = "recover",
							  .options = &options,
							  .progress = &progress }))
		return true;
	return recover(cli, &options, error);
}
