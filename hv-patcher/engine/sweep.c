/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/sweep.h"

#include "base/bytes.h"
#include "engine/running.h"

#include <string.h>

#define READ_TASKS 32U
#define FRAMES_PER_TASK 64U
#define SPARE_FRAMES 16384U
/* Of all tasks together: 256 MiB, touched as far as they are used. */
#define MAX_FRAMES (16U << 20)
/* One look at all tasks. That a stopped guest is resumed long before is the keeper's business. */
#define LOOK_USEC (10 * G_USEC_PER_SEC)
#define LIST_RETRIES 5U
#define CLOSER_LOOKS 3U
#define MAX_DEPARTED 65536U
#define MAX_VCPUS HVP_MACHINE_MAX_VCPUS

struct HvpSweep {
	HvpTarget *target;
	HvpKernel *kernel;
	HvpLocks *locks;
	HvpActivity *activity; /* marked before the last run began */
	bool swept;	       /* the last run succeeded, and nothing was rechecked since */
	bool only_unseen_changed; /* by the last recheck, and who is on a vCPU */
	guint reread;
	HvpUnwinder *unwinder;
	guint32 stack_bytes;
	gint64 run_usec;
	HvpDeadline deadline; /* of the look that is under way */
	HvpTasks *tasks;  /* the list that the verdicts belong to */
	GArray *verdicts; /* HvpSweepTask, by index of tasks */
	GArray *unseen;	  /* guint: indices of verdicts that are still to be made; then, changed */
	GArray *frames;	  /* HvpFrame */
	guint frame_room; /* how many of them were made room for */
	GArray *departed; /* HvpTask: known once, on no list since, not in tasks, not seen dead */
	GArray *now;	  /* HvpTask, room to read keys again */
	guint8 *stacks;	  /* [READ_TASKS][stack_bytes] */
	HvpVirtualRead reads[READ_TASKS];
	HvpTrace trace;
	HvpRunning running[MAX_VCPUS];
	HvpSweepTask *owners[MAX_VCPUS]; /* of vCPUs that run this kernel, in verdicts */
	guint running_count;
};

void hvp_sweep_free(HvpSweep *self)
{
	if (self == NULL)
		return;
	hvp_locks_free(self->locks);
	hvp_activity_free(self->activity);
	hvp_tasks_free(self->tasks);
	g_array_unref(self->verdicts);
	g_array_unref(self->unseen);
	g_array_unref(self->frames);
	g_array_unref(self->departed);
	g_array_unref(self->now);
	g_free(self->stacks);
	g_free(self);
}

HvpSweep *hvp_sweep_new(HvpTarget *target, GError **error)
{
	g_autoptr(HvpSweep) self = g_new0(HvpSweep, 1);

	self->target = target;
	self->kernel = target->kernel;
	self->stack_bytes = hvp_kernel_get_stack_bytes(target->kernel);
	self->verdicts = g_array_new(FALSE, TRUE, sizeof(HvpSweepTask));
	self->unseen = g_array_new(FALSE, FALSE, sizeof(guint));
	self->frames = g_array_new(FALSE, FALSE, sizeof(HvpFrame));
	self->departed = g_array_new(FALSE, TRUE, sizeof(HvpTask));
	self->now = g_array_new(FALSE, TRUE, sizeof(HvpTask));
	self->stacks = g_malloc((gsize)READ_TASKS * self->stack_bytes);
	self->unwinder = hvp_target_get_unwinder(target, error);
	if (self->unwinder == NULL)
		return NULL;
	self->locks = hvp_locks_new(target->kernel, error);
	if (self->locks == NULL)
		return NULL;
	self->activity = hvp_activity_new(target->kernel, error);
	if (self->activity == NULL)
		return NULL;
	return g_steal_pointer(&self);
}

gint64 hvp_sweep_get_run_usec(const HvpSweep *self)
{
	return self->run_usec;
}

guint hvp_sweep_get_reread(const HvpSweep *self)
{
	return self->reread;
}

guint hvp_sweep_count_changed(const HvpSweep *self)
{
	return self->only_unseen_changed ? self->unseen->len : self->verdicts->len;
}

guint hvp_sweep_count(const HvpSweep *self)
{
	return self->verdicts->len;
}

static HvpSweepTask *verdict_at(const HvpSweep *self, guint index)
{
	return &g_array_index(self->verdicts, HvpSweepTask, index);
}

const HvpSweepTask *hvp_sweep_get(const HvpSweep *self, guint index)
{
	return verdict_at(self, index);
}

const HvpSweepTask *hvp_sweep_get_changed(const HvpSweep *self, guint number)
{
	return verdict_at(self, self->only_unseen_changed
					? g_array_index(self->unseen, guint, number)
					: number);
}

const HvpFrame *hvp_sweep_frames(const HvpSweep *self, const HvpSweepTask *task)
{
	return &g_array_index(self->frames, HvpFrame, task->first_frame);
}

/* Keeps self->trace as the verdict on @entry; without its frames it would be none to rely on. */
static void keep_trace(HvpSweep *self, HvpSweepTask *entry)
{
	if (self->frames->len + self->trace.count > self->frame_room) {
		self->trace.verdict = HVP_UNWIND_TOO_DEEP;
		self->trace.count = 0;
	}
	entry->verdict = self->trace.verdict;
	entry->last_pc = self->trace.last_pc;
	entry->first_frame = self->frames->len;
	entry->frame_count = self->trace.count;
	g_array_append_vals(self->frames, self->trace.frames, self->trace.count);
}

/* There is nothing to return to. */
static void keep_empty(HvpSweep *self, HvpSweepTask *entry)
{
	self->trace.verdict = HVP_UNWIND_RELIABLE;
	self->trace.count = 0;
	self->trace.last_pc = hvp_gva(0);
	keep_trace(self, entry);
}

static bool check_time(const HvpSweep *self, GError **error)
{
	return !hvp_deadline_passed(self->deadline) ||
	       hvp_error_set(error, HVP_ERROR_TIMED_OUT,
			     "looking at the stacks of the guest's %u tasks takes too long",
			     self->verdicts->len);
}

static bool stack_holds(const HvpSweep *self, const HvpTask *task, guint64 sp)
{
	return sp >= task->stack.value && sp - task->stack.value < self->stack_bytes;
}

/* The slot'th read: the used part of @task's stack. An sp outside of it reads nothing. */
static void prepare_stack(HvpSweep *self, guint slot, const HvpTask *task)
{
	guint64 used = 0;

	if (stack_holds(self, task, task->sp.value))
		used = task->stack.value + self->stack_bytes - task->sp.value;
	self->reads[slot] = (HvpVirtualRead){ task->sp,
					      self->stacks + (gsize)slot * self->stack_bytes, used,
					      false };
}

static void trace_off_cpu(HvpSweep *self, guint slot, HvpSweepTask *entry)
{
	const HvpVirtualRead *read = &self->reads[slot];
	HvpStackCopy stack = { read->gva, read->ok ? read->length_bytes : 0, read->buffer };

	hvp_unwinder_trace_sleeping(self->unwinder, entry->task.address, entry->task.sp, &stack,
				    &self->trace);
	keep_trace(self, entry);
}

/* Reads and unwinds the stacks of the entries in @indices[0..count). */
static bool trace_batch(HvpSweep *self, const guint *indices, guint count, GError **error)
{
	for (guint i = 0; i < count; i++)
		prepare_stack(self, i, &verdict_at(self, indices[i])->task);
	if (!hvp_address_space_read_batch(hvp_kernel_get_space(self->kernel), self->reads, count,
					  error))
		return false;
	for (guint i = 0; i < count; i++) {
		if (!check_time(self, error))
			return false;
		trace_off_cpu(self, i, verdict_at(self, indices[i]));
	}
	return true;
}

/* When a stack is read decides whose can be: while the guest runs, not of one on a CPU. */
typedef enum { MOMENT_RUNNING, MOMENT_STOPPED } Moment;

/* Notes whoever has no verdict, from entry @from on; those before it are noted already. */
static void collect_unseen(HvpSweep *self, guint from)
{
	if (from == 0)
		g_array_set_size(self->unseen, 0);
	for (guint i = from; i < self->verdicts->len; i++)
		if (verdict_at(self, i)->verdict == HVP_UNWIND_NOT_SEEN)
			g_array_append_val(self->unseen, i);
}

/* All noted entries that are on no vCPU. */
static bool trace_unseen(HvpSweep *self, Moment moment, guint *ret_traced, GError **error)
{
	guint indices[READ_TASKS], count = 0;

	for (guint i = 0; i < self->unseen->len; i++) {
		guint index = g_array_index(self->unseen, guint, i);
		HvpSweepTask *entry = verdict_at(self, index);

		if (entry->verdict != HVP_UNWIND_NOT_SEEN || entry->vcpu >= 0 ||
		    (moment == MOMENT_RUNNING && entry->task.on_cpu))
			continue;
		*ret_traced += 1;
		/* Never to run again, it has no stack any more, or one that leads nowhere. */
		if (hvp_task_is_dead(&entry->task)) {
			keep_empty(self, entry);
			continue;
		}
		indices[count++] = index;
		if (count == READ_TASKS) {
			if (!trace_batch(self, indices, count, error))
				return false;
			count = 0;
		}
	}
	return trace_batch(self, indices, count, error);
}

static bool read_tasks(HvpSweep *self, HvpTasks **ret_tasks, GError **error)
{
	g_autoptr(GError) reason = NULL;

	for (guint i = 0; i < LIST_RETRIES; i++) {
		g_clear_error(&reason);
		*ret_tasks = hvp_tasks_read_until(self->kernel, self->deadline, &reason);
		if (*ret_tasks != NULL)
			return true;
		/* Lists under change lead astray; a later try finds them whole. */
		if (g_error_matches(reason, HVP_ERROR, HVP_ERROR_VM_GONE) ||
		    hvp_deadline_passed(self->deadline))
			break;
	}
	g_propagate_error(error, g_steal_pointer(&reason));
	return false;
}

/* Entries for the tasks that have none yet, nothing seen of them. */
static void add_entries(HvpSweep *self)
{
	for (guint i = self->verdicts->len; i < hvp_tasks_count(self->tasks); i++) {
		HvpSweepTask entry = { .task = *hvp_tasks_get(self->tasks, i),
				       .vcpu = -1,
				       .verdict = HVP_UNWIND_NOT_SEEN };

		g_array_append_val(self->verdicts, entry);
	}
}

/*
 * Whether @known, which was on no list when that was looked at, may be on its way to its end yet:
 * it is not dead, and its memory is not another task's by now, or none. Its pid does not tell: a
 * thread that calls exec takes its leader's, which gets the thread's in exchange and is released.
 */
static bool may_still_run(HvpTasks *tasks, const HvpTask *known)
{
	HvpTask now;

	return hvp_tasks_look(tasks, known->address, &now) &&
	       now.start_boottime_nsec == known->start_boottime_nsec && !hvp_task_is_dead(&now);
}

/* Forgets of those that have left who is dead, and who is in @tasks after all. */
static bool prune_departed(HvpSweep *self, HvpTasks *tasks, GError **error)
{
	guint kept = 0;
	bool in_time = true;

	for (guint i = 0; i < self->departed->len; i++) {
		HvpTask known = g_array_index(self->departed, HvpTask, i);

		in_time = in_time && check_time(self, error);
		if (!in_time ||
		    (may_still_run(tasks, &known) && hvp_tasks_find(tasks, known.address) == NULL))
			g_array_index(self->departed, HvpTask, kept++) = known;
	}
	g_array_set_size(self->departed, kept);
	return in_time;
}

/* The task at @index of the list, by what was last read of it: its struct may be another's since.
 */
static const HvpTask *known_task(const HvpSweep *self, guint index)
{
	return index < self->verdicts->len ? &verdict_at(self, index)->task
					   : hvp_tasks_get(self->tasks, index);
}

/*
 * Whoever is known and not in @tasks exits, but may still run for a while. All of them or, on
 * failure, none.
 */
static bool note_departed(HvpSweep *self, HvpTasks *tasks, GError **error)
{
	guint count = self->tasks ? hvp_tasks_count(self->tasks) : 0;
	guint before = self->departed->len;

	for (guint i = 0; i < count; i++) {
		const HvpTask *task = known_task(self, i);

		if (hvp_tasks_find(tasks, task->address) != NULL || !may_still_run(tasks, task))
			continue;
		if (self->departed->len == MAX_DEPARTED) {
			g_array_set_size(self->departed, before);
			return hvp_error_set(error, HVP_ERROR_BUSY,
					     "more than %u tasks of the guest are exiting",
					     MAX_DEPARTED);
		}
		g_array_append_vals(self->departed, task, 1);
	}
	return true;
}

/*
 * A fresh entry for every task of @tasks, which it takes. Where those that have left could not be
 * noted the old ones stay: nothing else knows of them.
 */
static bool start_verdicts(HvpSweep *self, HvpTasks *tasks, GError **error)
{
	g_autoptr(HvpTasks) owned = tasks;

	if (!prune_departed(self, tasks, error) || !note_departed(self, tasks, error))
		return false;
	hvp_tasks_free(self->tasks);
	self->tasks = g_steal_pointer(&owned);
	g_array_set_size(self->verdicts, 0);
	add_entries(self);
	return true;
}

/* For the frames of all tasks, behind those that are kept already. */
static void make_frame_room(HvpSweep *self)
{
	guint used = self->frames->len;
	guint room = MIN(self->verdicts->len * FRAMES_PER_TASK + SPARE_FRAMES, MAX_FRAMES);

	if (room <= self->frame_room)
		return;
	g_array_set_size(self->frames, room);
	g_array_set_size(self->frames, used);
	self->frame_room = room;
}

static void reserve(HvpSweep *self)
{
	guint count = self->verdicts->len;

	/* What is appended while the guest stands still must not make the arrays grow. */
	g_array_set_size(self->frames, 0);
	make_frame_room(self);
	g_array_set_size(self->now, count);
	g_array_set_size(self->unseen, count + MAX_VCPUS);
}

/*
 * A task that ran while its stack was read leaves a trace that makes no sense: that is no verdict,
 * and not a reason to think that it is in the way.
 */
static bool drop_moved(HvpSweep *self, GError **error)
{
	for (guint i = 0; i < self->verdicts->len; i++) {
		HvpSweepTask *entry = verdict_at(self, i);
		HvpTask now;

		if (entry->verdict == HVP_UNWIND_RELIABLE || entry->verdict == HVP_UNWIND_NOT_SEEN)
			continue;
		if (!check_time(self, error))
			return false;
		if (!hvp_tasks_look(self->tasks, entry->task.address, &now) ||
		    !hvp_task_unmoved(&entry->task, &now))
			entry->verdict = HVP_UNWIND_NOT_SEEN;
	}
	return true;
}

/* Takes over what was seen before of tasks that have not moved since. */
static void reuse_verdicts(HvpSweep *self, const HvpTask *now, guint count)
{
	for (guint i = 0; i < count; i++) {
		HvpSweepTask *entry = verdict_at(self, i);

		if (!hvp_task_unmoved(&entry->task, &now[i]))
			entry->verdict = HVP_UNWIND_NOT_SEEN;
		entry->task = now[i];
		entry->vcpu = -1;
		entry->in_user_mode = false;
	}
}

/*
 * Looks once more at who has moved since the run began, which takes a fraction of its time: it is
 * likelier then that nobody moves until the guest stands still.
 */
static bool look_closer(HvpSweep *self, GError **error)
{
	HvpTask *now = (HvpTask *)(void *)self->now->data;
	guint traced = 0;

	hvp_activity_mark(self->activity);
	if (!hvp_tasks_reread(self->tasks, now) || !hvp_tasks_same_links(self->tasks, now)) {
		/* Of the tasks that came nothing is known. */
		hvp_activity_forget(self->activity);
		return true;
	}
	reuse_verdicts(self, now, self->verdicts->len);
	collect_unseen(self, 0);
	return trace_unseen(self, MOMENT_RUNNING, &traced, error) && drop_moved(self, error);
}

/*
 * Looks once at what a recheck of a quiet guest looks at: after the memory of thousands of tasks
 * nothing of that is in the caches, here or in the page walk.
 */
static void warm_up(HvpSweep *self)
{
	HvpTask ignored;

	(void)!hvp_locks_check_free(self->locks, NULL);
	(void)!hvp_modules_still_hold(self->target->modules);
	(void)!hvp_running_classify(self->kernel, self->target->registers,
				    MIN(self->target->vcpu_count, MAX_VCPUS), self->running, NULL);
	for (guint i = 0; i < self->unseen->len; i++)
		(void)!hvp_tasks_look(self->tasks,
				      verdict_at(self, g_array_index(self->unseen, guint, i))
					      ->task.address,
				      &ignored);
}

bool hvp_sweep_run(HvpSweep *self, GError **error)
{
	gint64 started = g_get_monotonic_time();
	HvpTasks *tasks;
	guint traced = 0;

	self->swept = false;
	self->deadline = hvp_deadline_in(LOOK_USEC);
	hvp_address_space_forget(hvp_kernel_get_space(self->kernel));
	if (!hvp_modules_still_hold(self->target->modules) &&
	    !hvp_target_refresh_modules(self->target, error))
		return false;
	/* Large and slow to read: not for the moment in which the guest stands still. */
	for (guint i = 0; i < hvp_modules_count(self->target->modules); i++)
		(void)hvp_modules_get_orc(self->target->modules,
					  hvp_modules_get(self->target->modules, i));
	hvp_activity_mark(self->activity);
	if (!read_tasks(self, &tasks, error) || !start_verdicts(self, tasks, error))
		return false;
	reserve(self);
	collect_unseen(self, 0);
	if (!trace_unseen(self, MOMENT_RUNNING, &traced, error) || !drop_moved(self, error))
		return false;
	for (guint i = 0; i < CLOSER_LOOKS && hvp_activity_has_moved(self->activity); i++)
		if (!look_closer(self, error))
			return false;
	collect_unseen(self, 0);
	warm_up(self);
	self->swept = true;
	self->run_usec = g_get_monotonic_time() - started;
	return true;
}

bool hvp_sweep_settle(HvpSweep *self, GError **error)
{
	if (!hvp_sweep_run(self, error))
		return false;
	for (guint i = 0; i < self->verdicts->len; i++)
		if (verdict_at(self, i)->verdict == HVP_UNWIND_NOT_SEEN)
			verdict_at(self, i)->verdict = HVP_UNWIND_UNDECIDED;
	return true;
}

static bool not_quiescent(GError **error, guint vcpu, const char *why)
{
	return hvp_error_set(error, HVP_ERROR_BUSY, "vCPU %u %s", vcpu, why);
}

static bool classify_vcpus(HvpSweep *self, const HvpRegisters *registers, guint count,
			   GError **error)
{
	if (count > MAX_VCPUS)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "more than %u vCPUs", MAX_VCPUS);
	self->running_count = count;
	return hvp_running_classify(self->kernel, registers, count, self->running, error);
}

/* The entry on whose stack the vCPU is, or NULL: the current task but for a few instructions. */
static HvpSweepTask *find_owner(const HvpSweep *self, const HvpRunning *running,
				const HvpRegisters *registers)
{
	const HvpTask *current = hvp_tasks_find(self->tasks, running->current);
	HvpSweepTask *entry;

	if (current != NULL) {
		entry = verdict_at(self, (guint)(current - hvp_tasks_get(self->tasks, 0)));
		if (hvp_running_is_owner(running, &entry->task, self->stack_bytes, registers))
			return entry;
	}
	for (guint i = 0; i < self->verdicts->len; i++)
		if (hvp_running_is_owner(running, &verdict_at(self, i)->task, self->stack_bytes,
					 registers))
			return verdict_at(self, i);
	return NULL;
}

static bool assign_vcpus(HvpSweep *self, const HvpRegisters *registers, GError **error)
{
	for (guint vcpu = 0; vcpu < self->running_count; vcpu++) {
		HvpSweepTask *entry;

		if (!self->running[vcpu].started)
			continue;
		entry = find_owner(self, &self->running[vcpu], &registers[vcpu]);
		if (entry == NULL)
			return not_quiescent(error, vcpu, "is on no task's stack");
		if (entry->vcpu >= 0)
			return not_quiescent(error, vcpu, "shares a stack with another");
		entry->vcpu = (gint)vcpu;
		self->owners[vcpu] = entry;
	}
	return true;
}

/*
 * The one of the exception stacks that @sp lies on: from its page on as far as pages follow, for
 * guards that are not mapped lie between them.
 */
static HvpVirtualRead exception_stack(HvpSweep *self, const HvpRunning *running, HvpGva sp,
				      guint8 *buffer)
{
	HvpVirtualRead read = { hvp_gva(sp.value & ~HVP_PAGE_MASK), buffer, 0, false };
	HvpAddressSpace *space = hvp_kernel_get_space(self->kernel);
	HvpGpa gpa;

	if (!hvp_gva_range_contains(running->exception_stacks, sp))
		return read;
	while (read.length_bytes < self->stack_bytes &&
	       hvp_gva_range_contains(running->exception_stacks,
				      hvp_gva_add(read.gva, read.length_bytes)) &&
	       hvp_address_space_translate(space, hvp_gva_add(read.gva, read.length_bytes), &gpa,
					   NULL))
		read.length_bytes += HVP_PAGE_SIZE;
	return read;
}

/* Task stack, IRQ stack and exception stack: each may lead into the one before. */
static bool trace_on_vcpu(HvpSweep *self, HvpSweepTask *entry, const HvpRegisters *registers,
			  GError **error)
{
	const HvpRunning *running = &self->running[entry->vcpu];
	HvpStackCopy stacks[3];
	guint count = 0;

	if (running->in_user_mode) {
		/* Its kernel stack is empty. */
		keep_empty(self, entry);
		entry->in_user_mode = true;
		return true;
	}
	self->reads[0] = (HvpVirtualRead){ entry->task.stack, self->stacks, self->stack_bytes,
					   false };
	self->reads[1] = (HvpVirtualRead){ running->irq_stack.start,
					   self->stacks + self->stack_bytes,
					   hvp_gva_range_size(running->irq_stack), false };
	self->reads[2] = exception_stack(self, running, hvp_gva(registers->general[HVP_RSP]),
					 self->stacks + 2 * (gsize)self->stack_bytes);
	if (!hvp_address_space_read_batch(hvp_kernel_get_space(self->kernel), self->reads,
					  G_N_ELEMENTS(stacks), error))
		return false;
	for (guint i = 0; i < G_N_ELEMENTS(stacks); i++)
		if (self->reads[i].ok && self->reads[i].length_bytes > 0)
			stacks[count++] = (HvpStackCopy){ self->reads[i].gva,
							  self->reads[i].length_bytes,
							  self->reads[i].buffer };
	hvp_unwinder_trace_running(self->unwinder, entry->task.address, registers, stacks, count,
				   &self->trace);
	keep_trace(self, entry);
	return true;
}

/* The list itself changed: take the new one, keeping the verdicts of those that have not moved. */
static bool rebuild(HvpSweep *self, GError **error)
{
	g_autoptr(GArray) old = NULL;
	HvpTasks *tasks;

	if (!read_tasks(self, &tasks, error))
		return false;
	old = g_array_copy(self->verdicts);
	if (!start_verdicts(self, tasks, error))
		return false;
	make_frame_room(self);
	for (guint i = 0; i < old->len; i++) {
		const HvpSweepTask *known = &g_array_index(old, HvpSweepTask, i);
		const HvpTask *found = hvp_tasks_find(tasks, known->task.address);
		HvpSweepTask *entry;

		if (found == NULL || !hvp_task_unmoved(&known->task, found))
			continue;
		entry = verdict_at(self, (guint)(found - hvp_tasks_get(tasks, 0)));
		entry->verdict = known->verdict;
		entry->last_pc = known->last_pc;
		entry->first_frame = known->first_frame;
		entry->frame_count = known->frame_count;
	}
	return true;
}

/*
 * Tasks that have left all lists: those seen earlier that are not dead yet, and those queued to
 * run.
 */
static bool add_unlisted(HvpSweep *self, GError **error)
{
	hvp_tasks_set_deadline(self->tasks, self->deadline);
	if (!prune_departed(self, self->tasks, error))
		return false;
	for (guint i = 0; i < self->departed->len; i++)
		if (!hvp_tasks_add(self->tasks, g_array_index(self->departed, HvpTask, i).address,
				   error))
			return false;
	/* As every known task, each is noted anew when a later list is without it. */
	g_array_set_size(self->departed, 0);
	if (!hvp_tasks_add_queued(self->tasks, error))
		return false;
	add_entries(self);
	return true;
}

static bool refresh_keys(HvpSweep *self, GError **error)
{
	HvpTask *now = (HvpTask *)(void *)self->now->data;

	self->reread = self->tasks ? hvp_tasks_count(self->tasks) : 0;
	/* Without a sweep that succeeded all is seen now. */
	if (self->tasks == NULL || self->now->len < hvp_tasks_count(self->tasks) ||
	    !hvp_tasks_reread(self->tasks, now) || !hvp_tasks_same_links(self->tasks, now))
		return rebuild(self, error);
	reuse_verdicts(self, now, self->verdicts->len);
	return true;
}

/* The guest was quiet: only those that have no verdict may differ from what was read of them. */
static bool refresh_unseen(HvpSweep *self)
{
	self->reread = self->unseen->len;
	for (guint i = 0; i < self->unseen->len; i++) {
		HvpSweepTask *entry = verdict_at(self, g_array_index(self->unseen, guint, i));
		bool is_idle = entry->task.is_idle;

		if (!hvp_tasks_look(self->tasks, entry->task.address, &entry->task))
			return false;
		entry->task.is_idle = is_idle;
	}
	return true;
}

/* Makes keys and verdicts those of this moment, and notes whose stack has to be unwound now. */
static bool refresh(HvpSweep *self, GError **error)
{
	bool quiet = self->swept && hvp_activity_is_quiet(self->activity) && refresh_unseen(self);
	guint seen = self->verdicts->len;

	self->swept = false;
	self->only_unseen_changed = quiet;
	if ((!quiet && !refresh_keys(self, error)) || !add_unlisted(self, error))
		return false;
	collect_unseen(self, quiet ? seen : 0);
	return true;
}

/* Whoever is on a vCPU was unwound anew, whether there was a verdict or not. */
static void note_owners(HvpSweep *self)
{
	HvpSweepTask *first = verdict_at(self, 0);

	for (guint vcpu = 0; vcpu < self->running_count; vcpu++) {
		guint index;

		if (!self->running[vcpu].started)
			continue;
		index = (guint)(self->owners[vcpu] - first);
		g_array_append_val(self->unseen, index);
	}
}

bool hvp_sweep_recheck(HvpSweep *self, const HvpRegisters *registers, guint vcpu_count,
		       guint *ret_rechecked, GError **error)
{
	guint traced = 0;

	self->deadline = hvp_deadline_in(LOOK_USEC);
	self->only_unseen_changed = false;
	hvp_address_space_forget(hvp_kernel_get_space(self->kernel));
	if (!classify_vcpus(self, registers, vcpu_count, error) ||
	    !hvp_locks_check_free(self->locks, error))
		return false;
	if (!hvp_modules_still_hold(self->target->modules))
		return hvp_error_set(error, HVP_ERROR_BUSY, "the guest's module list has changed");
	if (!refresh(self, error) || !assign_vcpus(self, registers, error))
		return false;
	for (guint vcpu = 0; vcpu < self->running_count; vcpu++) {
		if (!self->running[vcpu].started)
			continue;
		if (!check_time(self, error) ||
		    !trace_on_vcpu(self, self->owners[vcpu], &registers[vcpu], error))
			return false;
		traced++;
	}
	if (!trace_unseen(self, MOMENT_STOPPED, &traced, error))
		return false;
	note_owners(self);
	*ret_rechecked = traced;
	return true;
}
