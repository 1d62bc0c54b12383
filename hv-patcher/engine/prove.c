/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/prove.h"

#include "base/text.h"

#include <string.h>

#define MAX_NAME_BYTES 256U

void hvp_prove_free_blocker(HvpBlocker *self)
{
	if (self == NULL)
		return;
	g_free(self->comm);
	g_free(self->function);
	if (self->stack != NULL)
		g_ptr_array_unref(self->stack);
	g_free(self);
}

HvpGva hvp_prove_frame_instruction(const HvpFrame *frame)
{
	return frame->exact ? frame->pc : hvp_gva(frame->pc.value - 1);
}

static const HvpForbidden *find_active(const HvpSweep *sweep, const HvpSweepTask *task,
				       const HvpForbidden *forbidden, gsize count)
{
	const HvpFrame *frames = hvp_sweep_frames(sweep, task);

	for (guint f = 0; f < task->frame_count; f++)
		for (gsize i = 0; i < count; i++)
			if (hvp_gva_range_contains(forbidden[i].range,
						   hvp_prove_frame_instruction(&frames[f])))
				return &forbidden[i];
	return NULL;
}

bool hvp_prove_is_in_the_way(const HvpSweep *sweep, const HvpSweepTask *task,
			     const HvpForbidden *forbidden, gsize count)
{
	return task->verdict != HVP_UNWIND_RELIABLE ||
	       find_active(sweep, task, forbidden, count) != NULL;
}

bool hvp_prove(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count)
{
	for (guint i = 0; i < hvp_sweep_count(sweep); i++) {
		const HvpSweepTask *task = hvp_sweep_get(sweep, i);

		if (hvp_prove_is_in_the_way(sweep, task, forbidden, count))
			return false;
	}
	return true;
}

bool hvp_prove_changed(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count)
{
	for (guint i = 0; i < hvp_sweep_count_changed(sweep); i++)
		if (hvp_prove_is_in_the_way(sweep, hvp_sweep_get_changed(sweep, i), forbidden,
					    count))
			return false;
	return true;
}

bool hvp_prove_is_blocked(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count)
{
	for (guint i = 0; i < hvp_sweep_count(sweep); i++) {
		const HvpSweepTask *task = hvp_sweep_get(sweep, i);

		if (task->verdict != HVP_UNWIND_NOT_SEEN &&
		    hvp_prove_is_in_the_way(sweep, task, forbidden, count))
			return true;
	}
	return false;
}

char *hvp_prove_format_frame(HvpTarget *target, const HvpFrame *frame)
{
	g_autofree char *escaped = NULL;
	const char *module, *name;
	HvpGvaRange range;

	if (!hvp_target_symbolize(target, hvp_prove_frame_instruction(frame), &module, &name,
				  &range))
		return g_strdup_printf("0x%" G_GINT64_MODIFIER "x", frame->pc.value);
	escaped = hvp_text_escape(name, G_MAXSIZE, MAX_NAME_BYTES);
	if (strcmp(module, "vmlinux") == 0)
		return g_strdup_printf("%s+0x%" G_GINT64_MODIFIER "x/0x%" G_GINT64_MODIFIER "x",
				       escaped, frame->pc.value - range.start.value,
				       hvp_gva_range_size(range));
	return g_strdup_printf("%s+0x%" G_GINT64_MODIFIER "x/0x%" G_GINT64_MODIFIER "x [%s]",
			       escaped, frame->pc.value - range.start.value,
			       hvp_gva_range_size(range), module);
}

static char *describe_unreliable(HvpTarget *target, const HvpSweepTask *task)
{
	HvpFrame last = { .pc = task->last_pc, .exact = true };
	g_autofree char *where = NULL;

	if (task->last_pc.value == 0)
		return g_strdup(hvp_unwinder_verdict_text(task->verdict));
	where = hvp_prove_format_frame(target, &last);
	return g_strdup_printf("%s, at %s", hvp_unwinder_verdict_text(task->verdict), where);
}

/* The function that stands in forbidden text; of a whole module's text its name alone is no help.
 */
static char *name_active(HvpTarget *target, const HvpSweep *sweep, const HvpSweepTask *task,
			 const HvpForbidden *active)
{
	const HvpFrame *frames = hvp_sweep_frames(sweep, task);
	const char *module, *name;
	HvpGvaRange range;

	for (guint i = 0; i < task->frame_count; i++) {
		HvpGva pc = hvp_prove_frame_instruction(&frames[i]);

		if (hvp_gva_range_contains(active->range, pc) &&
		    hvp_target_symbolize(target, pc, &module, &name, &range))
			return hvp_text_escape(name, G_MAXSIZE, MAX_NAME_BYTES);
	}
	return hvp_text_escape(active->name, G_MAXSIZE, MAX_NAME_BYTES);
}

HvpBlocker *hvp_prove_describe(const HvpSweep *sweep, const HvpSweepTask *task, HvpTarget *target,
			       HvpBlockerReason reason, char *function)
{
	HvpBlocker *blocker = g_new0(HvpBlocker, 1);
	const HvpFrame *frames = hvp_sweep_frames(sweep, task);

	blocker->pid = task->task.pid;
	blocker->comm = hvp_text_escape(task->task.comm, G_MAXSIZE, 64);
	blocker->is_kthread = hvp_task_is_kthread(&task->task);
	blocker->reason = reason;
	blocker->function = function;
	blocker->stack = g_ptr_array_new_with_free_func(g_free);
	for (guint i = 0; i < task->frame_count; i++)
		g_ptr_array_add(blocker->stack, hvp_prove_format_frame(target, &frames[i]));
	return blocker;
}

static HvpBlocker *describe(const HvpSweep *sweep, const HvpSweepTask *task,
			    const HvpForbidden *active, HvpTarget *target)
{
	if (active == NULL)
		return hvp_prove_describe(sweep, task, target, HVP_BLOCKER_UNRELIABLE,
					  describe_unreliable(target, task));
	return hvp_prove_describe(sweep, task, target, HVP_BLOCKER_ACTIVE,
				  name_active(target, sweep, task, active));
}

GPtrArray *hvp_prove_blockers(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count,
			      HvpTarget *target, guint max)
{
	GPtrArray *blockers = g_ptr_array_new_with_free_func(
		(GDestroyNotify)hvp_prove_free_blocker);

	for (guint i = 0; i < hvp_sweep_count(sweep) && blockers->len < max; i++) {
		const HvpSweepTask *task = hvp_sweep_get(sweep, i);
		const HvpForbidden *active = find_active(sweep, task, forbidden, count);

		/* Not yet looked at (by a sweep of the running guest) is not yet in the way. */
		if (task->verdict == HVP_UNWIND_NOT_SEEN)
			continue;
		if (active != NULL || task->verdict != HVP_UNWIND_RELIABLE)
			g_ptr_array_add(blockers, describe(sweep, task, active, target));
	}
	return blockers;
}

GArray *hvp_prove_active(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count)
{
	GArray *tasks = g_array_new(FALSE, FALSE, sizeof(HvpTask));

	for (guint i = 0; i < hvp_sweep_count(sweep); i++) {
		const HvpSweepTask *task = hvp_sweep_get(sweep, i);

		if (task->verdict != HVP_UNWIND_NOT_SEEN &&
		    find_active(sweep, task, forbidden, count) != NULL)
			g_array_append_val(tasks, task->task);
	}
	return tasks;
}
