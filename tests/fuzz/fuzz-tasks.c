/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Task lists, thread groups and run queues with links and fields changed, before they are read or
 * meanwhile: every task once, or a reason, and no more reads than tasks account for.
 *
 *   input = generation u8, change*        (changes.h)
 */
#include "changes.h"
#include "guest/tasks.h"

#define THREADS 3U
#define LEADERS 4U
/* Of what a few dozen tasks take; a walk that does not end would pass any number. */
#define MOST_CALLS 4096U

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes);

typedef struct {
	Changes changes;
	HvpKernel *kernel;
} Scene;

static void add_node_places(Changes *changes, HvpGva address, HvpLayoutItem item)
{
	if (hvp_layout_has(&changes->guest->layout, item))
		changes_add_list(changes, synthetic_guest_member(changes->guest, address, item));
}

static void add_task_places(Changes *changes, HvpGva task)
{
	static const HvpLayoutItem items[] = {
		HVP_AT_TASK_SIGNAL, HVP_AT_TASK_STACK,	    HVP_AT_TASK_SP,	HVP_AT_TASK_PID,
		HVP_AT_TASK_STATE,  HVP_AT_TASK_EXIT_STATE, HVP_AT_TASK_ON_CPU, HVP_AT_TASK_COMM,
	};
	static const HvpLayoutItem nodes[] = { HVP_AT_TASK_TASKS, HVP_AT_TASK_THREAD_NODE,
					       HVP_AT_TASK_GROUP_NODE, HVP_AT_TASK_RT_RUN_LIST,
					       HVP_AT_TASK_DL_NODE };

	for (guint i = 0; i < G_N_ELEMENTS(nodes); i++)
		add_node_places(changes, task, nodes[i]);
	for (guint i = 0; i < G_N_ELEMENTS(items); i++)
		changes_add_member(changes, task, items[i]);
}

static void add_signal_places(Changes *changes, HvpGva task)
{
	SyntheticGuest *guest = changes->guest;
	HvpGva signal = hvp_gva(synthetic_guest_get(
		guest, synthetic_guest_member(guest, task, HVP_AT_TASK_SIGNAL)));

	changes_add_list(changes, synthetic_guest_member(guest, signal, HVP_AT_SIGNAL_THREAD_HEAD));
}

static void add_cpu_places(Changes *changes, guint cpu)
{
	SyntheticGuest *guest = changes->guest;
	HvpGva queue = synthetic_guest_per_cpu(guest, "runqueues", cpu);

	changes_add_member(changes, queue, HVP_AT_RQ_IDLE);
	add_node_places(changes, queue, HVP_AT_RQ_CFS_TASKS);
	add_node_places(changes, queue, HVP_AT_RQ_RT_QUEUE);
	changes_add_member(changes, queue, HVP_AT_RQ_DL_ROOT);
}

static Scene *scene_of(Generation generation)
{
	static Scene scenes[2];
	Scene *self = &scenes[generation];
	SyntheticOptions options = { .generation = generation };

	if (self->kernel != NULL)
		return self;
	self->changes.guest = synthetic_guest_new(&options);
	add_task_places(&self->changes, synthetic_guest_symbol(self->changes.guest, "init_task"));
	for (guint i = 0; i < LEADERS; i++) {
		HvpGva leader = synthetic_guest_add_task(self->changes.guest, "leader", i * 10 + 10,
							 hvp_gva(0));

		add_task_places(&self->changes, leader);
		add_signal_places(&self->changes, leader);
		for (guint k = 1; i == 1 && k <= THREADS; k++)
			add_task_places(&self->changes,
					synthetic_guest_add_task(self->changes.guest, "thread",
								 i * 10 + 10 + k, leader));
	}
	for (guint cpu = 0; cpu < SYNTHETIC_CPUS; cpu++)
		add_cpu_places(&self->changes, cpu);
	self->kernel = synthetic_guest_attach(self->changes.guest);
	return self;
}

static void check_answer(bool ok, const GError *error)
{
	g_assert(ok == (error == NULL));
	g_assert(error == NULL || error->domain == HVP_ERROR);
}

/* Each is found at its address, so none is there twice. */
static void check_tasks(const HvpTasks *tasks)
{
	for (guint i = 0; i < hvp_tasks_count(tasks); i++) {
		const HvpTask *task = hvp_tasks_get(tasks, i);

		g_assert(hvp_tasks_find(tasks, task->address) == task);
		g_assert(task->comm[HVP_TASK_COMM_BYTES] == 0);
		g_assert(hvp_task_state_letter(task) != 0);
	}
}

static void look(HvpKernel *kernel)
{
	g_autoptr(GError) error = NULL, not_queued = NULL;
	g_autoptr(HvpTasks) tasks = NULL;
	g_autofree HvpTask *now = NULL;
	bool ok;

	hvp_address_space_forget(hvp_kernel_get_space(kernel));
	tasks = hvp_tasks_read(kernel, &error);
	check_answer(tasks != NULL, error);
	if (tasks == NULL)
		return;
	check_tasks(tasks);
	now = g_new0(HvpTask, hvp_tasks_count(tasks));
	if (hvp_tasks_reread(tasks, now))
		hvp_tasks_same_links(tasks, now);
	ok = hvp_tasks_add_queued(tasks, &not_queued);
	check_answer(ok, not_queued);
	check_tasks(tasks);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes)
{
	Scene *scene;
	guint64 calls;

	if (size_bytes == 0)
		return 0;
	scene = scene_of(data[0] & 1);
	calls = scene->changes.guest->memory->calls;
	changes_begin(&scene->changes, data + 1, size_bytes - 1);
	look(scene->kernel);
	changes_end(&scene->changes);
	g_assert(scene->changes.guest->memory->calls - calls < MOST_CALLS);
	return 0;
}
