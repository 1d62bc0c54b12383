/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/tasks.h"

#include "cli/look.h"
#include "cli/options.h"
#include "cli/output.h"
#include "engine/kthread-view.h"
#include "engine/prove.h"

#include <string.h>

#define PID_MAX_LIMIT (4 * 1024 * 1024)

typedef struct {
	gboolean stacks;
	gboolean kthreads;
	gint64 pid; /* -1: all */
} Filter;

/* What is shown. */
typedef struct {
	HvpTarget *target;
	const HvpSweep *sweep;
	const Filter *filter;
	const GArray *views; /* HvpKthreadView, by index; NULL: not wanted */
} Shown;

static bool is_wanted(const Filter *filter, const HvpTask *task)
{
	if (filter->kthreads && !hvp_task_is_kthread(task))
		return false;
	return filter->pid < 0 || filter->pid == task->pid;
}

static bool is_reliable(const HvpSweepTask *task)
{
	return task->verdict == HVP_UNWIND_RELIABLE;
}

static const char *verdict_name(const HvpSweepTask *task)
{
	return is_reliable(task) ? "RELIABLE" : "UNRELIABLE";
}

/* Why the stack is not reliable, and where that showed; "" when it is. */
static char *describe_verdict(HvpTarget *target, const HvpSweepTask *task)
{
	HvpFrame last = { .pc = task->last_pc, .exact = true };
	g_autofree char *where = NULL;

	if (is_reliable(task) || task->last_pc.value == 0)
		return g_strdup(hvp_unwinder_verdict_text(task->verdict));
	where = hvp_prove_format_frame(target, &last);
	return g_strdup_printf("%s, at %s", hvp_unwinder_verdict_text(task->verdict), where);
}

static void show_frame_json(JsonBuilder *json, HvpTarget *target, const HvpFrame *frame)
{
	const char *module = "", *name = "";
	HvpGvaRange range;
	bool known = hvp_target_symbolize(target, hvp_prove_frame_instruction(frame), &module,
					  &name, &range);

	json_builder_begin_object(json);
	hvp_json_hex(json, "pc", frame->pc.value);
	hvp_json_text(json, "symbol", known ? name : "");
	hvp_json_hex(json, "offset", known ? frame->pc.value - range.start.value : 0);
	hvp_json_hex(json, "size", known ? hvp_gva_range_size(range) : 0);
	hvp_json_text(json, "module", strcmp(module, "vmlinux") == 0 ? "" : module);
	json_builder_end_object(json);
}

static const HvpKthreadView *view_of(const Shown *self, guint index)
{
	return self->views ? &g_array_index(self->views, HvpKthreadView, index) : NULL;
}

static void show_view_json(JsonBuilder *json, const HvpKthreadView *view)
{
	hvp_json_text(json, "kthread_state", hvp_kthread_state_name(view->state));
	json_builder_set_member_name(json, "agent");
	if (!view->is_claimed) {
		json_builder_add_null_value(json);
		return;
	}
	json_builder_begin_object(json);
	hvp_json_text(json, "state", hvp_claims_state_name(view->claim.state));
	hvp_json_text(json, "comm", view->claim.comm);
	hvp_json_integer(json, "voluntary", (gint64)view->claim.voluntary);
	hvp_json_integer(json, "involuntary", (gint64)view->claim.involuntary);
	hvp_json_text(json, "wchan", view->claim.wchan);
	hvp_json_text(json, "verdict", hvp_compare_verdict_name(view->verdict));
	json_builder_end_object(json);
}

static void show_task_json(JsonBuilder *json, const Shown *shown, guint index)
{
	HvpTarget *target = shown->target;
	const HvpSweep *sweep = shown->sweep;
	const HvpSweepTask *task = hvp_sweep_get(sweep, index);
	const HvpFrame *frames = hvp_sweep_frames(sweep, task);
	const char state[] = { hvp_task_state_letter(&task->task), 0 };
	g_autofree char *reason = describe_verdict(target, task);

	json_builder_begin_object(json);
	hvp_json_integer(json, "pid", task->task.pid);
	hvp_json_integer(json, "tgid", task->task.tgid);
	hvp_json_text(json, "comm", task->task.comm);
	hvp_json_bool(json, "kthread", hvp_task_is_kthread(&task->task));
	hvp_json_text(json, "state", state);
	hvp_json_integer(json, "cpu", task->task.cpu);
	hvp_json_bool(json, "on_cpu", task->task.on_cpu);
	hvp_json_text(json, "verdict", verdict_name(task));
	hvp_json_text(json, "reason", reason);
	if (shown->views != NULL)
		show_view_json(json, view_of(shown, index));
	hvp_json_begin_array(json, "stack");
	for (guint i = 0; i < task->frame_count; i++)
		show_frame_json(json, target, &frames[i]);
	json_builder_end_array(json);
	json_builder_end_object(json);
}

static void show_json(const Shown *shown)
{
	const HvpSweep *sweep = shown->sweep;
	JsonBuilder *json = hvp_json_new();

	hvp_json_begin_array(json, "tasks");
	for (guint i = 0; i < hvp_sweep_count(sweep); i++)
		if (is_wanted(shown->filter, &hvp_sweep_get(sweep, i)->task))
			show_task_json(json, shown, i);
	json_builder_end_array(json);
	hvp_json_integer(json, "attach_usec",
			     hvp_kernel_get_attach_usec(shown->target->kernel));
	hvp_json_integer(json, "sweep_usec", hvp_sweep_get_run_usec(sweep));
	hvp_cli_json_print(json);
}

static void append_frames(GString *note, HvpTarget *target, const HvpSweep *sweep,
			  const HvpSweepTask *task)
{
	const HvpFrame *frames = hvp_sweep_frames(sweep, task);

	for (guint i = 0; i < task->frame_count; i++) {
		g_autofree char *frame = hvp_prove_format_frame(target, &frames[i]);
		g_autofree char *escaped = hvp_cli_output_escape(frame);

		g_string_append_printf(note, "    %s\n", escaped);
	}
}

static void add_line(struct libscols_table *table, HvpTarget *target, const HvpSweepTask *task)
{
	const char state[] = { hvp_task_state_letter(&task->task), 0 };
	g_autofree char *pid = g_strdup_printf("%d", task->task.pid);
	g_autofree char *tgid = g_strdup_printf("%d", task->task.tgid);
	g_autofree char *cpu = g_strdup_printf("%u%s", task->task.cpu,
					       task->task.on_cpu ? "*" : "");
	g_autofree char *reason = describe_verdict(target, task);

	hvp_cli_table_add(table, pid, tgid, hvp_task_is_kthread(&task->task) ? "kthread" : "user",
			  state, cpu, verdict_name(task), task->task.comm, reason, NULL);
}

static void add_kthread_line(struct libscols_table *table, HvpTarget *target,
			     const HvpSweepTask *task, const HvpKthreadView *view)
{
	const char state[] = { hvp_task_state_letter(&task->task), 0 };
	g_autofree char *pid = g_strdup_printf("%d", task->task.pid);
	g_autofree char *cpu = g_strdup_printf("%u%s", task->task.cpu,
					       task->task.on_cpu ? "*" : "");
	g_autofree char *reason = describe_verdict(target, task);

	hvp_cli_table_add(table, pid, state, cpu, verdict_name(task),
			  hvp_kthread_state_name(view->state),
			  view->is_claimed ? hvp_claims_state_name(view->claim.state) : "-",
			  view->is_claimed ? hvp_compare_verdict_name(view->verdict) : "-",
			  task->task.comm, reason, NULL);
}

static void show_table(const Shown *shown)
{
	static const HvpCliColumn kthread_columns[] = {
		{ "PID", SCOLS_FL_RIGHT },
		{ "STATE", 0 },
		{ "CPU", SCOLS_FL_RIGHT },
		{ "VERDICT", 0 },
		{ "SEEN", 0 },
		{ "AGENT", 0 },
		{ "CLAIM", 0 },
		{ "COMM", 0 },
		{ "REASON", 0 },
		{ NULL },
	};
	static const HvpCliColumn columns[] = {
		{ "PID", SCOLS_FL_RIGHT },
		{ "TGID", SCOLS_FL_RIGHT },
		{ "KIND", 0 },
		{ "STATE", 0 },
		{ "CPU", SCOLS_FL_RIGHT },
		{ "VERDICT", 0 },
		{ "COMM", 0 },
		{ "REASON", 0 },
		{ NULL },
	};
	HvpCliListing listing = hvp_cli_listing_begin(shown->views ? kthread_columns : columns);

	for (guint i = 0; i < hvp_sweep_count(shown->sweep); i++) {
		const HvpSweepTask *task = hvp_sweep_get(shown->sweep, i);
		GString *note;

		if (!is_wanted(shown->filter, &task->task))
			continue;
		note = hvp_cli_listing_note(&listing);
		if (shown->filter->stacks)
			append_frames(note, shown->target, shown->sweep, task);
		if (shown->views != NULL)
			add_kthread_line(listing.table, shown->target, task, view_of(shown, i));
		else
			add_line(listing.table, shown->target, task);
	}
	hvp_cli_listing_print(&listing);
}

static bool has_pid(const HvpSweep *sweep, gint64 pid)
{
	for (guint i = 0; i < hvp_sweep_count(sweep); i++)
		if (hvp_sweep_get(sweep, i)->task.pid == pid)
			return true;
	return false;
}

static bool parse(HvpCli *cli, char **arguments, Filter *filter, GError **error)
{
	g_autofree char *pid = NULL;
	GOptionEntry entries[] = {
		{ "stacks", 0, 0, G_OPTION_ARG_NONE, &filter->stacks, "show the kernel stacks",
		  NULL },
		{ "kthreads", 0, 0, G_OPTION_ARG_NONE, &filter->kthreads,
		  "kernel threads only, and what the guest's agent claims of them", NULL },
		{ "pid", 0, 0, G_OPTION_ARG_STRING, &pid, "this task only", "N" },
		{ NULL },
	};
	guint64 number;

	if (!hvp_cli_options_parse(cli, arguments, entries, NULL, error))
		return false;
	if (pid == NULL)
		return true;
	if (!g_ascii_string_to_unsigned(pid, 10, 0, PID_MAX_LIMIT, &number, NULL))
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "--pid: '%s' is not a number between 0 and %d", pid,
				     PID_MAX_LIMIT);
	filter->pid = (gint64)number;
	return true;
}

/* A false claim is shown with all others, and ends in failure. */
static bool show(HvpCli *cli, HvpTarget *target, const HvpSweep *sweep, const Filter *filter,
		 GError **error)
{
	Shown shown = { target, sweep, filter, NULL };
	g_autoptr(GArray) views = NULL;
	g_autoptr(GError) false_claim = NULL;

	if (filter->kthreads) {
		views = hvp_kthread_view_read(target, sweep, &false_claim, error);
		if (views == NULL)
			return false;
		shown.views = views;
	}
	if (cli->output == HVP_CLI_JSON)
		show_json(&shown);
	else
		show_table(&shown);
	if (false_claim != NULL) {
		hvp_cli_output_error_line(false_claim);
		cli->exit_status = hvp_error_exit_status(false_claim);
	}
	return true;
}

bool hvp_cli_tasks(HvpCli *cli, char **arguments, GError **error)
{
	Filter filter = { .pid = -1 };
	g_autoptr(HvpTarget) target = NULL;
	g_autoptr(HvpSweep) sweep = NULL;

	if (!parse(cli, arguments, &filter, error))
		return false;
	target = hvp_cli_open(cli, error);
	if (target != NULL && filter.kthreads)
		hvp_cli_find_agent(cli, target);
	sweep = target ? hvp_cli_look(target, error) : NULL;
	if (sweep == NULL)
		return false;
	if (filter.pid >= 0 && !has_pid(sweep, filter.pid))
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
				     "no task of the guest has pid %" G_GINT64_FORMAT, filter.pid);
	return show(cli, target, sweep, &filter, error);
}
