/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/options.h"

#include "engine/check.h"

#include <stdio.h>
#include <string.h>

#define HELP_COLUMN 28

static const char global_usage[] =
	"hvpatch [GLOBAL OPTIONS] {-d DOMAIN | --qmp SOCKET | --pid PID | --core FILE} COMMAND "
	"[OPTIONS] ...";

/* GLib's messages begin with a capital letter. @command: NULL before there is one. */
static bool set_option_error(const HvpCliCommand *command, const GError *reason, GError **error)
{
	g_autofree char *words = g_strdup(reason->message);

	words[0] = g_ascii_tolower(words[0]);
	return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s%s%s",
			     command ? command->name : "", command ? ": " : "", words);
}

/* An empty name is a variable of a script's that is not set. @command: as above. */
static bool check_filled(const HvpCliCommand *command, const GOptionEntry *entries, GError **error)
{
	for (const GOptionEntry *entry = entries; entry->long_name != NULL; entry++) {
		const char *const *value = entry->arg_data;
		bool is_text = entry->arg == G_OPTION_ARG_STRING ||
			       entry->arg == G_OPTION_ARG_FILENAME;

		if (is_text && *value != NULL && **value == '\0')
			return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s%s--%s is empty",
					     command ? command->name : "", command ? ": " : "",
					     entry->long_name);
	}
	return true;
}

static GOptionContext *context_new(const GOptionEntry *entries, gboolean *help)
{
	const GOptionEntry common[] = {
		{ "help", 'h', 0, G_OPTION_ARG_NONE, help, NULL, NULL },
		{ NULL },
	};
	GOptionContext *context = g_option_context_new(NULL);

	g_option_context_set_help_enabled(context, FALSE);
	g_option_context_add_main_entries(context, entries, NULL);
	g_option_context_add_main_entries(context, common, NULL);
	return context;
}

static void print_entry(const GOptionEntry *entry)
{
	g_autofree char *name = entry->short_name ? g_strdup_printf("-%c, --%s", entry->short_name,
								    entry->long_name)
						  : g_strdup_printf("--%s", entry->long_name);
	g_autofree char *whole = entry->arg_description
					 ? g_strdup_printf("%s %s", name, entry->arg_description)
					 : g_strdup(name);

	printf("  %-*s %s\n", HELP_COLUMN, whole, entry->description ? entry->description : "");
}

static void print_entries(const GOptionEntry *entries)
{
	for (const GOptionEntry *entry = entries; entry->long_name != NULL; entry++)
		if ((entry->flags & G_OPTION_FLAG_HIDDEN) == 0)
			print_entry(entry);
}

static void print_command_help(const HvpCliCommand *command, const GOptionEntry *entries)
{
	const GOptionEntry help = { "help", 'h', 0, G_OPTION_ARG_NONE, NULL, "print this", NULL };

	printf("usage: hvpatch [GLOBAL OPTIONS] %s [OPTIONS]%s%s\n\n%s\n\noptions:\n",
	       command->name, command->operand ? " " : "", command->operand ? command->operand : "",
	       command->summary);
	print_entries(entries);
	print_entry(&help);
}

static void print_global_help(const GOptionEntry *entries)
{
	const GOptionEntry help = { "help", 'h', 0, G_OPTION_ARG_NONE, NULL, "print this", NULL };

	printf("usage: %s\n\nPatches the kernel of a running VM from the host.\n\n"
	       "global options:\n",
	       global_usage);
	print_entries(entries);
	print_entry(&help);
	printf("\ncommands (hvpatch COMMAND --help for the options of each):\n");
	for (const HvpCliCommand *command = hvp_cli_commands; command->name != NULL; command++) {
		g_autofree char *whole = command->operand ? g_strdup_printf("%s %s", command->name,
									    command->operand)
							  : g_strdup(command->name);

		printf("  %-*s %s\n", HELP_COLUMN, whole, command->summary);
	}
}

static void list_entries(const GOptionEntry *entries)
{
	for (const GOptionEntry *entry = entries; entry->long_name != NULL; entry++)
		if ((entry->flags & G_OPTION_FLAG_HIDDEN) == 0)
			printf("--%s\n", entry->long_name);
	printf("--help\n");
}

/* What the options say as text; each is NULL where the option was not given. */
typedef struct {
	char *backend;
	char *trap;
	char *output;
	gboolean version;
} GlobalText;

static void global_text_clear(GlobalText *self)
{
	g_free(self->backend);
	g_free(self->trap);
	g_free(self->output);
}

static bool take_output(HvpCli *cli, const char *text, GError **error)
{
	if (text != NULL && strcmp(text, "json") == 0)
		cli->output = HVP_CLI_JSON;
	else if (text != NULL && strcmp(text, "table") != 0)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "--output: '%s' is neither table nor json", text);
	return true;
}

static bool take_backend(HvpCli *cli, const char *text, GError **error)
{
	g_autofree char *all = NULL;

	if (text == NULL)
		return true;
	for (guint i = 0; hvp_target_backend_names[i] != NULL; i++)
		if (strcmp(text, hvp_target_backend_names[i]) == 0) {
			cli->backend = (HvpTargetBackend)i;
			return true;
		}
	all = g_strjoinv(", ", (char **)hvp_target_backend_names);
	return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "--backend: '%s' is none of %s",
			     text, all);
}

/* The gdb stub's breakpoints are the gentler trap: the guest's text stays as it is. */
static bool take_trap(HvpCli *cli, const char *text, GError **error)
{
	if (text == NULL || strcmp(text, "auto") == 0 || strcmp(text, "breakpoint") == 0)
		return true;
	if (strcmp(text, "spin") != 0)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "--trap: '%s' is none of auto, breakpoint, spin", text);
	cli->trap_kind = HVP_KEEPER_SPINS;
	return true;
}

/* At most one thing to work on. */
static bool check_one_vm(const HvpCli *cli, GError **error)
{
	const struct {
		const char *name;
		const char *value;
	} ways[] = { { "domain", cli->domain },
		     { "qmp", cli->qmp_path },
		     { "core", cli->core_path },
		     { "pid", cli->process } };
	const char *found = NULL;

	for (guint i = 0; i < G_N_ELEMENTS(ways); i++) {
		if (ways[i].value == NULL)
			continue;
		if (found != NULL)
			return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
					     "--%s and --%s exclude each other", found,
					     ways[i].name);
		found = ways[i].name;
	}
	if (found == NULL || strcmp(found, "domain") == 0)
		return true;
	return (cli->connect_uri == NULL && !cli->monitor) ||
	       hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
			     "--%s is for domains, not for --%s",
			     cli->connect_uri ? "connect" : "monitor", found);
}

static bool take_process(HvpCli *cli, GError **error)
{
	guint64 pid = 0;

	if (cli->process == NULL)
		return true;
	if (!g_ascii_string_to_unsigned(cli->process, 10, 1, G_MAXINT, &pid, NULL))
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "--pid: '%s' is not the number of a process", cli->process);
	cli->pid = (int)pid;
	return true;
}

static bool check_core(const HvpCli *cli, const GlobalText *text, GError **error)
{
	if (cli->core_path != NULL && cli->agent_path != NULL)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "--agent is for a running VM, not for --core");
	if (cli->core_path != NULL && cli->oracle_path != NULL)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "--oracle is for a running VM, not for --core");
	if (cli->core_path != NULL && text->trap != NULL)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "--trap is for a running VM, not for --core");
	if (cli->core_path != NULL && cli->backend != HVP_TARGET_BACKEND_AUTO)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "--backend is for a running VM, not for --core");
	return true;
}

static bool take_global(HvpCli *cli, const GlobalText *text, GError **error)
{
	if (!take_output(cli, text->output, error))
		return false;
	return take_backend(cli, text->backend, error) && take_trap(cli, text->trap, error) &&
	       take_process(cli, error) && check_one_vm(cli, error) &&
	       check_core(cli, text, error);
}

/* Takes over @arguments but for the program's name and a "--" in front. */
static char **take_rest(char **arguments)
{
	guint first = arguments[0] == NULL ? 0 : 1;

	if (first == 1 && arguments[1] != NULL && strcmp(arguments[1], "--") == 0)
		first = 2;
	return g_strdupv(arguments + first);
}

/* All of them, into @cli and @text; the caller's. */
static GOptionEntry *global_entries_new(HvpCli *cli, GlobalText *text)
{
	const GOptionEntry entries[] = {
		{ "connect", 'c', 0, G_OPTION_ARG_STRING, &cli->connect_uri,
		  "libvirt's connection, as virsh has it", "URI" },
		{ "domain", 'd', 0, G_OPTION_ARG_STRING, &cli->domain,
		  "a running domain of libvirt: name, UUID or id", "DOMAIN" },
		{ "qmp", 0, 0, G_OPTION_ARG_FILENAME, &cli->qmp_path,
		  "monitor socket of the VM's QEMU", "SOCKET" },
		{ "core", 0, 0, G_OPTION_ARG_FILENAME, &cli->core_path,
		  "a dump instead of a VM: read-only commands", "FILE" },
		{ "pid", 0, 0, G_OPTION_ARG_STRING, &cli->process,
		  "a process with vCPUs of KVM: commands that only look", "PID" },
		{ "monitor", 0, 0, G_OPTION_ARG_NONE, &cli->monitor,
		  "a domain's monitor may be used where it takes that", NULL },
		{ "agent", 0, 0, G_OPTION_ARG_FILENAME, &cli->agent_path,
		  "socket of the agent in the guest, or none", "SOCKET" },
		{ "oracle", 0, 0, G_OPTION_ARG_FILENAME, &cli->oracle_path,
		  "socket of hvpatch's plugin in an emulating QEMU, or none", "SOCKET" },
		{ "backend", 0, 0, G_OPTION_ARG_STRING, &text->backend,
		  "how to reach the VM: auto, kvm, gdbstub", "NAME" },
		{ "trap", 0, 0, G_OPTION_ARG_STRING, &text->trap,
		  "how to catch a guest thread: auto, breakpoint, spin", "KIND" },
		{ "output", 'o', 0, G_OPTION_ARG_STRING, &text->output, "table or json", "FORMAT" },
		{ "direct", 0, 0, G_OPTION_ARG_NONE, &cli->direct,
		  "do it here, also where hvpatchd runs", NULL },
		{ "verbose", 'v', 0, G_OPTION_ARG_NONE, &cli->verbose, "say more, on stderr",
		  NULL },
		{ "version", 0, 0, G_OPTION_ARG_NONE, &text->version, "print the version", NULL },
		{ NULL },
	};

	return g_memdup2(entries, sizeof entries);
}

bool hvp_cli_options_parse_global(HvpCli *cli, int argc, char **argv, char ***ret_rest,
				  GError **error)
{
	g_auto(GStrv) arguments = argc > 0 ? g_strdupv(argv) : g_new0(char *, 1);
	__attribute__((cleanup(global_text_clear))) GlobalText text = { 0 };
	g_autofree GOptionEntry *entries = global_entries_new(cli, &text);
	g_autoptr(GOptionContext) context = NULL;
	gboolean help = FALSE;
	g_autoptr(GError) reason = NULL;

	context = context_new(entries, &help);
	g_option_context_set_strict_posix(context, TRUE);
	if (!g_option_context_parse_strv(context, &arguments, &reason))
		return set_option_error(NULL, reason, error);
	if (help)
		print_global_help(entries);
	else if (text.version)
		printf("hvpatch %s\n", HVP_VERSION);
	if (help || text.version)
		return false;
	/* libvirt's default, as for virsh. */
	if (cli->connect_uri != NULL && cli->connect_uri[0] == '\0')
		g_clear_pointer(&cli->connect_uri, g_free);
	if (!check_filled(NULL, entries, error) || !take_global(cli, &text, error))
		return false;
	*ret_rest = take_rest(arguments);
	return true;
}

/* What @argument says of the output, or @next where it is but the option; NULL: nothing. */
static const char *find_output(const char *argument, const char *next)
{
	const char *rest;

	if (g_str_has_prefix(argument, "--output"))
		return argument[8] == '=' ? argument + 9 : argument[8] == '\0' ? next : NULL;
	if (argument[0] != '-' || argument[1] == '-')
		return NULL;
	/* Behind options that take nothing, as in -vo. */
	rest = argument + 1 + strspn(argument + 1, "vh");
	if (*rest != 'o')
		return NULL;
	return rest[1] == '\0' ? next : rest + 1;
}

bool hvp_cli_options_want_json(char **argv)
{
	bool wants = false;

	for (guint i = 0; argv[i] != NULL; i++) {
		const char *output = find_output(argv[i], argv[i + 1]);

		if (g_strcmp0(output, "json") == 0 || g_strcmp0(output, "table") == 0)
			wants = output[0] == 'j';
	}
	return wants;
}

/* What stands in @arguments behind the command's name, options taken out. */
static bool take_operand(const HvpCliCommand *command, char **arguments, char **ret_operand,
			 GError **error)
{
	g_auto(GStrv) rest = take_rest(arguments);
	guint count = g_strv_length(rest);
	guint wanted = command->operand ? 1 : 0;
	bool is_optional = wanted > 0 && command->operand[0] == '[';

	if (count < wanted && !is_optional)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: %s is missing",
				     command->name, command->operand);
	if (count > wanted)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "%s: '%s' is one argument too many", command->name,
				     rest[wanted]);
	if (wanted > 0 && count > 0 && rest[0][0] == 0)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: %s is empty",
				     command->name, command->operand);
	if (ret_operand != NULL)
		*ret_operand = g_strdup(rest[0]);
	return true;
}

/* Whether @argument, as it stands on the command line, is an option of @entry. */
static bool is_entry(const GOptionEntry *entry, const char *argument)
{
	gsize length = strlen(entry->long_name);

	if (argument[0] != '-')
		return false;
	if (argument[1] != '-')
		return entry->short_name != 0 && argument[1] == entry->short_name;
	return strncmp(argument + 2, entry->long_name, length) == 0 &&
	       (argument[2 + length] == '\0' || argument[2 + length] == '=');
}

/* How it is called there; NULL: it is no global option. The caller's. */
static char *find_global(const char *argument)
{
	HvpCli cli = { 0 };
	GlobalText text = { 0 };
	g_autofree GOptionEntry *entries = global_entries_new(&cli, &text);

	for (const GOptionEntry *entry = entries; entry->long_name != NULL; entry++)
		if (is_entry(entry, argument))
			return argument[1] == '-' ? g_strdup_printf("--%s", entry->long_name)
						  : g_strdup_printf("-%c", entry->short_name);
	return NULL;
}

/* The one of @arguments that GLib's @reason ends with, if it is a global option; the caller's. */
static char *find_misplaced(char **arguments, const GError *reason)
{
	if (!g_error_matches(reason, G_OPTION_ERROR, G_OPTION_ERROR_UNKNOWN_OPTION))
		return NULL;
	for (guint i = 0; arguments[i] != NULL; i++) {
		char *name = g_str_has_suffix(reason->message, arguments[i])
				     ? find_global(arguments[i])
				     : NULL;

		if (name != NULL)
			return name;
	}
	return NULL;
}

static bool refuse_options(const HvpCliCommand *command, char **arguments, const GError *reason,
			   GError **error)
{
	g_autofree char *misplaced = find_misplaced(arguments, reason);

	if (misplaced == NULL)
		return set_option_error(command, reason, error);
	return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
			     "%s: %s is a global option: it stands before the command",
			     command->name, misplaced);
}

bool hvp_cli_options_parse(const HvpCli *cli, char **arguments, GOptionEntry *entries,
			   char **ret_operand, GError **error)
{
	g_auto(GStrv) own = g_strdupv(arguments);
	g_autoptr(GOptionContext) context = NULL;
	gboolean help = FALSE;
	g_autoptr(GError) reason = NULL;

	if (cli->listing) {
		list_entries(entries);
		return false;
	}
	context = context_new(entries, &help);
	if (!g_option_context_parse_strv(context, &own, &reason))
		return refuse_options(cli->command, arguments, reason, error);
	if (help) {
		print_command_help(cli->command, entries);
		return false;
	}
	return check_filled(cli->command, entries, error) &&
	       take_operand(cli->command, own, ret_operand, error);
}

/* Digits with at most one point, as people write them; below zero is known to be out of range. */
static bool parse_number(const char *text, double *ret_value)
{
	const char *digits = text[0] == '-' ? text + 1 : text;
	char *end = NULL;

	if (!g_ascii_isdigit(digits[0]) || strspn(digits, "0123456789.") != strlen(digits))
		return false;
	*ret_value = g_ascii_strtod(text, &end);
	return *end == '\0';
}

bool hvp_cli_options_number(const char *option, const char *text, double minimum, double maximum,
			    double *ret_value, GError **error)
{
	double value;

	if (!parse_number(text, &value))
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: '%s' is not a number",
				     option, text);
	/* -0 would be within. */
	if (!(value >= minimum && value <= maximum) || text[0] == '-')
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "%s: %s is not between %g and %.16g", option, text, minimum,
				     maximum);
	*ret_value = value;
	return true;
}

bool hvp_cli_options_count(const char *option, const char *text, guint64 minimum, guint64 maximum,
			   guint64 *ret_value, GError **error)
{
	double value;

	if (!hvp_cli_options_number(option, text, (double)minimum, (double)maximum, &value, error))
		return false;
	if (value != (double)(guint64)value)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: %s is no whole number",
				     option, text);
	*ret_value = (guint64)value;
	return true;
}

bool hvp_cli_options_read_replace(gboolean replace, gboolean no_replace, HvpReplace *ret_replace,
				  GError **error)
{
	if (replace && no_replace)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "--replace and --no-replace exclude each other");
	*ret_replace = replace	    ? HVP_REPLACE_YES
		       : no_replace ? HVP_REPLACE_NO
				    : HVP_REPLACE_AS_PATCH_SAYS;
	return true;
}

bool hvp_cli_options_check_accepted(char **names, GError **error)
{
	for (guint i = 0; names != NULL && names[i] != NULL; i++) {
		g_autofree char *known = NULL;

		if (g_strv_contains(hvp_check_acceptable_items, names[i]))
			continue;
		known = g_strjoinv(", ", (char **)hvp_check_acceptable_items);
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "--accept: '%s' is no item that can be accepted (%s)",
				     names[i], known);
	}
	return true;
}
