/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/rehearsal.h"

#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/rehearse-show.h"
#include "cli/result.h"
#include "rehearse/html.h"

#define MAX_WORKLOAD_SECONDS (24 * 60 * 60)

/* What the options say; text is NULL where an option was not given. */
typedef struct {
	char *kernel;
	char *initrd;
	char *workload;
	char *workload_timeout;
	char **modules;
	char *rounds;
	char *vcpus;
	char *memory;
	char *html;
	char *qemu;
	char *plugin;
	HvpCliLimits limits;
} RehearseText;

static void rehearse_text_clear(RehearseText *self)
{
	g_free(self->kernel);
	g_free(self->initrd);
	g_free(self->workload);
	g_free(self->workload_timeout);
	g_strfreev(self->modules);
	g_free(self->rounds);
	g_free(self->vcpus);
	g_free(self->memory);
	g_free(self->html);
	g_free(self->qemu);
	g_free(self->plugin);
	hvp_cli_limits_clear(&self->limits);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RehearseText, rehearse_text_clear)

static bool parse(HvpCli *cli, char **arguments, RehearseText *text, char **ret_path,
		  GError **error)
{
	GOptionEntry entries[] = {
		{ "kernel", 0, 0, G_OPTION_ARG_FILENAME, &text->kernel,
		  "the kernel to boot, such as /boot/vmlinuz-*", "FILE" },
		{ "initrd", 0, 0, G_OPTION_ARG_FILENAME, &text->initrd,
		  "its user space; without, busybox", "FILE" },
		{ "workload", 0, 0, G_OPTION_ARG_FILENAME, &text->workload,
		  "run in the guest; has to exit with 0", "SCRIPT" },
		{ "workload-timeout", 0, 0, G_OPTION_ARG_STRING, &text->workload_timeout,
		  "how long one run may take (300)", "SECONDS" },
		{ "module", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &text->modules,
		  "load this module in the guest first", "FILE" },
		{ "rounds", 0, 0, G_OPTION_ARG_STRING, &text->rounds,
		  "apply and revert so often (1)", "N" },
		{ "html", 0, 0, G_OPTION_ARG_FILENAME, &text->html,
		  "write the report with the code's coverage", "FILE" },
		{ "vcpus", 0, 0, G_OPTION_ARG_STRING, &text->vcpus, "of the guest (2)", "N" },
		{ "memory", 0, 0, G_OPTION_ARG_STRING, &text->memory, "of the guest (512)", "MIB" },
		{ "qemu", 0, 0, G_OPTION_ARG_FILENAME, &text->qemu, "instead of qemu-system-x86_64",
		  "PROGRAM" },
		{ "plugin", 0, 0, G_OPTION_ARG_FILENAME, &text->plugin,
		  "instead of the one that is installed", "FILE" },
		{ "timeout", 0, 0, G_OPTION_ARG_STRING, &text->limits.timeout,
		  "give up when tasks stay in the way (30)", "SECONDS" },
		{ "max-pause", 0, 0, G_OPTION_ARG_STRING, &text->limits.max_pause,
		  "never stop the VM for longer to switch (200)", "MS" },
		{ "accept", 0, 0, G_OPTION_ARG_STRING_ARRAY, &text->limits.accepted,
		  "go on though this item of check fails", "ITEM" },
		{ "no-prod", 0, 0, G_OPTION_ARG_NONE, &text->limits.no_prod,
		  "leave sleeping tasks that are in the way alone", NULL },
		{ NULL },
	};

	return hvp_cli_options_parse(cli, arguments, entries, ret_path, error);
}

/* A whole number, @ret_value's own where the option was not given. */
static bool read_count(const char *option, const char *text, guint minimum, guint maximum,
		       guint *ret_value, GError **error)
{
	guint64 value;

	if (text == NULL)
		return true;
	if (!hvp_cli_options_count(option, text, minimum, maximum, &value, error))
		return false;
	*ret_value = (guint)value;
	return true;
}

/* Into @ret_order, which borrows @text. */
static bool read_order(const HvpCli *cli, const RehearseText *text, HvpRehearsalOrder *ret_order,
		       GError **error)
{
	double seconds = (double)HVP_REHEARSAL_DEFAULT_WORKLOAD_USEC / G_USEC_PER_SEC;

	if (cli->qmp_path != NULL || cli->core_path != NULL || cli->domain != NULL ||
	    cli->process != NULL || cli->connect_uri != NULL || cli->agent_path != NULL)
		return hvp_error_set(
			error, HVP_ERROR_INVALID_ARGUMENT,
			"rehearse: it boots a guest of its own and cannot be combined with "
			"--domain, --connect, --qmp, --core, --pid or --agent");
	if (text->kernel == NULL)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "rehearse: which kernel? --kernel FILE is missing");
	ret_order->kernel_path = text->kernel;
	ret_order->initrd_path = text->initrd;
	ret_order->workload_path = text->workload;
	ret_order->module_paths = (const char *const *)text->modules;
	ret_order->qemu_path = text->qemu;
	ret_order->plugin_path = text->plugin;
	ret_order->rounds = HVP_REHEARSAL_DEFAULT_ROUNDS;
	ret_order->vcpu_count = HVP_REHEARSAL_DEFAULT_VCPUS;
	ret_order->memory_mib = HVP_REHEARSAL_DEFAULT_MEMORY_MIB;
	if (!read_count("--rounds", text->rounds, 1, HVP_REHEARSAL_MAX_ROUNDS, &ret_order->rounds,
			error) ||
	    !read_count("--vcpus", text->vcpus, 1, HVP_REHEARSAL_MAX_VCPUS, &ret_order->vcpu_count,
			error) ||
	    !read_count("--memory", text->memory, HVP_REHEARSAL_MIN_MEMORY_MIB,
			HVP_REHEARSAL_MAX_MEMORY_MIB, &ret_order->memory_mib, error))
		return false;
	if (text->workload_timeout != NULL &&
	    !hvp_cli_options_number("--workload-timeout", text->workload_timeout, 1,
				    MAX_WORKLOAD_SECONDS, &seconds, error))
		return false;
	ret_order->workload_usec = (gint64)(seconds * G_USEC_PER_SEC);
	return true;
}

static HvpReport *run(const char *path, const HvpRehearsalOrder *order, HvpOptions *options,
		      GError **error)
{
	g_autoptr(HvpPatch) patch = hvp_patch_open(path, error);
	g_autoptr(HvpManifest) manifest = patch ? hvp_manifest_open(patch, path, error) : NULL;
	HvpReport *report;

	if (manifest == NULL || !hvp_manifest_check(manifest, error))
		return NULL;
	options->manifest = manifest;
	report = hvp_rehearsal_run(order, patch, error);
	options->manifest = NULL;
	return report;
}

bool hvp_cli_rehearse(HvpCli *cli, char **arguments, GError **error)
{
	HvpCliProgress progress = hvp_cli_progress_begin();
	HvpOptions options = { .progress = hvp_cli_progress_show, .progress_data = &progress };
	HvpRehearsalOrder order = { .options = &options };
	g_auto(RehearseText) text = { 0 };
	g_autofree char *path = NULL;
	g_autoptr(HvpReport) report = NULL;
	g_autoptr(GError) reason = NULL;

	if (!parse(cli, arguments, &text, &path, error) ||
	    !hvp_cli_limits_read(&text.limits, &options, error) ||
	    !read_order(cli, &text, &order, error))
		return false;
	if (text.html != NULL && !hvp_html_check(text.html, error))
		return false;
	if (text.limits.max_pause == NULL)
		options.max_pause_usec = HVP_REHEARSAL_DEFAULT_MAX_PAUSE_USEC;
	report = run(path, &order, &options, error);
	hvp_cli_progress_end(&progress);
	if (report == NULL)
		return false;
	if (cli->output == HVP_CLI_JSON)
		hvp_cli_rehearse_show_json(report);
	else
		hvp_cli_rehearse_show_table(report);
	cli->exit_status = hvp_report_exit_status(report);
	if (text.html == NULL || hvp_html_write(report, text.html, &reason))
		return true;
	/* The one object of JSON output is the report. */
	hvp_cli_output_error_line(reason);
	if (cli->exit_status == 0)
		cli->exit_status = hvp_error_exit_status(reason);
	return true;
}
