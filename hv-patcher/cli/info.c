/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/options.h"
#include "cli/output.h"
#include "document/info.h"

static void add_vcpu_lines(const HvpInfo *self, struct libscols_table *table)
{
	for (guint i = 0; i < self->target->vcpu_count; i++) {
		const HvpInfoVcpu *vcpu = &self->vcpus[i];
		const char *state = hvp_target_vcpu_state_name(vcpu->state);
		g_autofree char *name = g_strdup_printf("vCPU %u", i);
		g_autofree char *what = vcpu->pid < 0 ? g_strdup(state)
						      : g_strdup_printf("%s, pid %d %s", state,
									vcpu->pid, vcpu->comm);

		hvp_cli_table_add(table, name, what, NULL);
	}
}

static void add_kernel_lines(HvpKernel *kernel, struct libscols_table *table)
{
	g_autofree char *base = hvp_cli_output_address(hvp_kernel_get_text(kernel).start);

	hvp_cli_table_add(table, "release", hvp_kernel_get_release(kernel), NULL);
	hvp_cli_table_add(table, "version", hvp_kernel_get_banner(kernel), NULL);
	hvp_cli_table_add(table, "build-id", hvp_kernel_get_build_id(kernel), NULL);
	hvp_cli_table_add(table, "text base", base, NULL);
}

static void add_reason_lines(const HvpInfo *self, struct libscols_table *table)
{
	const GPtrArray *reasons = self->patchable.reasons;

	hvp_cli_table_add(table, "patchable", self->patchable.patchable ? "yes" : "no", NULL);
	for (guint i = 0; i < reasons->len; i++)
		hvp_cli_table_add(table, "", g_ptr_array_index(reasons, i), NULL);
}

static void add_monitor_lines(const HvpInfo *self, struct libscols_table *table)
{
	g_autofree char *taint = NULL;

	if (!hvp_info_is_told_of_monitor(self))
		return;
	if (self->target->taint == NULL) {
		hvp_cli_table_add(table, "monitor", "not used: nothing is marked by libvirt", NULL);
		return;
	}
	taint = g_strdup_printf("%s (libvirt marks a domain that gets monitor commands, as from "
				"every command of hvpatch)",
				self->target->taint);
	hvp_cli_table_add(table, "taint", taint, NULL);
}

static char *describe_attach(const HvpInfo *self)
{
	HvpKernel *kernel = self->target->kernel;

	return g_strdup_printf("%.1f ms (%s), connecting %.1f ms",
			       (double)hvp_kernel_get_attach_usec(kernel) / 1000,
			       hvp_kernel_was_cached(kernel) ? "from cache"
							     : "first attach to this kernel",
			       (double)self->target->connect_usec / 1000);
}

static void show_table(const HvpInfo *self)
{
	static const HvpCliColumn columns[] = { { "NAME", 0 },
						{ "VALUE", SCOLS_FL_WRAP },
						{ NULL } };
	struct libscols_table *table = hvp_cli_table_new(columns);
	g_autofree char *tasks = g_strdup_printf("%u", self->task_count);
	g_autofree char *attach = describe_attach(self);
	g_autofree char *backend =
		g_strdup_printf("%s (%s)", hvp_patchable_backend(self->target),
				self->target->backend_why);

	scols_table_enable_noheadings(table, 1);
	add_kernel_lines(self->target->kernel, table);
	add_vcpu_lines(self, table);
	hvp_cli_table_add(table, "tasks", tasks, NULL);
	hvp_cli_table_add(table, "backend", backend, NULL);
	add_reason_lines(self, table);
	add_monitor_lines(self, table);
	hvp_cli_table_add(table, "attach", attach, NULL);
	hvp_cli_table_print(table);
}

bool hvp_cli_info(HvpCli *cli, char **arguments, GError **error)
{
	GOptionEntry entries[] = { { NULL } };
	g_autoptr(HvpTarget) target = NULL;
	HvpInfo info;

	if (!hvp_cli_options_parse(cli, arguments, entries, NULL, error))
		return false;
	target = hvp_cli_open(cli, error);
	if (target == NULL)
		return false;
	if (!hvp_info_read(target, &info, error))
		return false;
	if (cli->output == HVP_CLI_JSON)
		hvp_cli_json_print_node(hvp_info_to_json(&info));
	else
		show_table(&info);
	hvp_info_clear(&info);
	return true;
}
