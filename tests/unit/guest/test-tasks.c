/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "guest/tasks.h"
#include "synthetic-guest.h"

/* swapper/0 and /1; init; a process of three threads; a kernel thread. */
#define TASKS 7U

typedef struct {
	SyntheticGuest *guest;
	HvpKernel *kernel;
	HvpGva init, process, thread[2], kthread;
} Fixture;

static void set_up(Fixture *self, Generation generation)
{
	SyntheticOptions options = { .generation = generation };

	self->guest = synthetic_guest_new(&options);
	self->init = synthetic_guest_add_task(self->guest, "init", 1, hvp_gva(0));
	self->process = synthetic_guest_add_task(self->guest, "process", 100, hvp_gva(0));
	for (guint i = 0; i < 2; i++)
		self->thread[i] = synthetic_guest_add_task(self->guest, "thread", 101 + i,
							   self->process);
	self->kthread = synthetic_guest_add_task(self->guest, "kthreadd", 2, hvp_gva(0));
	synthetic_guest_set(self->guest, self->kthread, HVP_AT_TASK_FLAGS, HVP_TASK_PF_KTHREAD);
	self->kernel = synthetic_guest_attach(self->guest);
}

static void tear_down(Fixture *self)
{
	hvp_kernel_free(self->kernel);
	synthetic_guest_free(self->guest);
}

static HvpGva member(Fixture *self, HvpGva task, HvpLayoutItem item)
{
	return synthetic_guest_member(self->guest, task, item);
}

static void assert_refused(Fixture *self, HvpErrorCode code)
{
	g_autoptr(GError) error = NULL;
	guint64 calls = self->guest->memory->calls;
	g_autoptr(HvpTasks) tasks = NULL;

	hvp_address_space_forget(hvp_kernel_get_space(self->kernel));
	tasks = hvp_tasks_read(self->kernel, &error);
	g_assert_null(tasks);
	g_assert_error(error, HVP_ERROR, (int)code);
	/* Soon, too. */
	g_assert_cmpuint(self->guest->memory->calls - calls, <, 1000);
}

static void test_all(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		g_autoptr(HvpTasks) tasks = NULL;
		g_autoptr(GError) error = NULL;
		const HvpTask *task;
		HvpTask alone;
		Fixture f;

		set_up(&f, generation);
		tasks = hvp_tasks_read(f.kernel, &error);
		g_assert_no_error(error);
		g_assert_cmpuint(hvp_tasks_count(tasks), ==, TASKS);
		task = hvp_tasks_find(tasks, f.thread[1]);
		g_assert_nonnull(task);
		g_assert_cmpint(task->pid, ==, 102);
		g_assert_cmpint(task->tgid, ==, 100);
		g_assert_cmpstr(task->comm, ==, "thread");
		g_assert_cmpuint(task->switches, ==, 112);
		g_assert_cmpuint(task->switches_involuntary, ==, 3);
		g_assert_cmpuint(task->start_boottime_nsec, ==, 1000102);
		g_assert_cmpint(hvp_task_state_letter(task), ==, 'S');
		g_assert_false(hvp_task_is_kthread(task) || task->is_idle || task->on_cpu);
		g_assert_true(hvp_task_is_kthread(hvp_tasks_find(tasks, f.kthread)));
		task = hvp_tasks_find(tasks, synthetic_guest_symbol(f.guest, "init_task"));
		g_assert_true(task->is_idle && hvp_task_is_kthread(task));
		g_assert_null(hvp_tasks_find(tasks, hvp_gva(0)));
		g_assert_true(hvp_tasks_read_one(f.kernel, f.init, &alone, &error));
		g_assert_cmpint(alone.pid, ==, 1);
		g_assert_false(hvp_tasks_read_one(f.kernel, hvp_gva(0x1000), &alone, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
		hvp_tasks_free(NULL);
		tear_down(&f);
	}
}

/* A task that runs but is on no list any more; a name without an end. */
static void test_current(void)
{
	Fixture f;
	HvpGva exiting, current;
	g_autoptr(HvpTasks) tasks = NULL;

	set_up(&f, GENERATION_6_1);
	exiting = synthetic_guest_alloc(f.guest,
					hvp_layout_get(&f.guest->layout, HVP_AT_TASK_SIZE));
	memset(synthetic_guest_bytes(f.guest, member(&f, exiting, HVP_AT_TASK_COMM), 16), 'x', 16);
	synthetic_guest_set(f.guest, exiting, HVP_AT_TASK_EXIT_STATE, 0x10);
	synthetic_guest_set(f.guest, exiting, HVP_AT_TASK_ON_CPU, 1);
	current = synthetic_guest_per_cpu(f.guest, "current_task", 1);
	synthetic_guest_put(f.guest, current, exiting.value);
	tasks = hvp_tasks_read(f.kernel, NULL);
	g_assert_cmpuint(hvp_tasks_count(tasks), ==, TASKS + 1);
	g_assert_cmpint(hvp_task_state_letter(hvp_tasks_find(tasks, exiting)), ==, 'X');
	g_assert_true(hvp_tasks_find(tasks, exiting)->on_cpu);
	g_assert_cmpuint(strlen(hvp_tasks_find(tasks, exiting)->comm), ==, 16);
	/* A CPU that never came up. */
	synthetic_guest_put(f.guest, current, 0);
	synthetic_guest_set(f.guest, synthetic_guest_per_cpu(f.guest, "runqueues", 1),
			    HVP_AT_RQ_IDLE, 0);
	hvp_tasks_free(g_steal_pointer(&tasks));
	tasks = hvp_tasks_read(f.kernel, NULL);
	g_assert_cmpuint(hvp_tasks_count(tasks), ==, TASKS - 1);
	tear_down(&f);
}

static void test_letters(void)
{
	static const struct {
		guint32 state, exit_state;
		char letter;
	} known[] = { { 0, 0, 'R' },	 { 1, 0, 'S' },	    { 2, 0, 'D' },    { 0x402, 0, 'I' },
		      { 4, 0, 'T' },	 { 8, 0, 't' },	    { 0x40, 0, 'P' }, { 0x80, 0, 'X' },
		      { 0x80, 32, 'Z' }, { 0x80, 16, 'X' }, { 0x200, 0, 'R' } };

	for (guint i = 0; i < G_N_ELEMENTS(known); i++) {
		HvpTask task = { .state = known[i].state, .exit_state = known[i].exit_state };

		g_assert_cmpint(hvp_task_state_letter(&task), ==, known[i].letter);
	}
}

static void test_unmoved(void)
{
	HvpTask before = { .address = { 1 },
			   .pid = 2,
			   .stack = { 3 },
			   .sp = { 4 },
			   .switches = 5,
			   .switches_involuntary = 6,
			   .start_boottime_nsec = 7 };
	HvpTask after = before;

	/* Of no meaning: what others may change while it sleeps. */
	after.state = 9;
	after.tasks_next = 9;
	g_assert_true(hvp_task_unmoved(&before, &after));
	for (guint i = 0; i < 9; i++) {
		HvpTask a = before, b = before;

		*(i == 0   ? &b.address.value
		  : i == 1 ? &b.stack.value
		  : i == 2 ? &b.sp.value
		  : i == 3 ? &b.switches
		  : i == 4 ? &b.switches_involuntary
			   : &b.start_boottime_nsec) += i <= 5;
		b.pid += i == 6;
		a.on_cpu = i == 7;
		b.on_cpu = i == 8;
		g_assert_false(hvp_task_unmoved(&a, &b));
	}
}

/* Each link led elsewhere: into a cycle, another list, itself, nowhere. */
static void test_links(void)
{
	for (guint i = 0; i < 12; i++) {
		Fixture f;
		HvpLayoutItem tasks = HVP_AT_TASK_TASKS, node = HVP_AT_TASK_THREAD_NODE;
		guint64 to;
		HvpGva from;

		set_up(&f, i & 1);
		from = i < 6 ? member(&f, f.kthread, tasks) : member(&f, f.thread[1], node);
		switch (i) {
		case 0:
			to = member(&f, f.init, tasks).value;
			break;
		case 1:
			to = member(&f, f.kthread, tasks).value;
			break;
		case 2:
			to = member(&f, f.thread[0], tasks).value;
			break;
		case 3:
		case 9:
			to = 0x1000;
			break;
		case 4:
		case 10:
			to = 0x4141414141414141;
			break;
		case 5:
		case 11:
			to = 0;
			break;
		case 6:
			to = member(&f, f.process, node).value;
			break;
		case 7:
			to = member(&f, f.init, node).value;
			break;
		default:
			to = member(&f, f.thread[0], node).value;
			break;
		}
		synthetic_guest_put(f.guest, from, to);
		assert_refused(&f, HVP_ERROR_BUSY);
		tear_down(&f);
	}
}

/* A node that was just taken out: its neighbours no longer point to it. */
static void test_back_links(void)
{
	Fixture f;
	HvpGva nodes[3];

	set_up(&f, GENERATION_6_1);
	nodes[0] = member(&f, f.process, HVP_AT_TASK_TASKS);
	nodes[1] = member(&f, f.thread[0], HVP_AT_TASK_THREAD_NODE);
	nodes[2] = member(&f, f.kthread, HVP_AT_TASK_TASKS);
	for (guint i = 0; i < 3; i++) {
		HvpGva back = hvp_gva_add(nodes[i], 8);
		guint64 saved = synthetic_guest_get(f.guest, back);

		synthetic_guest_put(f.guest, back, 0xdead000000000122);
		assert_refused(&f, HVP_ERROR_BUSY);
		synthetic_guest_put(f.guest, back, saved);
	}
	tear_down(&f);
}

/* A leader that is last in its group is not alone in it; nor is one whose group just changed. */
static void test_not_alone(void)
{
	g_autoptr(HvpTasks) tasks = NULL;
	HvpGva head, node;
	Fixture f;

	set_up(&f, GENERATION_6_12);
	head = member(
		&f,
		hvp_gva(synthetic_guest_get(f.guest, member(&f, f.process, HVP_AT_TASK_SIGNAL))),
		HVP_AT_SIGNAL_THREAD_HEAD);
	/* head, thread, thread, leader: as it is when the last one became the leader. */
	node = member(&f, f.process, HVP_AT_TASK_THREAD_NODE);
	synthetic_guest_put(f.guest, head, member(&f, f.thread[0], HVP_AT_TASK_THREAD_NODE).value);
	synthetic_guest_put(f.guest,
			    hvp_gva_add(member(&f, f.thread[0], HVP_AT_TASK_THREAD_NODE), 8),
			    head.value);
	synthetic_guest_put(f.guest, member(&f, f.thread[1], HVP_AT_TASK_THREAD_NODE), node.value);
	synthetic_guest_put(f.guest, hvp_gva_add(node, 8),
			    member(&f, f.thread[1], HVP_AT_TASK_THREAD_NODE).value);
	synthetic_guest_put(f.guest, node, head.value);
	synthetic_guest_put(f.guest, hvp_gva_add(head, 8), node.value);
	tasks = hvp_tasks_read(f.kernel, NULL);
	g_assert_cmpuint(hvp_tasks_count(tasks), ==, TASKS);
	g_assert_nonnull(hvp_tasks_find(tasks, f.thread[0]));
	g_assert_nonnull(hvp_tasks_find(tasks, f.thread[1]));
	tear_down(&f);
}

static void test_unreadable(void)
{
	Fixture f;
	HvpGva signal;

	set_up(&f, GENERATION_6_1);
	/* No signal_struct where the leader says. */
	signal = member(&f, f.process, HVP_AT_TASK_SIGNAL);
	synthetic_guest_put(f.guest, signal, 0x1000);
	assert_refused(&f, HVP_ERROR_FAULT);
	tear_down(&f);

	set_up(&f, GENERATION_6_1);
	f.guest->memory->hole_start = f.thread[0].value - SYNTHETIC_DIRECT_MAP;
	f.guest->memory->hole_end = f.guest->memory->hole_start + 64;
	assert_refused(&f, HVP_ERROR_BUSY);
	f.guest->memory->gone = true;
	assert_refused(&f, HVP_ERROR_VM_GONE);
	tear_down(&f);
}

/* Thread groups that all lead into one another: no more work than there are tasks. */
static void test_shared_signal(void)
{
	Fixture f;
	HvpGva from, to;

	set_up(&f, GENERATION_6_1);
	from = member(&f, f.kthread, HVP_AT_TASK_SIGNAL);
	to = member(&f, f.process, HVP_AT_TASK_SIGNAL);
	synthetic_guest_put(f.guest, from, synthetic_guest_get(f.guest, to));
	assert_refused(&f, HVP_ERROR_BUSY);
	tear_down(&f);
}

/* A list without an end of tasks that are all different addresses of one page. */
static void test_endless(void)
{
	Fixture f;
	guint32 size;
	HvpGva page;
	guint64 pd, pt;

	set_up(&f, GENERATION_6_1);
	size = hvp_layout_get(&f.guest->layout, HVP_AT_TASK_SIZE);
	g_assert_cmpuint(size, <, HVP_PAGE_SIZE);
	page = synthetic_guest_alloc_pages(f.guest, HVP_PAGE_SIZE);
	/* 2 MiB of the same page: lists' links can be right at one address only. */
	pt = synthetic_guest_entry(f.guest, f.guest->root_gpa, hvp_gva(0xffffea0000000000), 1);
	for (guint i = 0; i < 512; i++)
		image_memory_put_u64(f.guest->memory, pt + i * 8, (page.value & 0xffffff) | 3);
	pd = synthetic_guest_entry(f.guest, f.guest->root_gpa, hvp_gva(0xffffea0000000000), 2);
	for (guint i = 1; i < 512; i++)
		image_memory_put_u64(f.guest->memory, pd + i * 8,
				     image_memory_get_u64(f.guest->memory, pd));
	synthetic_guest_put(f.guest, member(&f, f.kthread, HVP_AT_TASK_TASKS),
			    0xffffea0000000000 +
				    hvp_layout_get(&f.guest->layout, HVP_AT_TASK_TASKS));
	assert_refused(&f, HVP_ERROR_BUSY);
	tear_down(&f);
}

/* Memory that answers slowly, or a list that is too long for the time: given up at once. */
static void slow_down(ImageMemory *memory, gpointer user_data)
{
	(void)memory;
	g_usleep(*(const gulong *)user_data);
}

static void test_slow(void)
{
	g_autoptr(HvpTasks) tasks = NULL;
	g_autoptr(GError) error = NULL;
	gulong usec = 20000;
	guint64 calls;
	HvpGva head;
	Fixture f;

	set_up(&f, GENERATION_6_12);
	tasks = hvp_tasks_read_until(f.kernel, hvp_deadline_in(G_USEC_PER_SEC), &error);
	g_assert_no_error(error);
	/* One that is queued to run and on no list yet would be added. */
	head = synthetic_guest_member(f.guest, synthetic_guest_per_cpu(f.guest, "runqueues", 0),
				      HVP_AT_RQ_CFS_TASKS);
	synthetic_guest_list_add(f.guest, head, member(&f, f.init, HVP_AT_TASK_GROUP_NODE));
	hvp_tasks_set_deadline(tasks, hvp_deadline_in(0));
	g_assert_false(hvp_tasks_add_queued(tasks, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_TIMED_OUT);
	g_clear_error(&error);
	hvp_tasks_free(g_steal_pointer(&tasks));

	f.guest->memory->on_read = slow_down;
	f.guest->memory->user_data = &usec;
	calls = f.guest->memory->calls;
	tasks = hvp_tasks_read_until(f.kernel, hvp_deadline_in(usec / 2), &error);
	g_assert_null(tasks);
	g_assert_error(error, HVP_ERROR, HVP_ERROR_TIMED_OUT);
	/* Its page tables and the first task. */
	g_assert_cmpuint(f.guest->memory->calls - calls, <, 12);
	tear_down(&f);
}

static void test_reread(void)
{
	Fixture f;
	g_autoptr(HvpTasks) tasks = NULL;
	HvpTask now[TASKS];
	HvpGva task;

	set_up(&f, GENERATION_6_12);
	tasks = hvp_tasks_read(f.kernel, NULL);
	g_assert_true(hvp_tasks_reread(tasks, now));
	g_assert_true(hvp_tasks_same_links(tasks, now));
	for (guint i = 0; i < TASKS; i++)
		g_assert_true(hvp_task_unmoved(hvp_tasks_get(tasks, i), &now[i]));
	/* It ran meanwhile. */
	synthetic_guest_set(f.guest, f.thread[0], HVP_AT_TASK_NVCSW, 5000);
	g_assert_true(hvp_tasks_reread(tasks, now));
	g_assert_true(hvp_tasks_same_links(tasks, now));
	for (guint i = 0; i < TASKS; i++)
		g_assert_cmpint(hvp_task_unmoved(hvp_tasks_get(tasks, i), &now[i]), ==,
				now[i].address.value != f.thread[0].value);
	g_assert_true(now[0].is_idle);
	/* One came: the last one's link shows it. */
	task = synthetic_guest_add_task(f.guest, "new", 300, hvp_gva(0));
	g_assert_true(hvp_tasks_reread(tasks, now));
	g_assert_false(hvp_tasks_same_links(tasks, now));
	hvp_tasks_free(g_steal_pointer(&tasks));
	tasks = hvp_tasks_read(f.kernel, NULL);
	g_assert_nonnull(hvp_tasks_find(tasks, task));
	tear_down(&f);
}

static void test_reread_thread(void)
{
	Fixture f;
	g_autoptr(HvpTasks) tasks = NULL;
	HvpTask now[TASKS];

	set_up(&f, GENERATION_6_1);
	tasks = hvp_tasks_read(f.kernel, NULL);
	synthetic_guest_add_task(f.guest, "new", 300, f.process);
	g_assert_true(hvp_tasks_reread(tasks, now));
	g_assert_false(hvp_tasks_same_links(tasks, now));
	/* Memory of a task is gone. */
	f.guest->memory->hole_start = f.process.value - SYNTHETIC_DIRECT_MAP;
	f.guest->memory->hole_end = f.guest->memory->hole_start + 64;
	g_assert_false(hvp_tasks_reread(tasks, now));
	f.guest->memory->gone = true;
	g_assert_false(hvp_tasks_reread(tasks, now));
	tear_down(&f);
}

/* The guest changes its lists while they are read: it unlinks a task, step by step. */
static void unlink_slowly(ImageMemory *memory, gpointer user_data)
{
	Fixture *f = user_data;
	HvpGva node = member(f, f->process, HVP_AT_TASK_TASKS);
	guint64 next = synthetic_guest_get(f->guest, node);
	guint64 back = synthetic_guest_get(f->guest, hvp_gva_add(node, 8));

	memory->on_read = NULL;
	synthetic_guest_put(f->guest, hvp_gva(next + 8), back);
}

static void test_racing(void)
{
	Fixture f;
	g_autoptr(HvpTasks) tasks = NULL;

	set_up(&f, GENERATION_6_1);
	tasks = hvp_tasks_read(f.kernel, NULL);
	g_assert_nonnull(tasks);
	f.guest->memory->on_read = unlink_slowly;
	f.guest->memory->user_data = &f;
	assert_refused(&f, HVP_ERROR_BUSY);
	tear_down(&f);
}

static void test_many(void)
{
	Fixture f;
	g_autoptr(HvpTasks) tasks = NULL;
	g_autofree HvpTask *now = g_new(HvpTask, TASKS + 150);

	set_up(&f, GENERATION_6_1);
	for (guint i = 0; i < 150; i++)
		synthetic_guest_add_task(f.guest, "more", 1000 + i, i % 3 ? f.process : hvp_gva(0));
	tasks = hvp_tasks_read(f.kernel, NULL);
	g_assert_cmpuint(hvp_tasks_count(tasks), ==, TASKS + 150);
	g_assert_true(hvp_tasks_reread(tasks, now));
	for (guint i = 0; i < hvp_tasks_count(tasks); i++) {
		const HvpTask *task = hvp_tasks_get(tasks, i);

		g_assert_true(hvp_tasks_find(tasks, task->address) == task);
		g_assert_true(hvp_task_unmoved(task, &now[i]));
	}
	tear_down(&f);
}

/* One that is on no list but a run queue's, between two that are known. */
static void test_queued(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		g_autoptr(HvpTasks) tasks = NULL;
		g_autoptr(GError) error = NULL;
		HvpGva head, exiting, nodes[3];
		Fixture f;

		set_up(&f, generation);
		exiting = synthetic_guest_alloc(f.guest,
						hvp_layout_get(&f.guest->layout, HVP_AT_TASK_SIZE));
		head = synthetic_guest_member(f.guest,
					      synthetic_guest_per_cpu(f.guest, "runqueues", 1),
					      HVP_AT_RQ_CFS_TASKS);
		nodes[0] = member(&f, f.init, HVP_AT_TASK_GROUP_NODE);
		nodes[1] = member(&f, exiting, HVP_AT_TASK_GROUP_NODE);
		nodes[2] = member(&f, f.kthread, HVP_AT_TASK_GROUP_NODE);
		for (guint i = 0; i < 3; i++)
			synthetic_guest_list_add(f.guest, head, nodes[i]);
		tasks = hvp_tasks_read(f.kernel, NULL);
		g_assert_null(hvp_tasks_find(tasks, exiting));
		g_assert_true(hvp_tasks_add_queued(tasks, &error));
		g_assert_nonnull(hvp_tasks_find(tasks, exiting));
		g_assert_cmpuint(hvp_tasks_count(tasks), ==, TASKS + 1);
		g_assert_true(hvp_tasks_add_queued(tasks, &error));
		g_assert_cmpuint(hvp_tasks_count(tasks), ==, TASKS + 1);
		/* Past the head; nowhere. */
		synthetic_guest_put(f.guest, nodes[2], nodes[0].value);
		g_assert_false(hvp_tasks_add_queued(tasks, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
		g_clear_error(&error);
		synthetic_guest_put(f.guest, nodes[2], 0x1000);
		g_assert_false(hvp_tasks_add_queued(tasks, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
		g_assert_cmpuint(hvp_tasks_count(tasks), ==, TASKS + 1);
		g_assert_cmpuint(f.guest->memory->calls, <, 10000);
		tear_down(&f);
	}
}

/* The same in the queue of a realtime priority; the other CPU's is empty. */
static void test_queued_realtime(void)
{
	SyntheticOptions options = { .missing = "sched_rt_entity.my_q" };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
	g_autoptr(HvpTasks) tasks = NULL;
	g_autoptr(GError) error = NULL;
	HvpGva exiting, node, heads[SYNTHETIC_CPUS];

	for (guint cpu = 0; cpu < SYNTHETIC_CPUS; cpu++) {
		heads[cpu] = synthetic_guest_member(
			guest, synthetic_guest_per_cpu(guest, "runqueues", cpu),
			HVP_AT_RQ_RT_QUEUE);
		synthetic_guest_put(guest, heads[cpu], heads[cpu].value);
		synthetic_guest_put(guest, hvp_gva_add(heads[cpu], 8), heads[cpu].value);
	}
	exiting = synthetic_guest_alloc(guest, hvp_layout_get(&guest->layout, HVP_AT_TASK_SIZE));
	node = synthetic_guest_member(guest, exiting, HVP_AT_TASK_RT_RUN_LIST);
	tasks = hvp_tasks_read(kernel, NULL);
	g_assert_true(hvp_tasks_add_queued(tasks, &error));
	g_assert_null(hvp_tasks_find(tasks, exiting));
	synthetic_guest_list_add(guest, heads[1], node);
	g_assert_true(hvp_tasks_add_queued(tasks, &error));
	g_assert_nonnull(hvp_tasks_find(tasks, exiting));
	synthetic_guest_put(guest, node, node.value);
	g_assert_false(hvp_tasks_add_queued(tasks, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
}

static HvpGva queue_member(Fixture *self, guint cpu, HvpLayoutItem item)
{
	return synthetic_guest_member(self->guest,
				      synthetic_guest_per_cpu(self->guest, "runqueues", cpu), item);
}

/* A task that is on no list at all. */
static HvpGva add_exiting(Fixture *self)
{
	return synthetic_guest_alloc(self->guest,
				     hvp_layout_get(&self->guest->layout, HVP_AT_TASK_SIZE));
}

/* A realtime group's entity, queued at @head, and its own queue. */
static HvpGva add_group(Fixture *self, HvpGva head)
{
	HvpGva entity = synthetic_guest_alloc(self->guest, 64);
	HvpGva group = synthetic_guest_alloc(self->guest, 64);
	HvpGva queue = member(self, group, HVP_AT_RT_RQ_QUEUE);

	synthetic_guest_set(self->guest, entity, HVP_AT_RT_ENTITY_GROUP, group.value);
	synthetic_guest_list_add(self->guest, head,
				 member(self, entity, HVP_AT_RT_ENTITY_RUN_LIST));
	synthetic_guest_put(self->guest, queue, queue.value);
	synthetic_guest_put(self->guest, hvp_gva_add(queue, 8), queue.value);
	return queue;
}

/* With RT_GROUP_SCHED: beside a group, in it, and in one of that. */
static void test_queued_in_group(void)
{
	HvpGva head, inner, outer, exiting[3];
	g_autoptr(HvpTasks) tasks = NULL;
	g_autoptr(GError) error = NULL;
	Fixture f;

	set_up(&f, GENERATION_6_1);
	head = queue_member(&f, 1, HVP_AT_RQ_RT_QUEUE);
	outer = add_group(&f, head);
	inner = add_group(&f, outer);
	for (guint i = 0; i < 3; i++) {
		exiting[i] = add_exiting(&f);
		synthetic_guest_list_add(f.guest,
					 i == 0	  ? head
					 : i == 1 ? outer
						  : inner,
					 member(&f, exiting[i], HVP_AT_TASK_RT_RUN_LIST));
	}
	tasks = hvp_tasks_read(f.kernel, NULL);
	g_assert_true(hvp_tasks_add_queued(tasks, &error));
	g_assert_no_error(error);
	g_assert_cmpuint(hvp_tasks_count(tasks), ==, TASKS + 3);
	for (guint i = 0; i < 3; i++)
		g_assert_nonnull(hvp_tasks_find(tasks, exiting[i]));
	/* A group that is in itself. */
	synthetic_guest_put(f.guest, inner, synthetic_guest_get(f.guest, outer));
	g_assert_false(hvp_tasks_add_queued(tasks, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	tear_down(&f);
}

/* A tree by deadline of a known task, one that is on no list, and what is no task. */
static void test_queued_by_deadline(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		g_autoptr(HvpTasks) tasks = NULL;
		g_autoptr(GError) error = NULL;
		HvpGva root, exiting, server, nodes[3];
		Fixture f;

		set_up(&f, generation);
		exiting = add_exiting(&f);
		server = synthetic_guest_alloc(f.guest, 64);
		nodes[0] = member(&f, f.kthread, HVP_AT_TASK_DL_NODE);
		nodes[1] = member(&f, exiting, HVP_AT_TASK_DL_NODE);
		nodes[2] = member(&f, server, HVP_AT_DL_ENTITY_NODE);
		if (generation == GENERATION_6_12)
			synthetic_guest_set(
				f.guest, server, HVP_AT_DL_ENTITY_SERVER,
				1U << f.guest->layout.items[HVP_AT_DL_ENTITY_SERVER].bit);
		root = queue_member(&f, 1, HVP_AT_RQ_DL_ROOT);
		tasks = hvp_tasks_read(f.kernel, NULL);
		g_assert_true(hvp_tasks_add_queued(tasks, &error));
		g_assert_cmpuint(hvp_tasks_count(tasks), ==, TASKS);
		synthetic_guest_put(f.guest, root, nodes[0].value);
		synthetic_guest_set(f.guest, nodes[0], HVP_AT_RB_RIGHT, nodes[1].value);
		if (generation == GENERATION_6_12)
			synthetic_guest_set(f.guest, nodes[1], HVP_AT_RB_LEFT, nodes[2].value);
		g_assert_true(hvp_tasks_add_queued(tasks, &error));
		g_assert_no_error(error);
		g_assert_nonnull(hvp_tasks_find(tasks, exiting));
		g_assert_cmpuint(hvp_tasks_count(tasks), ==, TASKS + 1);
		/* Back to the root; nowhere. */
		synthetic_guest_set(f.guest, nodes[1], HVP_AT_RB_RIGHT, nodes[0].value);
		g_assert_false(hvp_tasks_add_queued(tasks, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
		g_clear_error(&error);
		synthetic_guest_set(f.guest, nodes[1], HVP_AT_RB_RIGHT, 0x1000);
		g_assert_false(hvp_tasks_add_queued(tasks, &error));
		g_assert_nonnull(error);
		tear_down(&f);
	}
}

static void test_queued_by_sched_ext(void)
{
	g_autoptr(HvpTasks) tasks = NULL;
	g_autoptr(GError) error = NULL;
	HvpGva exiting;
	Fixture f;

	set_up(&f, GENERATION_6_12);
	exiting = add_exiting(&f);
	synthetic_guest_list_add(f.guest, queue_member(&f, 0, HVP_AT_RQ_SCX_RUNNABLE),
				 member(&f, exiting, HVP_AT_TASK_SCX_NODE));
	tasks = hvp_tasks_read(f.kernel, NULL);
	g_assert_true(hvp_tasks_add_queued(tasks, &error));
	g_assert_nonnull(hvp_tasks_find(tasks, exiting));
	tear_down(&f);
}

static void test_add(void)
{
	g_autoptr(HvpTasks) tasks = NULL;
	g_autoptr(GError) error = NULL;
	HvpTask task = { .state = 0x80 }, alone;
	Fixture f;

	set_up(&f, GENERATION_6_1);
	tasks = hvp_tasks_read(f.kernel, NULL);
	g_assert_true(hvp_tasks_add(tasks, f.process, &error));
	g_assert_cmpuint(hvp_tasks_count(tasks), ==, TASKS);
	g_assert_false(hvp_tasks_add(tasks, hvp_gva(0x1000), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
	/* A look adds nobody. */
	g_assert_true(hvp_tasks_look(tasks, f.kthread, &alone));
	g_assert_cmpint(alone.pid, ==, 2);
	g_assert_false(hvp_tasks_look(tasks, hvp_gva(0x1000), &alone));
	g_assert_cmpuint(hvp_tasks_count(tasks), ==, TASKS);
	/* Dead is who has left its CPU for the last time. */
	g_assert_true(hvp_task_is_dead(&task));
	task.on_cpu = true;
	g_assert_false(hvp_task_is_dead(&task));
	task = (HvpTask){ .exit_state = 0x20 };
	g_assert_false(hvp_task_is_dead(&task));
	tear_down(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/tasks/all-of-lists-and-cpus-READ", test_all);
	g_test_add_func("/tasks/current-on-no-list-READ", test_current);
	g_test_add_func("/tasks/state-LETTERS", test_letters);
	g_test_add_func("/tasks/any-part-of-key-changed-MOVED", test_unmoved);
	g_test_add_func("/tasks/cycle-or-cross-link-BUSY", test_links);
	g_test_add_func("/tasks/broken-back-link-BUSY", test_back_links);
	g_test_add_func("/tasks/leader-last-of-its-group-all-READ", test_not_alone);
	g_test_add_func("/tasks/unreadable-BUSY-or-FAULT", test_unreadable);
	g_test_add_func("/tasks/two-leaders-one-group-BUSY", test_shared_signal);
	g_test_add_func("/tasks/slow-memory-TIMED-OUT", test_slow);
	g_test_add_func("/tasks/endless-list-of-aliases-BUSY", test_endless);
	g_test_add_func("/tasks/reread-SEES-who-ran-or-came", test_reread);
	g_test_add_func("/tasks/reread-SEES-new-thread-or-gone-memory", test_reread_thread);
	g_test_add_func("/tasks/list-changed-between-reads-BUSY", test_racing);
	g_test_add_func("/tasks/queued-on-no-other-list-ADDED", test_queued);
	g_test_add_func("/tasks/queued-at-realtime-priority-ADDED", test_queued_realtime);
	g_test_add_func("/tasks/queued-in-realtime-group-ADDED", test_queued_in_group);
	g_test_add_func("/tasks/queued-by-deadline-ADDED", test_queued_by_deadline);
	g_test_add_func("/tasks/queued-by-sched-ext-ADDED", test_queued_by_sched_ext);
	g_test_add_func("/tasks/known-NOT-ADDED-again", test_add);
	g_test_add_func("/tasks/more-than-a-batch-READ", test_many);
	return g_test_run();
}
