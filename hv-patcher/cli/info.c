/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/options.h"
#include "cli/output.h"
#include "cli/patchable.h"
#include "guest/tasks.h"

/* The guest's lists change while they are read. */
#define LIST_ATTEMPTS 20
#define LIST_WAIT_USEC 2000

typedef struct {
	HvpVcpuState state;
	gint32 pid;
	char comm[HVP_TASK_COMM_BYTES + 1];
} Vcpu;

/* All that is shown, read before the first of it is printed. */
typedef struct {
	HvpTarget *target;
	Vcpu *vcpus;
	guint task_count;
	HvpCliPatchable patchable;
} Info;

static void info_clear(Info *self)
{
	g_free(self->vcpus);
	hvp_cli_patchable_clear(&self->patchable);
}

static void read_vcpus(Info *self)
{
	HvpTarget *target = self->target;

	self->vcpus = g_new0(Vcpu, target->vcpu_count);
	for (guint i = 0; i < target->vcpu_count; i++)
		self->vcpus[i].state = hvp_target_vcpu_state(
			target, &target->registers[i], &self->vcpus[i].pid, self->vcpus[i].comm,
			sizeof self->vcpus[i].comm);
}

static bool count_tasks(Info *self, GError **error)
{
	GError *reason = NULL;

	for (guint i = 0; i < LIST_ATTEMPTS; i++) {
		g_autoptr(HvpTasks) tasks = NULL;

		g_clear_error(&reason);
		tasks = hvp_tasks_read(self->target->kernel, &reason);
		if (tasks != NULL) {
			self->task_count = hvp_tasks_count(tasks);
			return true;
		}
		if (!g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY))
			break;
		g_usleep(LIST_WAIT_USEC);
	}
	g_propagate_error(error, reason);
	return false;
}

static bool read_info(Info *self, GError **error)
{
	read_vcpus(self);
	return count_tasks(self, error) &&
	       hvp_cli_patchable_read(self->target, &self->patchable, error);
}

static void show_vcpus_json(const Info *self, JsonBuilder *json)
{
	hvp_cli_json_begin_array(json, "vcpus");
	for (guint i = 0; i < self->target->vcpu_count; i++) {
		json_builder_begin_object(json);
		hvp_cli_json_integer(json, "index", i);
		hvp_cli_json_text(json, "state", hvp_target_vcpu_state_name(self->vcpus[i].state));
		hvp_cli_json_integer(json, "pid", self->vcpus[i].pid);
		hvp_cli_json_text(json, "comm", self->vcpus[i].comm);
		json_builder_end_object(json);
	}
	json_builder_end_array(json);
}

static void show_kernel_json(HvpKernel *kernel, JsonBuilder *json)
{
	json_builder_set_member_name(json, "kernel");
	json_builder_begin_object(json);
	hvp_cli_json_text(json, "release", hvp_kernel_get_release(kernel));
	hvp_cli_json_text(json, "version", hvp_kernel_get_banner(kernel));
	hvp_cli_json_text(json, "build_id", hvp_kernel_get_build_id(kernel));
	hvp_cli_json_address(json, "text_base", hvp_kernel_get_text(kernel).start);
	json_builder_end_object(json);
}

/* Of domains, and of VMs that have none; a socket is one. */
static bool is_told_of_monitor(const HvpTarget *target)
{
	return target->machine != NULL &&
	       (target->taint != NULL || !hvp_machine_has_monitor(target->machine));
}

static void show_monitor_json(const HvpTarget *target, JsonBuilder *json)
{
	hvp_cli_json_bool(json, "monitor", hvp_machine_has_monitor(target->machine));
	hvp_cli_json_text(json, "taint", target->taint);
}

static void show_json(const Info *self)
{
	HvpKernel *kernel = self->target->kernel;
	JsonBuilder *json = hvp_cli_json_new();

	show_kernel_json(kernel, json);
	show_vcpus_json(self, json);
	hvp_cli_json_integer(json, "tasks", self->task_count);
	hvp_cli_json_text(json, "backend", hvp_cli_patchable_backend(self->target));
	hvp_cli_json_text(json, "backend_reason", self->target->backend_why);
	hvp_cli_patchable_show_json(&self->patchable, json);
	if (is_told_of_monitor(self->target))
		show_monitor_json(self->target, json);
	hvp_cli_json_integer(json, "attach_usec", hvp_kernel_get_attach_usec(kernel));
	hvp_cli_json_bool(json, "cached", hvp_kernel_was_cached(kernel));
	hvp_cli_json_integer(json, "connect_usec", self->target->connect_usec);
	hvp_cli_json_print(json);
}

static void add_vcpu_lines(const Info *self, struct libscols_table *table)
{
	for (guint i = 0; i < self->target->vcpu_count; i++) {
		const Vcpu *vcpu = &self->vcpus[i];
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

static void add_reason_lines(const Info *self, struct libscols_table *table)
{
	const GPtrArray *reasons = self->patchable.reasons;

	hvp_cli_table_add(table, "patchable", self->patchable.patchable ? "yes" : "no", NULL);
	for (guint i = 0; i < reasons->len; i++)
		hvp_cli_table_add(table, "", g_ptr_array_index(reasons, i), NULL);
}

static void add_monitor_lines(const Info *self, struct libscols_table *table)
{
	g_autofree char *taint = NULL;

	if (!is_told_of_monitor(self->target))
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

static char *describe_attach(const Info *self)
{
	HvpKernel *kernel = self->target->kernel;

	return g_strdup_printf("%.1f ms (%s), connecting %.1f ms",
			       (double)hvp_kernel_get_attach_usec(kernel) / 1000,
			       hvp_kernel_was_cached(kernel) ? "from cache"
							     : "first attach to this kernel",
			       (double)self->target->connect_usec / 1000);
}

static void show_table(const Info *self)
{
	static const HvpCliColumn columns[] = { { "NAME", 0 },
						{ "VALUE", SCOLS_FL_WRAP },
						{ NULL } };
	struct libscols_table *table = hvp_cli_table_new(columns);
	g_autofree char *tasks = g_strdup_printf("%u", self->task_count);
	g_autofree char *attach = describe_attach(self);
	g_autofree char *backend =
		g_strdup_printf("%s (%s)", hvp_cli_patchable_backend(self->target),
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
	Info info = { 0 };
	bool ok;

	if (!hvp_cli_options_parse(cli, arguments, entries, NULL, error))
		return false;
	target = hvp_cli_open(cli, error);
	if (target == NULL)
		return false;
	info.target = target;
	ok = read_info(&info, error);
	if (ok && cli->output == HVP_CLI_JSON)
		show_json(&info);
	else if (ok)
		show_table(&info);
	info_clear(&info);
	return ok;
}
