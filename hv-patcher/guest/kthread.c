/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/kthread.h"

#define MAX_CPUS 8192U
#define WORD_BITS 64U

const char *hvp_kthread_state_name(HvpKthreadState state)
{
	static const char *const names[] = {
		[HVP_KTHREAD_PARKED] = "parked",
		[HVP_KTHREAD_FROZEN] = "frozen",
		[HVP_KTHREAD_IDLE_WORKER] = "idle-worker",
		[HVP_KTHREAD_IDLE_RESCUER] = "idle-rescuer",
		[HVP_KTHREAD_BUSY_WORKER] = "busy-worker",
		[HVP_KTHREAD_RUNNING] = "running",
		[HVP_KTHREAD_SLEEPING] = "sleeping",
		[HVP_KTHREAD_UNINTERRUPTIBLE] = "uninterruptible",
		[HVP_KTHREAD_UNKNOWN] = "unknown",
	};

	return names[state];
}

bool hvp_kthread_is_at_rest(HvpKthreadState state)
{
	return state == HVP_KTHREAD_PARKED || state == HVP_KTHREAD_IDLE_WORKER ||
	       state == HVP_KTHREAD_IDLE_RESCUER;
}

/* Member @item of the struct at @base; 0 is not told from what cannot be read by its value. */
static bool read_member(HvpKernel *kernel, HvpGva base, HvpLayoutItem item, guint64 *ret_value)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);

	return base.value != 0 && hvp_layout_has(layout, item) &&
	       hvp_address_space_read_u64(hvp_kernel_get_space(kernel),
					  hvp_gva_add(base, hvp_layout_get(layout, item)),
					  ret_value, NULL);
}

/* Since 5.17 (e32cf5dfbe22) a kernel thread's task has it in worker_private. */
static bool read_kthread(HvpKernel *kernel, const HvpTask *task, HvpGva *ret_kthread)
{
	return read_member(kernel, task->address, HVP_AT_TASK_WORKER_PRIVATE, &ret_kthread->value);
}

/* Its state alone stays for a moment when it is told to go on. */
static bool is_told_to_park(HvpKernel *kernel, const HvpTask *task, bool *ret_told)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	HvpGva kthread;
	guint64 flags;
	guint32 bit;

	if (!hvp_layout_has(layout, HVP_AT_KTHREAD_SHOULD_PARK) ||
	    !read_kthread(kernel, task, &kthread) ||
	    !read_member(kernel, kthread, HVP_AT_KTHREAD_FLAGS, &flags))
		return false;
	bit = hvp_layout_get(layout, HVP_AT_KTHREAD_SHOULD_PARK);
	*ret_told = bit < 64 && (flags >> bit & 1) != 0;
	return true;
}

/* What a worker that is asleep is. A rescuer is never marked idle; without a work item it is. */
static HvpKthreadState asleep_worker_state(HvpKernel *kernel, const HvpTask *task)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	HvpGva kthread, worker = { 0 };
	guint64 owner, flags, work, rescued, idle;

	if (!hvp_layout_has(layout, HVP_AT_WORKER_IDLE) || !read_kthread(kernel, task, &kthread) ||
	    !read_member(kernel, kthread, HVP_AT_KTHREAD_DATA, &worker.value) ||
	    !read_member(kernel, worker, HVP_AT_WORKER_TASK, &owner) ||
	    owner != task->address.value ||
	    !read_member(kernel, worker, HVP_AT_WORKER_FLAGS, &flags) ||
	    !read_member(kernel, worker, HVP_AT_WORKER_CURRENT_WORK, &work) ||
	    !read_member(kernel, worker, HVP_AT_WORKER_RESCUE_WQ, &rescued))
		return HVP_KTHREAD_UNKNOWN;
	if (work != 0)
		return HVP_KTHREAD_BUSY_WORKER;
	if (rescued != 0)
		return HVP_KTHREAD_IDLE_RESCUER;
	/* An unsigned int, whatever stands behind it. */
	idle = flags & hvp_layout_get(layout, HVP_AT_WORKER_IDLE) & G_MAXUINT32;
	return idle != 0 ? HVP_KTHREAD_IDLE_WORKER : HVP_KTHREAD_BUSY_WORKER;
}

/* Since 6.1 (f5d39b020809) a state, and frozen() a function; before a flag. */
static bool is_frozen(HvpKernel *kernel, const HvpTask *task)
{
	if (hvp_kernel_has_symbol(kernel, "frozen"))
		return (task->state & HVP_TASK_STATE_FROZEN) != 0;
	return (task->flags & HVP_TASK_PF_FROZEN) != 0;
}

HvpKthreadState hvp_kthread_read_state(HvpKernel *kernel, const HvpTask *task)
{
	bool is_asleep = hvp_task_is_asleep(task);
	bool told;

	if (is_asleep && (task->state & HVP_TASK_STATE_PARKED) != 0) {
		if (!is_told_to_park(kernel, task, &told))
			return HVP_KTHREAD_UNKNOWN;
		if (told)
			return HVP_KTHREAD_PARKED;
	}
	if (is_asleep && is_frozen(kernel, task))
		return HVP_KTHREAD_FROZEN;
	if ((task->flags & HVP_TASK_PF_WQ_WORKER) != 0)
		return is_asleep ? asleep_worker_state(kernel, task) : HVP_KTHREAD_BUSY_WORKER;
	if (!is_asleep)
		return HVP_KTHREAD_RUNNING;
	return hvp_task_state_letter(task) == 'D' ? HVP_KTHREAD_UNINTERRUPTIBLE
						  : HVP_KTHREAD_SLEEPING;
}

static bool read_mask(HvpKernel *kernel, const HvpTask *task, guint64 mask[MAX_CPUS / WORD_BITS],
		      guint32 *ret_count)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);

	return hvp_layout_has(layout, HVP_AT_TASK_CPUS_MASK) &&
	       hvp_kernel_has_symbol(kernel, "nr_cpu_ids") &&
	       hvp_kernel_read_u32(kernel, "nr_cpu_ids", ret_count, NULL) && *ret_count > 0 &&
	       *ret_count <= MAX_CPUS &&
	       hvp_address_space_read(
		       hvp_kernel_get_space(kernel),
		       hvp_gva_add(task->address, hvp_layout_get(layout, HVP_AT_TASK_CPUS_MASK)),
		       mask, (*ret_count + WORD_BITS - 1) / WORD_BITS * sizeof *mask, NULL);
}

/* Appends CPUs @first to @last to @cpus, which is @length long; its new length, 0 for no room. */
static gsize append_cpus(char cpus[HVP_KTHREAD_CPUS_BYTES], gsize length, guint32 first,
			 guint32 last)
{
	const char *comma = length > 0 ? "," : "";
	gsize room = HVP_KTHREAD_CPUS_BYTES - length;
	int written;

	if (first == last)
		written = g_snprintf(cpus + length, room, "%s%u", comma, first);
	else
		written = g_snprintf(cpus + length, room, "%s%u-%u", comma, first, last);

	return (gsize)written < room ? length + (gsize)written : 0;
}

void hvp_kthread_read_cpus(HvpKernel *kernel, const HvpTask *task,
			   char cpus[HVP_KTHREAD_CPUS_BYTES])
{
	guint64 mask[MAX_CPUS / WORD_BITS];
	guint32 count, first = 0;
	gsize length = 0;
	bool inside = false;

	cpus[0] = '\0';
	if (!read_mask(kernel, task, mask, &count))
		return;
	for (guint32 cpu = 0; cpu <= count; cpu++) {
		bool set = cpu < count && (mask[cpu / WORD_BITS] >> cpu % WORD_BITS & 1) != 0;

		if (set && !inside)
			first = cpu;
		if (!set && inside) {
			length = append_cpus(cpus, length, first, cpu - 1);
			if (length == 0)
				break;
		}
		inside = set;
	}
	if (length == 0)
		cpus[0] = '\0';
}
