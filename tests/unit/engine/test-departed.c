/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tasks of a made-up guest that have left all lists, more than are remembered. */
#include "../guest/synthetic-guest.h"
#include "engine/sweep.h"

#define DEAD 0x80U
#define MANY 65537U
#define SIGNAL_BYTES 256U
#define TASK_BYTES 2048U

typedef struct {
	SyntheticGuest *guest;
	HvpTarget target;
	HvpRegisters registers[SYNTHETIC_CPUS];
} Fixture;

static void set_up(Fixture *self)
{
	SyntheticOptions options = { .heap_bytes = (guint64)MANY * TASK_BYTES };
	HvpGva offsets;

	*self = (Fixture){ 0 };
	self->guest = synthetic_guest_new(&options);
	offsets = synthetic_guest_symbol(self->guest, "__per_cpu_offset");
	for (guint cpu = 0; cpu < SYNTHETIC_CPUS; cpu++) {
		HvpGva user = synthetic_guest_add_task(self->guest, "user", 200 + cpu, hvp_gva(0));

		synthetic_guest_set(self->guest, user, HVP_AT_TASK_ON_CPU, 1);
		synthetic_guest_put(self->guest,
				    synthetic_guest_per_cpu(self->guest, "current_task", cpu),
				    user.value);
		self->registers[cpu] = self->guest->registers;
		self->registers[cpu].kernel_gs_base = synthetic_guest_get(
			self->guest, hvp_gva_add(offsets, cpu * 8));
	}
	self->target.kernel = synthetic_guest_attach(self->guest);
	self->target.registers = self->registers;
	self->target.vcpu_count = SYNTHETIC_CPUS;
	g_assert_true(hvp_target_refresh_modules(&self->target, NULL));
}

static void tear_down(Fixture *self)
{
	hvp_unwinder_free(self->target.unwinder);
	hvp_modules_free(self->target.modules);
	hvp_kernel_free(self->target.kernel);
	synthetic_guest_free(self->guest);
}

static HvpGva list_head(Fixture *self)
{
	return synthetic_guest_member(self->guest, synthetic_guest_symbol(self->guest, "init_task"),
				      HVP_AT_TASK_TASKS);
}

static guint64 last_node(Fixture *self)
{
	return synthetic_guest_get(self->guest, hvp_gva_add(list_head(self), 8));
}

/* All tasks behind the one whose node is @last leave the list. */
static void cut_off(Fixture *self, guint64 last)
{
	HvpGva head = list_head(self);

	synthetic_guest_put(self->guest, hvp_gva(last), head.value);
	synthetic_guest_put(self->guest, hvp_gva_add(head, 8), last);
}

static const HvpSweepTask *find(const HvpSweep *sweep, HvpGva address)
{
	for (guint i = 0; i < hvp_sweep_count(sweep); i++)
		if (hvp_sweep_get(sweep, i)->task.address.value == address.value)
			return hvp_sweep_get(sweep, i);
	return NULL;
}

/* A leader behind all others; what it needs, without a stack of its own. */
static HvpGva add_task(Fixture *self, guint32 pid)
{
	SyntheticGuest *guest = self->guest;
	HvpGva task = synthetic_guest_alloc(guest,
					    hvp_layout_get(&guest->layout, HVP_AT_TASK_SIZE));
	HvpGva signal = synthetic_guest_alloc(guest, SIGNAL_BYTES);
	HvpGva node = synthetic_guest_member(guest, task, HVP_AT_TASK_THREAD_NODE);
	HvpGva head = synthetic_guest_member(guest, signal, HVP_AT_SIGNAL_THREAD_HEAD);

	synthetic_guest_set(guest, task, HVP_AT_TASK_PID, pid);
	synthetic_guest_set(guest, task, HVP_AT_TASK_START_BOOTTIME, pid);
	synthetic_guest_set(guest, task, HVP_AT_TASK_SIGNAL, signal.value);
	synthetic_guest_put(guest, head, node.value);
	synthetic_guest_put(guest, hvp_gva_add(head, 8), node.value);
	synthetic_guest_put(guest, node, head.value);
	synthetic_guest_put(guest, hvp_gva_add(node, 8), head.value);
	synthetic_guest_list_add(guest, list_head(self),
				 synthetic_guest_member(guest, task, HVP_AT_TASK_TASKS));
	return task;
}

/* More have left than are remembered: none is forgotten, and those that die make room. */
static void test_too_many_departed(void)
{
	g_autofree HvpGva *tasks = g_new(HvpGva, MANY);
	g_autoptr(HvpSweep) sweep = NULL;
	g_autoptr(GError) error = NULL;
	guint rechecked;
	guint64 last;
	Fixture f;

	set_up(&f);
	last = last_node(&f);
	for (guint i = 0; i < MANY; i++)
		tasks[i] = add_task(&f, 10000 + i);
	sweep = hvp_sweep_new(&f.target, NULL);
	g_assert_true(hvp_sweep_run(sweep, &error));
	g_assert_no_error(error);
	cut_off(&f, last);
	for (guint i = 0; i < 2; i++) {
		g_assert_false(hvp_sweep_run(sweep, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
		g_clear_error(&error);
	}
	for (guint i = 0; i + 1 < MANY; i++)
		synthetic_guest_set(f.guest, tasks[i], HVP_AT_TASK_STATE, DEAD);
	g_assert_true(hvp_sweep_run(sweep, &error));
	g_assert_no_error(error);
	g_assert_true(hvp_sweep_recheck(sweep, f.registers, SYNTHETIC_CPUS, &rechecked, &error));
	g_assert_null(find(sweep, tasks[0]));
	g_assert_nonnull(find(sweep, tasks[MANY - 1]));
	tear_down(&f);
}

/* They leave a few at a time and die; no recheck comes between, and nobody's place is held. */
static void test_departed_and_dead(void)
{
	g_autoptr(HvpSweep) sweep = NULL;
	guint64 last;
	Fixture f;

	set_up(&f);
	last = last_node(&f);
	sweep = hvp_sweep_new(&f.target, NULL);
	for (guint round = 0; round < 3; round++) {
		g_autofree HvpGva *tasks = g_new(HvpGva, MANY / 3 + 1);

		for (guint i = 0; i < MANY / 3 + 1; i++)
			tasks[i] = add_task(&f, 10000 + round * MANY + i);
		g_assert_true(hvp_sweep_run(sweep, NULL));
		cut_off(&f, last);
		g_assert_true(hvp_sweep_run(sweep, NULL));
		for (guint i = 0; i < MANY / 3 + 1; i++)
			synthetic_guest_set(f.guest, tasks[i], HVP_AT_TASK_STATE, DEAD);
	}
	tear_down(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/departed/too-many-BUSY-until-dead", test_too_many_departed);
	g_test_add_func("/departed/dead-FORGOTTEN", test_departed_and_dead);
	return g_test_run();
}
