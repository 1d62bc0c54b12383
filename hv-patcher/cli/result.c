/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/result.h"

#include "cli/options.h"
#include "cli/show.h"
#include "document/result-document.h"

#define MAX_TIMEOUT_SECONDS (24 * 60 * 60)
#define MIN_PAUSE_MSEC 0.01
#define MAX_PAUSE_MSEC 1000
#define USEC_PER_MSEC 1000.0

void hvp_cli_limits_clear(HvpCliLimits *self)
{
	g_free(self->timeout);
	g_free(self->max_pause);
	g_strfreev(self->accepted);
}

bool hvp_cli_limits_read(const HvpCliLimits *self, HvpOptions *ret_options, GError **error)
{
	double timeout = (double)HVP_DEFAULT_TIMEOUT_USEC / G_USEC_PER_SEC;
	double max_pause = (double)HVP_DEFAULT_MAX_PAUSE_USEC / USEC_PER_MSEC;

	if (self->timeout != NULL && !hvp_cli_options_number("--timeout", self->timeout, 0,
							     MAX_TIMEOUT_SECONDS, &timeout, error))
		return false;
	if (self->max_pause != NULL &&
	    !hvp_cli_options_number("--max-pause", self->max_pause, MIN_PAUSE_MSEC, MAX_PAUSE_MSEC,
				    &max_pause, error))
		return false;
	if (!hvp_cli_options_check_accepted(self->accepted, error))
		return false;
	ret_options->timeout_usec = (gint64)(timeout * G_USEC_PER_SEC);
	ret_options->max_pause_usec = (gint64)(max_pause * USEC_PER_MSEC);
	ret_options->no_prod = self->no_prod;
	ret_options->accepted = (const char *const *)self->accepted;
	return true;
}

/* How the user named it; NULL: not at all. */
static const char *vm_name(const HvpCli *cli)
{
	if (cli->process != NULL)
		return cli->process;
	return cli->qmp_path ? cli->qmp_path : cli->domain;
}

static void show_pause_details(const HvpResult *result)
{
	const HvpPauseTimes *pause = &result->pause;

	printf("pause: stop %" G_GINT64_FORMAT ", registers %" G_GINT64_FORMAT
	       ", sweep %" G_GINT64_FORMAT ", rewalk %" G_GINT64_FORMAT ", switch %" G_GINT64_FORMAT
	       ", resume %" G_GINT64_FORMAT " us; longest of all stops %" G_GINT64_FORMAT " us\n",
	       pause->stop_usec, pause->registers_usec, pause->sweep_usec, pause->rewalk_usec,
	       pause->switch_usec, pause->resume_usec, result->longest_pause_usec);
}

static void show_success(const HvpCli *cli, const HvpResult *result)
{
	struct libscols_table *table = hvp_cli_show_functions_table();
	g_autofree char *name = hvp_cli_output_escape(result->patch);
	g_autofree char *message = hvp_cli_output_escape(result->message);

	if (result->message != NULL)
		printf("%s\n", message);
	else
		printf("%s %s: paused %" G_GINT64_FORMAT
		       " us, %.2f s in all; %u tasks, %u attempt%s\n",
		       hvp_result_kind_name(result->kind), name, result->pause_usec,
		       (double)result->total_usec / G_USEC_PER_SEC, result->tasks, result->attempts,
		       result->attempts == 1 ? "" : "s");
	if (cli->verbose && result->attempts > 0)
		show_pause_details(result);
	for (guint i = 0; i < result->functions->len; i++) {
		const HvpFunctionResult *function = g_ptr_array_index(result->functions, i);

		hvp_cli_show_function_line(table, function->object, function->name,
					   function->old_address, function->new_address,
					   function->site);
	}
	hvp_cli_table_print(table);
}

/* A patch that is in force though something failed behind it is shown as what it is. */
static void show_table(const HvpCli *cli, const HvpResult *result, const GError *error)
{
	if (result->kind == HVP_RESULT_APPLIED || result->kind == HVP_RESULT_REVERTED)
		show_success(cli, result);
	else
		hvp_cli_show_blockers_table(result->blockers);
	if (error != NULL)
		hvp_cli_output_error_line(error);
}

void hvp_cli_result_show(HvpCli *cli, const char *operation, const HvpTarget *target,
			 const HvpResult *result, const GError *error)
{
	g_autoptr(HvpResult) nothing = NULL;

	if (result == NULL) {
		result = nothing = hvp_result_new();
		nothing->kind = hvp_result_kind_of(error);
	}
	if (cli->output == HVP_CLI_JSON)
		hvp_cli_json_print_node(hvp_result_document_new(operation, vm_name(cli), target,
								 result, error));
	else
		show_table(cli, result, error);
	cli->exit_status = error ? hvp_error_exit_status(error) : 0;
}
