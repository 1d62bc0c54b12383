/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/kthread.h"

#include "kthread-maker.h"

typedef struct {
	SyntheticGuest *guest;
	HvpKernel *kernel;
	HvpGva task, kthread, worker;
} Fixture;

static void set_up(Fixture *self, Generation generation, const char *missing, const char *without)
{
	SyntheticOptions options = { .generation = generation,
				     .missing = missing,
				     .without = without };

	self->guest = synthetic_guest_new(&options);
	self->kernel = synthetic_guest_attach(self->guest);
	self->task = synthetic_guest_add_task(self->guest, "a_thread", 7, hvp_gva(0));
}

static void tear_down(Fixture *self)
{
	hvp_kernel_free(self->kernel);
	synthetic_guest_free(self->guest);
}

static void set(Fixture *self, HvpLayoutItem item, guint64 value)
{
	synthetic_guest_set(self->guest, self->task, item, value);
}

static void assert_state(Fixture *self, HvpKthreadState expected)
{
	HvpTask task;

	g_assert_true(hvp_tasks_read_one(self->kernel, self->task, &task, NULL));
	g_assert_cmpstr(hvp_kthread_state_name(hvp_kthread_read_state(self->kernel, &task)), ==,
			hvp_kthread_state_name(expected));
}

static const Generation generations[] = { GENERATION_6_1, GENERATION_6_12, GENERATION_6_12_RT };

static void test_plain(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(generations); i++) {
		Fixture fixture;

		set_up(&fixture, generations[i], NULL, NULL);
		kthread_make(fixture.guest, fixture.task);
		assert_state(&fixture, HVP_KTHREAD_SLEEPING);
		set(&fixture, HVP_AT_TASK_STATE, ASLEEP_IDLE);
		assert_state(&fixture, HVP_KTHREAD_SLEEPING);
		set(&fixture, HVP_AT_TASK_STATE, ASLEEP_DEEPLY);
		assert_state(&fixture, HVP_KTHREAD_UNINTERRUPTIBLE);
		set(&fixture, HVP_AT_TASK_STATE, 0);
		assert_state(&fixture, HVP_KTHREAD_RUNNING);
		set(&fixture, HVP_AT_TASK_STATE, ASLEEP);
		set(&fixture, HVP_AT_TASK_ON_CPU, 1);
		assert_state(&fixture, HVP_KTHREAD_RUNNING);
		tear_down(&fixture);
	}
}

static void test_parked(void)
{
	Fixture fixture;

	set_up(&fixture, GENERATION_6_1, NULL, NULL);
	fixture.kthread = kthread_make(fixture.guest, fixture.task);
	kthread_park(fixture.guest, fixture.task, fixture.kthread);
	assert_state(&fixture, HVP_KTHREAD_PARKED);
	/* Still, or already again, on a CPU. */
	set(&fixture, HVP_AT_TASK_ON_CPU, 1);
	assert_state(&fixture, HVP_KTHREAD_RUNNING);
	set(&fixture, HVP_AT_TASK_ON_CPU, 0);
	/* Told to go on, and not yet woken. */
	synthetic_guest_set(fixture.guest, fixture.kthread, HVP_AT_KTHREAD_FLAGS, 0);
	assert_state(&fixture, HVP_KTHREAD_SLEEPING);
	/* Told to park, and not there yet. */
	kthread_park(fixture.guest, fixture.task, fixture.kthread);
	set(&fixture, HVP_AT_TASK_STATE, ASLEEP);
	assert_state(&fixture, HVP_KTHREAD_SLEEPING);
	kthread_park(fixture.guest, fixture.task, fixture.kthread);
	set(&fixture, HVP_AT_TASK_WORKER_PRIVATE, 0);
	assert_state(&fixture, HVP_KTHREAD_UNKNOWN);
	set(&fixture, HVP_AT_TASK_WORKER_PRIVATE, 0x1234567812345678);
	assert_state(&fixture, HVP_KTHREAD_UNKNOWN);
	tear_down(&fixture);
}

static void test_frozen(void)
{
	Fixture fixture;

	set_up(&fixture, GENERATION_6_12, NULL, NULL);
	kthread_make(fixture.guest, fixture.task);
	set(&fixture, HVP_AT_TASK_STATE, ASLEEP_FROZEN);
	assert_state(&fixture, HVP_KTHREAD_FROZEN);
	/* The flag has another meaning now. */
	set(&fixture, HVP_AT_TASK_STATE, ASLEEP_DEEPLY);
	set(&fixture, HVP_AT_TASK_FLAGS, HVP_TASK_PF_KTHREAD | HVP_TASK_PF_FROZEN);
	assert_state(&fixture, HVP_KTHREAD_UNINTERRUPTIBLE);
	tear_down(&fixture);
}

static void test_frozen_by_flag(void)
{
	Fixture fixture;

	set_up(&fixture, GENERATION_6_1, NULL, "frozen");
	kthread_make(fixture.guest, fixture.task);
	set(&fixture, HVP_AT_TASK_STATE, ASLEEP_DEEPLY);
	set(&fixture, HVP_AT_TASK_FLAGS, HVP_TASK_PF_KTHREAD | HVP_TASK_PF_FROZEN);
	assert_state(&fixture, HVP_KTHREAD_FROZEN);
	tear_down(&fixture);
}

static void test_worker(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(generations); i++) {
		Fixture fixture;

		set_up(&fixture, generations[i], NULL, NULL);
		fixture.worker = kthread_make_worker(fixture.guest, fixture.task);
		assert_state(&fixture, HVP_KTHREAD_IDLE_WORKER);
		/* Woken: it may have work any moment. */
		set(&fixture, HVP_AT_TASK_STATE, 0);
		assert_state(&fixture, HVP_KTHREAD_BUSY_WORKER);
		set(&fixture, HVP_AT_TASK_STATE, ASLEEP_IDLE);
		synthetic_guest_set(fixture.guest, fixture.worker, HVP_AT_WORKER_CURRENT_WORK, 1);
		assert_state(&fixture, HVP_KTHREAD_BUSY_WORKER);
		synthetic_guest_set(fixture.guest, fixture.worker, HVP_AT_WORKER_CURRENT_WORK, 0);
		synthetic_guest_set(fixture.guest, fixture.worker, HVP_AT_WORKER_FLAGS, 0x40);
		assert_state(&fixture, HVP_KTHREAD_BUSY_WORKER);
		/* Behind the flags, an unsigned int, stands something else. */
		synthetic_guest_set(fixture.guest, fixture.worker, HVP_AT_WORKER_FLAGS,
				    (guint64)MARKED_IDLE << 32);
		assert_state(&fixture, HVP_KTHREAD_BUSY_WORKER);
		tear_down(&fixture);
	}
}

static void test_rescuer(void)
{
	Fixture fixture;

	set_up(&fixture, GENERATION_6_1, NULL, NULL);
	fixture.worker = kthread_make_worker(fixture.guest, fixture.task);
	synthetic_guest_set(fixture.guest, fixture.worker, HVP_AT_WORKER_FLAGS, 8);
	synthetic_guest_set(fixture.guest, fixture.worker, HVP_AT_WORKER_RESCUE_WQ, 1);
	assert_state(&fixture, HVP_KTHREAD_IDLE_RESCUER);
	synthetic_guest_set(fixture.guest, fixture.worker, HVP_AT_WORKER_CURRENT_WORK, 1);
	assert_state(&fixture, HVP_KTHREAD_BUSY_WORKER);
	tear_down(&fixture);
}

/* A struct worker that is another's, or nobody's, says nothing. */
static void test_worker_of_another(void)
{
	Fixture fixture;

	set_up(&fixture, GENERATION_6_1, NULL, NULL);
	fixture.worker = kthread_make_worker(fixture.guest, fixture.task);
	synthetic_guest_set(fixture.guest, fixture.worker, HVP_AT_WORKER_TASK,
			    fixture.task.value + 64);
	assert_state(&fixture, HVP_KTHREAD_UNKNOWN);
	synthetic_guest_set(fixture.guest, fixture.worker, HVP_AT_WORKER_TASK, 0);
	assert_state(&fixture, HVP_KTHREAD_UNKNOWN);
	tear_down(&fixture);
}

static void test_missing(void)
{
	static const char *const items[] = { "task_struct.worker_private", "kthread.flags",
					     "KTHREAD_SHOULD_PARK" };
	static const char *const worker_items[] = { "kthread.data",	"worker.task",
						    "worker.flags",	"worker.current_work",
						    "worker.rescue_wq", "WORKER_IDLE" };

	for (guint i = 0; i < G_N_ELEMENTS(items); i++) {
		Fixture fixture;

		set_up(&fixture, GENERATION_6_1, items[i], NULL);
		set(&fixture, HVP_AT_TASK_FLAGS, HVP_TASK_PF_KTHREAD);
		set(&fixture, HVP_AT_TASK_STATE, ASLEEP_PARKED);
		assert_state(&fixture, HVP_KTHREAD_UNKNOWN);
		tear_down(&fixture);
	}
	for (guint i = 0; i < G_N_ELEMENTS(worker_items); i++) {
		Fixture fixture;

		set_up(&fixture, GENERATION_6_1, worker_items[i], NULL);
		set(&fixture, HVP_AT_TASK_FLAGS, HVP_TASK_PF_KTHREAD | HVP_TASK_PF_WQ_WORKER);
		assert_state(&fixture, HVP_KTHREAD_UNKNOWN);
		tear_down(&fixture);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/kthread/plain-STATE", test_plain);
	g_test_add_func("/kthread/parked-PARKED", test_parked);
	g_test_add_func("/kthread/frozen-FROZEN", test_frozen);
	g_test_add_func("/kthread/frozen-by-flag-FROZEN", test_frozen_by_flag);
	g_test_add_func("/kthread/worker-IDLE-or-BUSY", test_worker);
	g_test_add_func("/kthread/rescuer-IDLE-RESCUER", test_rescuer);
	g_test_add_func("/kthread/worker-of-another-UNKNOWN", test_worker_of_another);
	g_test_add_func("/kthread/missing-in-BTF-UNKNOWN", test_missing);
	return g_test_run();
}
