/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/tasks.h"

#include "base/bytes.h"

#include <string.h>

#define MAX_TASK_STRUCT_BYTES (64U << 10)
#define MAX_PRIORITIES 128U
#define LIST_HEAD_BYTES 16U
#define BATCH_TASKS 128U
/* Of one CPU, of what is queued and no task: realtime groups, and deadline servers. */
#define MAX_GROUPS 4096U
#define MAX_SERVERS 16U

struct HvpTasks {
	HvpKernel *kernel;
	GArray *tasks;		/* HvpTask */
	GHashTable *by_address; /* task address, mixed -> index + 1 */
	guint64 mixer;		/* odd and random: no guest can choose addresses that collide */
	HvpDeadline deadline;	/* for tasks to be added */
	GArray *pending;	/* HvpGva: of a run queue, what is still to be visited */
	/* The block of a task_struct that holds all fields but thread.sp, and room to read. */
	guint32 block_start;
	guint32 block_bytes;
	guint8 *blocks; /* [BATCH_TASKS][block_bytes + 8] */
	HvpVirtualRead reads[BATCH_TASKS * 2];
};

/* All fields of a task_struct that are read, thread.sp apart: it lies far off. */
static const HvpLayoutItem block_fields[] = {
	HVP_AT_TASK_TASKS,	HVP_AT_TASK_SIGNAL, HVP_AT_TASK_THREAD_NODE,
	HVP_AT_TASK_STACK,	HVP_AT_TASK_PID,    HVP_AT_TASK_TGID,
	HVP_AT_TASK_COMM,	HVP_AT_TASK_FLAGS,  HVP_AT_TASK_STATE,
	HVP_AT_TASK_EXIT_STATE, HVP_AT_TASK_ON_CPU, HVP_AT_TASK_START_BOOTTIME,
	HVP_AT_TASK_NVCSW,	HVP_AT_TASK_NIVCSW, HVP_AT_TASK_CPU,
};

void hvp_tasks_free(HvpTasks *self)
{
	if (self == NULL)
		return;
	g_array_unref(self->tasks);
	g_hash_table_unref(self->by_address);
	g_array_unref(self->pending);
	g_free(self->blocks);
	g_free(self);
}

static const HvpLayout *layout_of(const HvpTasks *self)
{
	return hvp_kernel_get_layout(self->kernel);
}

static bool prepare_block(HvpTasks *self, GError **error)
{
	const HvpLayout *layout = layout_of(self);
	guint32 low = G_MAXUINT32, high = 0;

	for (guint i = 0; i < G_N_ELEMENTS(block_fields); i++) {
		guint32 offset = hvp_layout_get(layout, block_fields[i]);

		low = MIN(low, offset);
		high = MAX(high, offset + HVP_TASK_COMM_BYTES);
	}
	if (high > MAX_TASK_STRUCT_BYTES)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "task_struct is malformed");
	self->block_start = low;
	self->block_bytes = high - low;
	self->blocks = g_malloc((gsize)BATCH_TASKS * (self->block_bytes + 8));
	return true;
}

static guint8 *block_of(HvpTasks *self, guint slot)
{
	return self->blocks + (gsize)slot * (self->block_bytes + 8);
}

/* thread.sp comes second: it is final when on_cpu, read before it, is 0. */
static void prepare_reads(HvpTasks *self, guint slot, HvpGva address)
{
	guint8 *block = block_of(self, slot);

	self->reads[slot * 2] = (HvpVirtualRead){ hvp_gva_add(address, self->block_start), block,
						  self->block_bytes, false };
	self->reads[slot * 2 + 1] = (HvpVirtualRead){
		hvp_gva_add(address, hvp_layout_get(layout_of(self), HVP_AT_TASK_SP)),
		block + self->block_bytes, 8, false
	};
}

static const guint8 *field(HvpTasks *self, guint slot, HvpLayoutItem item)
{
	return block_of(self, slot) + (hvp_layout_get(layout_of(self), item) - self->block_start);
}

static void decode_task(HvpTasks *self, guint slot, HvpGva address, HvpTask *ret_task)
{
	HvpTask task = { .address = address };

	task.pid = (gint32)hvp_load_u32(field(self, slot, HVP_AT_TASK_PID));
	task.tgid = (gint32)hvp_load_u32(field(self, slot, HVP_AT_TASK_TGID));
	memcpy(task.comm, field(self, slot, HVP_AT_TASK_COMM), HVP_TASK_COMM_BYTES);
	task.flags = hvp_load_u32(field(self, slot, HVP_AT_TASK_FLAGS));
	task.state = hvp_load_u32(field(self, slot, HVP_AT_TASK_STATE));
	task.exit_state = hvp_load_u32(field(self, slot, HVP_AT_TASK_EXIT_STATE));
	task.cpu = hvp_load_u32(field(self, slot, HVP_AT_TASK_CPU));
	task.on_cpu = hvp_load_u32(field(self, slot, HVP_AT_TASK_ON_CPU)) != 0;
	task.stack = hvp_gva(hvp_load_u64(field(self, slot, HVP_AT_TASK_STACK)));
	task.sp = hvp_gva(hvp_load_u64(block_of(self, slot) + self->block_bytes));
	task.start_boottime_nsec = hvp_load_u64(field(self, slot, HVP_AT_TASK_START_BOOTTIME));
	task.switches = hvp_load_u64(field(self, slot, HVP_AT_TASK_NVCSW));
	task.switches_involuntary = hvp_load_u64(field(self, slot, HVP_AT_TASK_NIVCSW));
	task.tasks_next = hvp_load_u64(field(self, slot, HVP_AT_TASK_TASKS));
	task.thread_next = hvp_load_u64(field(self, slot, HVP_AT_TASK_THREAD_NODE));
	*ret_task = task;
}

guint hvp_tasks_count(const HvpTasks *self)
{
	return self->tasks->len;
}

const HvpTask *hvp_tasks_get(const HvpTasks *self, guint index)
{
	return &g_array_index(self->tasks, HvpTask, index);
}

/*
 * The key of a task. The table hashes a pointer's lower half, so the upper bits of a product,
 * which depend on all others, go there; the multiplication can be undone, so keys are unique.
 */
static gpointer key_of(const HvpTasks *self, HvpGva address)
{
	guint64 mixed = address.value * self->mixer;

	return GSIZE_TO_POINTER(mixed >> 32 | mixed << 32);
}

const HvpTask *hvp_tasks_find(const HvpTasks *self, HvpGva address)
{
	guint index = GPOINTER_TO_UINT(
		g_hash_table_lookup(self->by_address, key_of(self, address)));

	return index == 0 ? NULL : hvp_tasks_get(self, index - 1);
}

static bool read_task(HvpTasks *self, HvpGva address, HvpTask *ret_task, GError **error)
{
	prepare_reads(self, 0, address);
	if (!hvp_address_space_read_batch(hvp_kernel_get_space(self->kernel), self->reads, 2,
					  error))
		return false;
	if (!self->reads[0].ok || !self->reads[1].ok)
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "the task at 0x%" G_GINT64_MODIFIER "x cannot be read",
				     address.value);
	decode_task(self, 0, address, ret_task);
	return true;
}

/* Reads the task and adds it; none may be added twice. */
static bool add_task(HvpTasks *self, HvpGva address, bool is_idle, HvpTask *ret_task,
		     GError **error)
{
	if (!read_task(self, address, ret_task, error))
		return false;
	if (hvp_deadline_passed(self->deadline))
		return hvp_error_set(error, HVP_ERROR_TIMED_OUT,
				     "reading the guest's tasks takes too long, after %u of them",
				     self->tasks->len);
	if (self->tasks->len >= HVP_TASKS_MAX)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the guest's task list does not end");
	ret_task->is_idle = is_idle;
	g_array_append_val(self->tasks, *ret_task);
	g_hash_table_insert(self->by_address, key_of(self, address),
			    GUINT_TO_POINTER(self->tasks->len));
	return true;
}

/*
 * Adds the task whose list node, member @item, lies at @at and must lead back to @previous. A
 * task that is known already means that lists run into each other, so that every walk ends.
 */
static bool add_linked(HvpTasks *self, HvpLayoutItem item, guint64 at, guint64 previous,
		       HvpTask *ret_task, GError **error)
{
	HvpGva address = hvp_gva(at - hvp_layout_get(layout_of(self), item));

	if (hvp_tasks_find(self, address) != NULL)
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "the guest's task lists meet at 0x%" G_GINT64_MODIFIER "x",
				     address.value);
	if (!add_task(self, address, false, ret_task, error))
		return false;
	if (hvp_load_u64(field(self, 0, item) + 8) != previous)
		return hvp_error_set(
			error, HVP_ERROR_BUSY,
			"the guest's task lists are being changed at 0x%" G_GINT64_MODIFIER "x",
			address.value);
	return true;
}

/*
 * Follows one thread group from its signal's list head; @leader, known by now, is on it, and its
 * block is the one that was read last. Most are alone in theirs: linked to the head on both sides.
 */
static bool add_threads(HvpTasks *self, const HvpTask *leader, GError **error)
{
	const HvpLayout *layout = layout_of(self);
	guint32 node = hvp_layout_get(layout, HVP_AT_TASK_THREAD_NODE);
	guint64 signal = hvp_load_u64(field(self, 0, HVP_AT_TASK_SIGNAL));
	guint64 head = signal + hvp_layout_get(layout, HVP_AT_SIGNAL_THREAD_HEAD);
	guint64 previous, at;
	bool leader_seen = false;

	if (leader->thread_next == head &&
	    hvp_load_u64(field(self, 0, HVP_AT_TASK_THREAD_NODE) + 8) == head)
		return true;
	if (!hvp_address_space_read_u64(hvp_kernel_get_space(self->kernel), hvp_gva(head), &at,
					error))
		return false;
	for (previous = head; at != head;) {
		HvpTask task = *leader;

		if ((leader_seen || at - node != leader->address.value) &&
		    !add_linked(self, HVP_AT_TASK_THREAD_NODE, at, previous, &task, error))
			return false;
		leader_seen |= task.address.value == leader->address.value;
		previous = at;
		at = task.thread_next;
	}
	return true;
}

static bool add_listed(HvpTasks *self, GError **error)
{
	guint32 node = hvp_layout_get(layout_of(self), HVP_AT_TASK_TASKS);
	HvpGva init_task;
	HvpTask task;
	guint64 head, previous;

	if (!hvp_kernel_symbol(self->kernel, "init_task", &init_task, error) ||
	    !add_task(self, init_task, true, &task, error))
		return false;
	previous = head = init_task.value + node;
	for (guint64 at = task.tasks_next; at != head; at = task.tasks_next) {
		if (!add_linked(self, HVP_AT_TASK_TASKS, at, previous, &task, error) ||
		    !add_threads(self, &task, error))
			return false;
		previous = at;
	}
	return true;
}

/* Adds the task unless it was found on a list. */
static bool add_known(HvpTasks *self, guint64 address, bool is_idle, GError **error)
{
	HvpTask task;

	/* A CPU that never came up has neither idle task nor current one. */
	return address == 0 || hvp_tasks_find(self, hvp_gva(address)) != NULL ||
	       add_task(self, hvp_gva(address), is_idle, &task, error);
}

/* Idle tasks and those on a CPU: on no list that is walked above, or not yet. */
static bool add_per_cpu(HvpTasks *self, guint cpu, GError **error)
{
	HvpAddressSpace *space = hvp_kernel_get_space(self->kernel);
	HvpGva queue, current;
	guint64 idle, running;

	if (!hvp_kernel_per_cpu(self->kernel, "runqueues", cpu, &queue, error) ||
	    !hvp_address_space_read_u64(
		    space, hvp_gva_add(queue, hvp_layout_get(layout_of(self), HVP_AT_RQ_IDLE)),
		    &idle, error) ||
	    !hvp_kernel_current_address(self->kernel, cpu, &current, error) ||
	    !hvp_address_space_read_u64(space, current, &running, error))
		return false;
	return add_known(self, idle, true, error) && add_known(self, running, false, error);
}

HvpTasks *hvp_tasks_new(HvpKernel *kernel, GError **error)
{
	g_autoptr(HvpTasks) self = g_new0(HvpTasks, 1);

	self->kernel = kernel;
	self->tasks = g_array_new(FALSE, FALSE, sizeof(HvpTask));
	self->by_address = g_hash_table_new(NULL, NULL);
	self->pending = g_array_new(FALSE, FALSE, sizeof(HvpGva));
	self->mixer = (guint64)g_random_int() << 32 | g_random_int() | 1;
	if (!prepare_block(self, error))
		return NULL;
	return g_steal_pointer(&self);
}

HvpTasks *hvp_tasks_read(HvpKernel *kernel, GError **error)
{
	return hvp_tasks_read_until(kernel, hvp_deadline_in(HVP_TASKS_MAX_USEC), error);
}

HvpTasks *hvp_tasks_read_until(HvpKernel *kernel, HvpDeadline deadline, GError **error)
{
	g_autoptr(HvpTasks) self = hvp_tasks_new(kernel, error);

	if (self == NULL)
		return NULL;
	hvp_tasks_set_deadline(self, deadline);
	if (!add_listed(self, error))
		return NULL;
	for (guint cpu = 0; cpu < hvp_kernel_get_cpu_count(kernel); cpu++)
		if (hvp_kernel_get_cpu_offset(kernel, cpu) != 0 && !add_per_cpu(self, cpu, error))
			return NULL;
	return g_steal_pointer(&self);
}

void hvp_tasks_set_deadline(HvpTasks *self, HvpDeadline deadline)
{
	self->deadline = deadline;
}

bool hvp_tasks_add(HvpTasks *self, HvpGva address, GError **error)
{
	return add_known(self, address.value, false, error);
}

static bool check_queue_time(const HvpTasks *self, GError **error)
{
	return !hvp_deadline_passed(self->deadline) ||
	       hvp_error_set(error, HVP_ERROR_TIMED_OUT,
			     "reading the guest's run queues takes too long");
}

static bool is_endless(GError **error)
{
	return hvp_error_set(error, HVP_ERROR_BAD_DATA, "a run queue of the guest does not end");
}

static bool read_at(const HvpTasks *self, guint64 base, HvpLayoutItem item, guint64 *ret_value,
		    GError **error)
{
	return hvp_address_space_read_u64(hvp_kernel_get_space(self->kernel),
					  hvp_gva(base + hvp_layout_get(layout_of(self), item)),
					  ret_value, error);
}

/* @at is the list node of a realtime entity: a task's, or with RT_GROUP_SCHED a group's. */
static bool add_realtime_entity(HvpTasks *self, guint64 at, GError **error)
{
	const HvpLayout *layout = layout_of(self);
	guint64 group = 0;
	HvpGva queue;

	if (hvp_layout_has(layout, HVP_AT_RT_ENTITY_GROUP) &&
	    !read_at(self, at - hvp_layout_get(layout, HVP_AT_RT_ENTITY_RUN_LIST),
		     HVP_AT_RT_ENTITY_GROUP, &group, error))
		return false;
	if (group == 0)
		return add_known(self, at - hvp_layout_get(layout, HVP_AT_TASK_RT_RUN_LIST), false,
				 error);
	if (self->pending->len == MAX_GROUPS)
		return is_endless(error);
	queue = hvp_gva(group + hvp_layout_get(layout, HVP_AT_RT_RQ_QUEUE));
	g_array_append_val(self->pending, queue);
	return true;
}

/* The tasks on the list at @head, each linked by its member @node. */
static bool add_list(HvpTasks *self, HvpGva head, HvpLayoutItem node, GError **error)
{
	HvpAddressSpace *space = hvp_kernel_get_space(self->kernel);
	guint32 offset = hvp_layout_get(layout_of(self), node);
	guint64 at = 0;

	if (!hvp_address_space_read_u64(space, head, &at, error))
		return false;
	/* Who was passed is known: a list longer than that passes somebody twice. */
	for (guint steps = 0; at != head.value; steps++) {
		if (steps > self->tasks->len + MAX_GROUPS)
			return is_endless(error);
		if (!check_queue_time(self, error) ||
		    !(node == HVP_AT_TASK_RT_RUN_LIST
			      ? add_realtime_entity(self, at, error)
			      : add_known(self, at - offset, false, error)) ||
		    !hvp_address_space_read_u64(space, hvp_gva(at), &at, error))
			return false;
	}
	return true;
}

/* The tasks on @queue's list @head, of a class that this kernel may not have. */
static bool add_list_of(HvpTasks *self, HvpGva queue, HvpLayoutItem head, HvpLayoutItem node,
			GError **error)
{
	const HvpLayout *layout = layout_of(self);

	return !hvp_layout_has(layout, head) || !hvp_layout_has(layout, node) ||
	       add_list(self, hvp_gva_add(queue, hvp_layout_get(layout, head)), node, error);
}

/* One list for each priority, nearly all of them empty: their heads are read at once. */
static bool add_priorities(HvpTasks *self, HvpGva lists, GError **error)
{
	guint8 heads[MAX_PRIORITIES * LIST_HEAD_BYTES];
	guint count = MIN(layout_of(self)->items[HVP_AT_RQ_RT_QUEUE].count, MAX_PRIORITIES);

	if (!hvp_address_space_read(hvp_kernel_get_space(self->kernel), lists, heads,
				    count * LIST_HEAD_BYTES, error))
		return false;
	for (guint i = 0; i < count; i++) {
		HvpGva head = hvp_gva_add(lists, i * LIST_HEAD_BYTES);

		if (hvp_load_u64(heads + i * LIST_HEAD_BYTES) != head.value &&
		    !add_list(self, head, HVP_AT_TASK_RT_RUN_LIST, error))
			return false;
	}
	return true;
}

/* With RT_GROUP_SCHED, groups have queues of their own, with tasks and groups again. */
static bool add_realtime_queue(HvpTasks *self, HvpGva queue, GError **error)
{
	const HvpLayout *layout = layout_of(self);
	HvpGva lists;

	if (!hvp_layout_has(layout, HVP_AT_RQ_RT_QUEUE) ||
	    !hvp_layout_has(layout, HVP_AT_TASK_RT_RUN_LIST))
		return true;
	if (hvp_layout_has(layout, HVP_AT_RT_ENTITY_GROUP) &&
	    (!hvp_layout_require(layout, HVP_AT_RT_ENTITY_RUN_LIST, error) ||
	     !hvp_layout_require(layout, HVP_AT_RT_RQ_QUEUE, error)))
		return false;
	lists = hvp_gva_add(queue, hvp_layout_get(layout, HVP_AT_RQ_RT_QUEUE));
	g_array_set_size(self->pending, 0);
	g_array_append_val(self->pending, lists);
	for (guint i = 0; i < self->pending->len; i++)
		if (!check_queue_time(self, error) ||
		    !add_priorities(self, g_array_index(self->pending, HvpGva, i), error))
			return false;
	return true;
}

/* Whether @entity is a task's, and not what lets another class run (a dl_server). */
static bool is_deadline_task(HvpTasks *self, guint64 entity, bool *ret_is_task, GError **error)
{
	const HvpLayoutValue *server = &layout_of(self)->items[HVP_AT_DL_ENTITY_SERVER];
	guint8 flags = 0;

	if (server->value != HVP_LAYOUT_ABSENT &&
	    !hvp_address_space_read(hvp_kernel_get_space(self->kernel),
				    hvp_gva(entity + server->value), &flags, 1, error))
		return false;
	*ret_is_task = (flags >> server->bit & 1) == 0;
	return true;
}

static bool add_deadline_node(HvpTasks *self, guint64 node, GError **error)
{
	const HvpLayout *layout = layout_of(self);
	HvpGva children[2];
	bool is_task;

	if (!is_deadline_task(self, node - hvp_layout_get(layout, HVP_AT_DL_ENTITY_NODE), &is_task,
			      error) ||
	    (is_task &&
	     !add_known(self, node - hvp_layout_get(layout, HVP_AT_TASK_DL_NODE), false, error)) ||
	    !read_at(self, node, HVP_AT_RB_LEFT, &children[0].value, error) ||
	    !read_at(self, node, HVP_AT_RB_RIGHT, &children[1].value, error))
		return false;
	for (guint i = 0; i < G_N_ELEMENTS(children); i++)
		if (children[i].value != 0)
			g_array_append_val(self->pending, children[i]);
	return true;
}

/* A red-black tree by deadlines. */
static bool add_deadline_queue(HvpTasks *self, HvpGva queue, GError **error)
{
	static const HvpLayoutItem needed[] = { HVP_AT_RQ_DL_ROOT, HVP_AT_TASK_DL_NODE,
						HVP_AT_DL_ENTITY_NODE, HVP_AT_RB_LEFT,
						HVP_AT_RB_RIGHT };
	HvpGva root;

	for (guint i = 0; i < G_N_ELEMENTS(needed); i++)
		if (!hvp_layout_has(layout_of(self), needed[i]))
			return true;
	if (!read_at(self, queue.value, HVP_AT_RQ_DL_ROOT, &root.value, error))
		return false;
	g_array_set_size(self->pending, 0);
	if (root.value != 0)
		g_array_append_val(self->pending, root);
	for (guint i = 0; i < self->pending->len; i++) {
		/* As with lists: who was visited is known, but for a few. */
		if (i > self->tasks->len + MAX_SERVERS)
			return is_endless(error);
		if (!check_queue_time(self, error) ||
		    !add_deadline_node(self, g_array_index(self->pending, HvpGva, i).value, error))
			return false;
	}
	return true;
}

bool hvp_tasks_add_queued(HvpTasks *self, GError **error)
{
	for (guint cpu = 0; cpu < hvp_kernel_get_cpu_count(self->kernel); cpu++) {
		HvpGva queue;

		if (hvp_kernel_get_cpu_offset(self->kernel, cpu) == 0)
			continue;
		if (!hvp_kernel_per_cpu(self->kernel, "runqueues", cpu, &queue, error) ||
		    !add_list_of(self, queue, HVP_AT_RQ_CFS_TASKS, HVP_AT_TASK_GROUP_NODE, error) ||
		    !add_list_of(self, queue, HVP_AT_RQ_SCX_RUNNABLE, HVP_AT_TASK_SCX_NODE,
				 error) ||
		    !add_realtime_queue(self, queue, error) ||
		    !add_deadline_queue(self, queue, error))
			return false;
	}
	return true;
}

bool hvp_tasks_reread(HvpTasks *self, HvpTask *ret_tasks)
{
	for (guint first = 0; first < self->tasks->len; first += BATCH_TASKS) {
		guint count = MIN(BATCH_TASKS, self->tasks->len - first);

		for (guint i = 0; i < count; i++)
			prepare_reads(self, i, hvp_tasks_get(self, first + i)->address);
		if (!hvp_address_space_read_batch(hvp_kernel_get_space(self->kernel), self->reads,
						  count * 2, NULL))
			return false;
		for (guint i = 0; i < count; i++) {
			const HvpTask *known = hvp_tasks_get(self, first + i);

			if (!self->reads[i * 2].ok || !self->reads[i * 2 + 1].ok)
				return false;
			decode_task(self, i, known->address, &ret_tasks[first + i]);
			ret_tasks[first + i].is_idle = known->is_idle;
		}
	}
	return true;
}

bool hvp_tasks_same_links(const HvpTasks *self, const HvpTask *now)
{
	for (guint i = 0; i < self->tasks->len; i++)
		if (hvp_tasks_get(self, i)->tasks_next != now[i].tasks_next ||
		    hvp_tasks_get(self, i)->thread_next != now[i].thread_next)
			return false;
	return true;
}

bool hvp_tasks_look(HvpTasks *self, HvpGva address, HvpTask *ret_task)
{
	return read_task(self, address, ret_task, NULL);
}

bool hvp_tasks_read_one(HvpKernel *kernel, HvpGva address, HvpTask *ret_task, GError **error)
{
	g_autoptr(HvpTasks) self = hvp_tasks_new(kernel, error);

	return self != NULL && read_task(self, address, ret_task, error);
}
