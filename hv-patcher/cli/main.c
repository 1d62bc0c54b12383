/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hvpatch: patches the kernel of a running VM from the host. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/options.h"
#include "cli/output.h"

const HvpCliCommand hvp_cli_commands[] = {
	{ "info", NULL, "Says which kernel runs in the VM and whether it can be patched.",
	  hvp_cli_info, true },
	{ "tasks", NULL, "Lists every task with its state and what its stack says.", hvp_cli_tasks,
	  true },
	{ "check", "PATCH", "Says whether a livepatch module can be applied; changes nothing.",
	  hvp_cli_check, true },
	{ "apply", "PATCH", "Applies a livepatch module.", hvp_cli_apply, false, true },
	{ "revert", "NAME", "Takes an applied patch back.", hvp_cli_revert, false, true },
	{ "status", NULL, "Shows what is applied, as the guest itself has it.", hvp_cli_status,
	  true },
	{ "blocking", "PATCH", "Names the tasks that stand in the functions of a patch now.",
	  hvp_cli_blocking, true },
	{ "recover", NULL, "Finishes what a killed hvpatch left.", hvp_cli_recover, false, false,
	  true },
	{ "list", NULL, "Lists libvirt's domains: kernel, patches, whether they can be patched.",
	  hvp_cli_list, false },
	{ "install", "[PATCH]",
	  "Has a patch applied whenever the domain has started; or lists them.", hvp_cli_install,
	  false },
	{ "uninstall", "NAME", "Takes a patch from those that are applied at each start.",
	  hvp_cli_install_remove, false },
	{ "watch", NULL, "Tells what becomes of the domains' patches, as it happens.",
	  hvp_cli_watch, false },
	{ "doctor", NULL, "Says what host and VM lack for hvpatch, and what mends it.",
	  hvp_cli_doctor, false },
	{ "rehearse", "PATCH", "Tries a patch out in a throw-away guest and reports.",
	  hvp_cli_rehearse, false },
	{ "domains", NULL, "Lists the domains that hvpatchd knows, as it last saw them.",
	  hvp_cli_domains, false },
	{ "operations", "[ID]", "Lists hvpatchd's operations, or shows or follows one.",
	  hvp_cli_operations, false },
	{ "events", NULL, "Tells what hvpatchd tells: operations, domains, patches.",
	  hvp_cli_events, false },
	{ NULL },
};

static const HvpCliCommand hidden_command = { "complete", NULL, "Lists what may come next.",
					      hvp_cli_complete, true };

const HvpCliCommand *hvp_cli_find_command(const char *name)
{
	for (const HvpCliCommand *command = hvp_cli_commands; command->name != NULL; command++)
		if (strcmp(command->name, name) == 0)
			return command;
	return strcmp(name, hidden_command.name) == 0 ? &hidden_command : NULL;
}

/* Debug messages go nowhere but with --verbose; nothing of the log goes to stdout. */
static GLogWriterOutput write_log(GLogLevelFlags level, const GLogField *fields, gsize count,
				  gpointer user_data)
{
	const HvpCli *cli = user_data;
	g_autofree char *text = NULL;

	if (!cli->verbose && (level & (G_LOG_LEVEL_DEBUG | G_LOG_LEVEL_INFO)) != 0)
		return G_LOG_WRITER_HANDLED;
	for (gsize i = 0; i < count; i++)
		if (strcmp(fields[i].key, "MESSAGE") == 0)
			text = hvp_cli_output_escape(fields[i].value);
	fprintf(stderr, "hvpatch: %s\n", text ? text : "");
	return G_LOG_WRITER_HANDLED;
}

static bool find_command(HvpCli *cli, char **arguments, GError **error)
{
	if (arguments[0] == NULL)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "a command is missing; see hvpatch --help");
	cli->command = hvp_cli_find_command(arguments[0]);
	if (cli->command == NULL)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "there is no command '%s'; see hvpatch --help", arguments[0]);
	return true;
}

/* Of arguments that are wrong the rest was not read, and with it perhaps -o json. */
static void show_failure(HvpCli *cli, char **argv, const GError *error)
{
	if (g_error_matches(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT) &&
	    hvp_cli_options_want_json(argv))
		cli->output = HVP_CLI_JSON;
	cli->exit_status = hvp_cli_output_fail(cli, error);
}

static bool run_command(HvpCli *cli, int argc, char **argv, GError **error)
{
	g_auto(GStrv) arguments = NULL;

	return hvp_cli_options_parse_global(cli, argc, argv, &arguments, error) &&
	       find_command(cli, arguments, error) && cli->command->run(cli, arguments, error);
}

/* A closed stdout must not become the monitor's descriptor, into which we would then print. */
static bool reserve_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	return fd >= 0 && close(fd) == 0;
}

/* By the pipe itself: what the first write that failed said is forgotten by now. */
static bool has_reader_left(void)
{
	struct pollfd output = { .fd = STDOUT_FILENO };

	return poll(&output, 1, 0) > 0 && (output.revents & POLLERR) != 0;
}

/* A full disk must not look like success; a reader that has seen enough may go. */
static int finish_output(int exit_status)
{
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return exit_status;
	if (errno == EPIPE || has_reader_left())
		return exit_status;
	fprintf(stderr, "hvpatch: the output could not be written: %s\n",
		errno ? g_strerror(errno) : "a write failed");
	return exit_status ? exit_status : 1;
}

int main(int argc, char **argv)
{
	HvpCli cli = { 0 };
	g_autoptr(GError) error = NULL;

	/* Characters of the user's locale; numbers and messages stay as scripts know them. */
	setlocale(LC_CTYPE, "");
	if (!reserve_streams())
		return 1;
	signal(SIGPIPE, SIG_IGN);
	hvp_libvirt_be_quiet();
	g_log_set_writer_func(write_log, &cli, NULL);
	if (!run_command(&cli, argc, argv, &error) && error != NULL)
		show_failure(&cli, argv, error);
	g_free(cli.qmp_path);
	g_free(cli.core_path);
	g_free(cli.domain);
	g_free(cli.process);
	g_free(cli.connect_uri);
	g_free(cli.found_uri);
	g_free(cli.found_uuid);
	g_free(cli.agent_path);
	g_free(cli.oracle_path);
	return finish_output(cli.exit_status);
}
