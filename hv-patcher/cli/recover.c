/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/note.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
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

bool hvp_cli_recover(HvpCli *cli, char **arguments, GError **error)
{
	HvpCliProgress progress = hvp_cli_progress_begin();
	HvpOptions options = { .timeout_usec = HVP_DEFAULT_TIMEOUT_USEC,
			       .max_pause_usec = HVP_DEFAULT_MAX_PAUSE_USEC,
			       .progress = hvp_cli_progress_show,
			       .progress_data = &progress };
	GOptionEntry entries[] = { { NULL } };
	g_autoptr(HvpTarget) target = NULL;
	g_autoptr(HvpRecovery) recovery = NULL;
	g_autofree char *done = NULL;
	bool ok;

	if (!hvp_cli_options_parse(cli, arguments, entries, NULL, error))
		return false;
	target = hvp_cli_open(cli, error);
	if (target == NULL)
		return false;
	ok = hvp_transaction_recover(target, &options, &recovery, error);
	hvp_cli_progress_end(&progress);
	if (!ok)
		return false;
	done = recovery ? hvp_recovery_describe(recovery) : g_strdup("");
	show(cli, done);
	hvp_cli_note_update(cli, target, NULL, NULL, NULL);
	return true;
}
