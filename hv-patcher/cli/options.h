/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Strict reading of the command line: what is not known, missing, too much or out of
 * range is INVALID_ARGUMENT with one line that names it.
 */
#pragma once

#include "cli/cli.h"
#include "engine/options.h"

/*
 * Reads the global options into @cli, up to the command; @ret_rest is the command and all behind
 * it (the caller's). False without an error: --help or --version was printed.
 */
bool hvp_cli_options_parse_global(HvpCli *cli, int argc, char **argv, char ***ret_rest,
				  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Whether JSON is asked for anywhere in @argv (ended by NULL): for an error in the arguments
 * themselves, behind which nobody has read on.
 */
bool hvp_cli_options_want_json(char **argv);

/*
 * Reads the options of cli->command from @arguments by @entries (ended by an empty one) and
 * its operand, if it takes one (@ret_operand, the caller's; else NULL). False without an error:
 * --help was printed, or options were listed for completion.
 */
bool hvp_cli_options_parse(const HvpCli *cli, char **arguments, GOptionEntry *entries,
			   char **ret_operand, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * A decimal number in [@minimum, @maximum], of which neither is below 0, fractions allowed; @option
 * is for the message.
 */
bool hvp_cli_options_number(const char *option, const char *text, double minimum, double maximum,
			    double *ret_value, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The same without fractions; @maximum is at most 2^53 - 1. */
bool hvp_cli_options_count(const char *option, const char *text, guint64 minimum, guint64 maximum,
			   guint64 *ret_value, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What --replace and --no-replace together mean. */
bool hvp_cli_options_read_replace(gboolean replace, gboolean no_replace, HvpReplace *ret_replace,
				  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether all that --accept names are items of check; @names may be NULL. */
bool hvp_cli_options_check_accepted(char **names, GError **error) G_GNUC_WARN_UNUSED_RESULT;
