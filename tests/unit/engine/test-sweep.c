/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A made-up guest of two CPUs that switches tasks, forks, exits and reaps, one store after
 * another in the kernel's order, while it is swept: before each read it does some of them.
 * Whenever it stands still, what the sweep says must be what a look that knows nothing of
 * before says. Task structs and stacks are used again at once.
 */
#include "../guest/synthetic-guest.h"
#include "engine/prove.h"
#include "engine/sweep.h"

#define SLOTS 14U
#define FIRST_ALIVE 9U
#define STACK_TOP (SYNTHETIC_STACK_BYTES - 2048U)
#define MAX_DEPTH 12U
#define MAX_STEPS 12U
#define STOPS 20U
#define RQ_LOCKED 1U
#define WRITE_LOCKED 0xffU
#define DEAD 0x80U
#define ZOMBIE 0x20U
#define POISON 0xdead000000000122ULL
#define SEEDS 400U

typedef enum { FREE, ASLEEP, ON_CPU, BORN, DYING, REAPABLE } State;
typedef enum { NOTHING, SWITCH, FORK, REAP } Operation;

typedef struct {
	HvpGva address;
	HvpGva stack;
	State state;
} Slot;

typedef struct {
	guint current; /* slot */
	Operation operation;
	guint step;
	guint other; /* slot: who is next, born or reaped */
} Cpu;

typedef struct {
	SyntheticGuest *guest;
	HvpTarget target;
	HvpRegisters registers[SYNTHETIC_CPUS];
	Slot slots[SLOTS];
	Cpu cpus[SYNTHETIC_CPUS];
	bool tasklist_locked;
	guint32 next_pid;
	GRand *random;
	guint percent; /* of reads before which the guest goes on */
	guint most;    /* stores then */
} Fixture;

static HvpGva member(Fixture *self, guint slot, HvpLayoutItem item)
{
	return synthetic_guest_member(self->guest, self->slots[slot].address, item);
}

static void set(Fixture *self, guint slot, HvpLayoutItem item, guint64 value)
{
	synthetic_guest_put(self->guest, member(self, slot, item), value);
}

static void add(Fixture *self, HvpGva counter, gint64 difference)
{
	synthetic_guest_put(self->guest, counter,
			    synthetic_guest_get(self->guest, counter) + (guint64)difference);
}

static void add_to_symbol(Fixture *self, const char *name, gint64 difference)
{
	add(self, synthetic_guest_symbol(self->guest, name), difference);
}

static HvpGva queue_member(Fixture *self, guint cpu, HvpLayoutItem item)
{
	return synthetic_guest_member(self->guest,
				      synthetic_guest_per_cpu(self->guest, "runqueues", cpu), item);
}

/* A stack of @depth frames of one function between the ends, always at the same sp. */
static void write_stack(Fixture *self, guint slot, guint depth)
{
	HvpGva at = hvp_gva_add(self->slots[slot].stack, STACK_TOP);
	guint frame_bytes[MAX_DEPTH + 4] = { 48, 16 };
	const char *names[MAX_DEPTH + 4] = { "schedule", "do_wait" };
	guint count = 2;

	synthetic_guest_set(self->guest, at, HVP_AT_FRAME_RETURN,
			    synthetic_guest_return_into(self->guest, "__schedule").value);
	at = hvp_gva_add(at, hvp_layout_get(&self->guest->layout, HVP_AT_FRAME_SIZE));
	frame_bytes[count] = 32;
	for (guint i = 0; i < depth; i++) {
		names[count++] = "deep";
		frame_bytes[count] = 8;
	}
	names[count++] = "kthread";
	frame_bytes[count] = 64;
	names[count++] = "ret_from_fork";
	for (guint i = 0; i < count; i++) {
		at = hvp_gva_add(at, frame_bytes[i]);
		synthetic_guest_put(self->guest, hvp_gva(at.value - 8),
				    synthetic_guest_return_into(self->guest, names[i]).value);
	}
	set(self, slot, HVP_AT_TASK_SP, self->slots[slot].stack.value + STACK_TOP);
}

static guint random_below(Fixture *self, guint end)
{
	return (guint)g_rand_int_range(self->random, 0, (gint32)end);
}

/* Some slot of a state; SLOTS when there is none. */
static guint pick(Fixture *self, State state)
{
	guint start = random_below(self, SLOTS);

	for (guint i = 0; i < SLOTS; i++)
		if (self->slots[(start + i) % SLOTS].state == state)
			return (start + i) % SLOTS;
	return SLOTS;
}

/* __schedule() and context_switch(). True when done. */
static bool switch_step(Fixture *self, guint index)
{
	Cpu *cpu = &self->cpus[index];
	guint previous = cpu->current, next = cpu->other;

	switch (cpu->step++) {
	case 0:
		synthetic_guest_put(self->guest, queue_member(self, index, HVP_AT_RQ_LOCK),
				    RQ_LOCKED);
		return false;
	case 1:
		add(self, queue_member(self, index, HVP_AT_RQ_NR_SWITCHES), 1);
		return false;
	case 2:
		add(self,
		    member(self, previous,
			   random_below(self, 2) ? HVP_AT_TASK_NVCSW : HVP_AT_TASK_NIVCSW),
		    1);
		return false;
	case 3:
		set(self, next, HVP_AT_TASK_ON_CPU, 1);
		return false;
	case 4:
		write_stack(self, previous, random_below(self, MAX_DEPTH));
		return false;
	case 5:
		synthetic_guest_put(self->guest,
				    synthetic_guest_per_cpu(self->guest, "current_task", index),
				    self->slots[next].address.value);
		return false;
	case 6:
		write_stack(self, next, random_below(self, MAX_DEPTH));
		return false;
	case 7:
		set(self, previous, HVP_AT_TASK_ON_CPU, 0);
		self->slots[previous].state = self->slots[previous].state == DYING ? REAPABLE
										   : ASLEEP;
		cpu->current = next;
		return false;
	default:
		synthetic_guest_put(self->guest, queue_member(self, index, HVP_AT_RQ_LOCK), 0);
		return true;
	}
}

static void lock_tasklist(Fixture *self, bool locked)
{
	self->tasklist_locked = locked;
	synthetic_guest_put(self->guest, synthetic_guest_symbol(self->guest, "tasklist_lock"),
			    locked ? WRITE_LOCKED : 0);
}

static HvpGva list_head(Fixture *self)
{
	return synthetic_guest_member(self->guest, synthetic_guest_symbol(self->guest, "init_task"),
				      HVP_AT_TASK_TASKS);
}

/* copy_process(), of the parts that can be seen. */
static bool fork_step(Fixture *self, guint index)
{
	Cpu *cpu = &self->cpus[index];
	HvpGva node = member(self, cpu->other, HVP_AT_TASK_TASKS), head = list_head(self);
	HvpGva stack = hvp_gva_add(self->slots[cpu->other].stack, STACK_TOP);

	switch (cpu->step++) {
	case 0:
		set(self, cpu->other, HVP_AT_TASK_PID, self->next_pid);
		set(self, cpu->other, HVP_AT_TASK_START_BOOTTIME, self->next_pid++);
		return false;
	case 1:
		set(self, cpu->other, HVP_AT_TASK_NVCSW, 0);
		set(self, cpu->other, HVP_AT_TASK_NIVCSW, 0);
		set(self, cpu->other, HVP_AT_TASK_STATE, 0);
		set(self, cpu->other, HVP_AT_TASK_EXIT_STATE, 0);
		return false;
	case 2:
		synthetic_guest_set(self->guest, stack, HVP_AT_FRAME_RETURN,
				    synthetic_guest_symbol(self->guest, "ret_from_fork").value);
		set(self, cpu->other, HVP_AT_TASK_SP, stack.value);
		return false;
	case 3:
		cpu->step -= self->tasklist_locked;
		if (!self->tasklist_locked)
			lock_tasklist(self, true);
		return false;
	case 4:
		synthetic_guest_put(self->guest, node, head.value);
		synthetic_guest_put(self->guest, hvp_gva_add(node, 8),
				    synthetic_guest_get(self->guest, hvp_gva_add(head, 8)));
		return false;
	case 5:
		synthetic_guest_put(self->guest,
				    hvp_gva(synthetic_guest_get(self->guest, hvp_gva_add(head, 8))),
				    node.value);
		return false;
	case 6:
		synthetic_guest_put(self->guest, hvp_gva_add(head, 8), node.value);
		return false;
	case 7:
		add_to_symbol(self, "nr_threads", 1);
		return false;
	case 8:
		add_to_symbol(self, "total_forks", 1);
		return false;
	default:
		lock_tasklist(self, false);
		self->slots[cpu->other].state = BORN;
		return true;
	}
}

/* release_task() */
static bool reap_step(Fixture *self, guint index)
{
	Cpu *cpu = &self->cpus[index];
	HvpGva node = member(self, cpu->other, HVP_AT_TASK_TASKS);
	guint64 next = synthetic_guest_get(self->guest, node);
	guint64 previous = synthetic_guest_get(self->guest, hvp_gva_add(node, 8));

	switch (cpu->step++) {
	case 0:
		cpu->step -= self->tasklist_locked;
		if (!self->tasklist_locked)
			lock_tasklist(self, true);
		return false;
	case 1:
		add_to_symbol(self, "nr_threads", -1);
		return false;
	case 2:
		synthetic_guest_put(self->guest, hvp_gva(next + 8), previous);
		return false;
	case 3:
		synthetic_guest_put(self->guest, hvp_gva(previous), next);
		return false;
	case 4:
		synthetic_guest_put(self->guest, hvp_gva_add(node, 8), POISON);
		return false;
	default:
		lock_tasklist(self, false);
		self->slots[cpu->other].state = FREE;
		return true;
	}
}

static void begin(Fixture *self, Cpu *cpu, Operation operation, State of, State then)
{
	guint slot = pick(self, of);

	if (slot == SLOTS)
		return;
	self->slots[slot].state = then;
	cpu->other = slot;
	cpu->operation = operation;
	cpu->step = 0;
}

static void choose(Fixture *self, Cpu *cpu)
{
	switch (random_below(self, 8)) {
	case 0:
		begin(self, cpu, FORK, FREE, DYING);
		break;
	case 1:
		begin(self, cpu, REAP, REAPABLE, DYING);
		break;
	case 2:
		/* do_task_dead() */
		begin(self, cpu, SWITCH, ASLEEP, ON_CPU);
		if (cpu->operation == SWITCH) {
			set(self, cpu->current, HVP_AT_TASK_EXIT_STATE, ZOMBIE);
			set(self, cpu->current, HVP_AT_TASK_STATE, DEAD);
			self->slots[cpu->current].state = DYING;
		}
		break;
	case 3:
	case 4:
		begin(self, cpu, SWITCH, BORN, ON_CPU);
		break;
	default:
		begin(self, cpu, SWITCH, ASLEEP, ON_CPU);
		break;
	}
}

/* One store, or a few that nobody could tell apart, of one of the CPUs. */
static void go_on(Fixture *self)
{
	guint index = random_below(self, SYNTHETIC_CPUS);
	Cpu *cpu = &self->cpus[index];
	bool done = false;

	if (cpu->operation == NOTHING)
		choose(self, cpu);
	else if (cpu->operation == SWITCH)
		done = switch_step(self, index);
	else if (cpu->operation == FORK)
		done = fork_step(self, index);
	else
		done = reap_step(self, index);
	if (done)
		cpu->operation = NOTHING;
}

static void go_on_for(Fixture *self, guint steps)
{
	for (guint i = 0; i < steps; i++)
		go_on(self);
}

static void run_beside(ImageMemory *memory, gpointer user_data)
{
	Fixture *self = user_data;

	(void)memory;
	if (random_below(self, 100) >= self->percent)
		return;
	go_on_for(self, random_below(self, self->most) + 1);
}

static void put_on_cpu(Fixture *self, guint cpu, guint slot)
{
	self->cpus[cpu].current = slot;
	self->slots[slot].state = ON_CPU;
	set(self, slot, HVP_AT_TASK_ON_CPU, 1);
	synthetic_guest_put(self->guest, synthetic_guest_per_cpu(self->guest, "current_task", cpu),
			    self->slots[slot].address.value);
}

static void set_up(Fixture *self, guint32 seed)
{
	SyntheticOptions options = { .generation = GENERATION_6_1 };
	HvpGva offsets;

	*self = (Fixture){ .random = g_rand_new_with_seed(seed), .next_pid = 1000 };
	self->guest = synthetic_guest_new(&options);
	offsets = synthetic_guest_symbol(self->guest, "__per_cpu_offset");
	for (guint i = 0; i < SLOTS; i++) {
		Slot *slot = &self->slots[i];

		slot->address = synthetic_guest_add_task(self->guest, "task", 100 + i, hvp_gva(0));
		slot->stack = hvp_gva(
			synthetic_guest_get(self->guest, member(self, i, HVP_AT_TASK_STACK)));
		slot->state = i < FIRST_ALIVE ? ASLEEP : REAPABLE;
		if (slot->state == REAPABLE)
			set(self, i, HVP_AT_TASK_STATE, DEAD);
		write_stack(self, i, random_below(self, MAX_DEPTH));
	}
	for (guint cpu = 0; cpu < SYNTHETIC_CPUS; cpu++) {
		put_on_cpu(self, cpu, cpu);
		self->registers[cpu] = self->guest->registers;
		self->registers[cpu].kernel_gs_base = synthetic_guest_get(
			self->guest, hvp_gva_add(offsets, cpu * 8));
	}
	self->target.kernel = synthetic_guest_attach(self->guest);
	self->target.registers = self->registers;
	self->target.vcpu_count = SYNTHETIC_CPUS;
	g_assert_true(hvp_target_refresh_modules(&self->target, NULL));
	self->guest->memory->user_data = self;
}

static void tear_down(Fixture *self)
{
	hvp_unwinder_free(self->target.unwinder);
	hvp_modules_free(self->target.modules);
	hvp_kernel_free(self->target.kernel);
	synthetic_guest_free(self->guest);
	g_rand_free(self->random);
}

static HvpSweep *make_sweep(Fixture *self)
{
	g_autoptr(GError) error = NULL;
	HvpSweep *sweep = hvp_sweep_new(&self->target, &error);

	g_assert_no_error(error);
	return sweep;
}

static const HvpSweepTask *find(const HvpSweep *sweep, HvpGva address)
{
	for (guint i = 0; i < hvp_sweep_count(sweep); i++)
		if (hvp_sweep_get(sweep, i)->task.address.value == address.value)
			return hvp_sweep_get(sweep, i);
	return NULL;
}

static void assert_same_task(const HvpSweep *sweep, const HvpSweep *fresh, const HvpSweepTask *task)
{
	const HvpSweepTask *ours = find(sweep, task->task.address);
	const HvpFrame *frames = hvp_sweep_frames(fresh, task);

	g_assert_nonnull(ours);
	g_assert_cmpint(ours->verdict, ==, task->verdict);
	g_assert_cmpint(ours->vcpu, ==, task->vcpu);
	g_assert_cmpuint(ours->frame_count, ==, task->frame_count);
	for (guint i = 0; i < task->frame_count; i++)
		g_assert_cmphex(hvp_sweep_frames(sweep, ours)[i].pc.value, ==, frames[i].pc.value);
}

static bool recheck(Fixture *self, HvpSweep *sweep)
{
	g_autoptr(GError) error = NULL;
	guint rechecked;

	if (hvp_sweep_recheck(sweep, self->registers, SYNTHETIC_CPUS, &rechecked, &error))
		return true;
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
	return false;
}

/* Of the guest as it stands still. */
static void assert_true_now(Fixture *self, const HvpSweep *sweep)
{
	g_autoptr(HvpSweep) fresh = make_sweep(self);

	g_assert_true(recheck(self, fresh));
	for (guint i = 0; i < hvp_sweep_count(fresh); i++) {
		const HvpSweepTask *task = hvp_sweep_get(fresh, i);

		g_assert_cmpint(task->verdict, ==, HVP_UNWIND_RELIABLE);
		assert_same_task(sweep, fresh, task);
	}
}

typedef struct {
	guint judged; /* stops that were a moment to judge */
	guint quiet;  /* of these, without reading the keys of all */
	guint swept;  /* sweeps that succeeded while the guest ran */
	guint proved; /* of those judged, where nobody was in the way before */
} Tally;

/* A function in which some tasks are and others are not. */
static HvpForbidden forbidden_text(Fixture *self)
{
	HvpGva start = synthetic_guest_symbol(self->guest, "deep");

	return (HvpForbidden){ { start, hvp_gva_add(start, SYNTHETIC_FUNCTION_BYTES) }, "deep" };
}

static void sweep_and_stop(Fixture *self, HvpSweep *sweep, Tally *tally)
{
	g_autoptr(GError) error = NULL;
	ImageMemory *memory = self->guest->memory;
	HvpForbidden deep = forbidden_text(self);
	bool swept, free_before;

	memory->on_read = run_beside;
	swept = hvp_sweep_run(sweep, &error);
	if (!swept)
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
	memory->on_read = NULL;
	tally->swept += swept;
	free_before = swept && !hvp_prove_is_blocked(sweep, &deep, 1);
	if (self->percent > 0)
		go_on_for(self, random_below(self, MAX_STEPS));
	for (guint i = 0; i < STOPS && !recheck(self, sweep); i++) {
		if (i + 1 == STOPS || self->percent == 0)
			return;
		go_on_for(self, 1);
	}
	tally->judged++;
	tally->quiet += hvp_sweep_get_reread(sweep) < hvp_sweep_count(sweep);
	assert_true_now(self, sweep);
	if (!free_before)
		return;
	tally->proved++;
	g_assert_cmpint(hvp_prove_changed(sweep, &deep, 1), ==, hvp_prove(sweep, &deep, 1));
}

/* @percent and @most as in the Fixture; many guests, each swept again and again. */
static Tally storm(guint percent, guint most)
{
	Tally tally = { 0 };

	for (guint32 seed = 1; seed <= SEEDS / 10; seed++) {
		g_autoptr(HvpSweep) sweep = NULL;
		Fixture f;

		set_up(&f, seed);
		sweep = make_sweep(&f);
		for (guint i = 0; i < 10; i++) {
			/* A run may begin in the middle of anything. */
			go_on_for(&f, random_below(&f, 60));
			f.percent = percent;
			f.most = most;
			sweep_and_stop(&f, sweep, &tally);
		}
		tear_down(&f);
	}
	g_test_message("%u of %u judged, %u quiet, %u swept, %u proved", tally.judged, SEEDS,
		       tally.quiet, tally.swept, tally.proved);
	return tally;
}

/* Next to nothing happens, but what was begun before the run ends in its midst. */
static void test_calm(void)
{
	Tally tally = storm(4, 3);

	g_assert_cmpuint(tally.judged, >, SEEDS / 4);
	g_assert_cmpuint(tally.quiet, >, SEEDS / 20);
	g_assert_cmpuint(tally.quiet, <, tally.judged);
}

/* Long rests, and bursts in which tasks come, run and go at once. */
static void test_bursts(void)
{
	Tally tally = storm(10, 60);

	g_assert_cmpuint(tally.judged, >, SEEDS / 10);
	g_assert_cmpuint(tally.quiet, >, 0);
}

static void test_storm(void)
{
	Tally tally = storm(60, 8);

	g_assert_cmpuint(tally.judged, >, SEEDS / 10);
	g_assert_cmpuint(tally.swept, >, SEEDS / 20);
}

static void test_standing(void)
{
	Tally tally = storm(0, 1);

	g_assert_cmpuint(tally.judged, >, SEEDS / 20);
	g_assert_cmpuint(tally.quiet, ==, tally.judged);
}

/* What is asleep is not looked at again; what is on a CPU is. */
static void test_quiet(void)
{
	g_autoptr(HvpSweep) sweep = NULL;
	guint64 pieces;
	Fixture f;

	set_up(&f, 1);
	sweep = make_sweep(&f);
	g_assert_true(hvp_sweep_run(sweep, NULL));
	pieces = f.guest->memory->pieces;
	g_assert_true(recheck(&f, sweep));
	g_assert_cmpuint(hvp_sweep_get_reread(sweep), ==, SYNTHETIC_CPUS);
	g_assert_cmpuint(f.guest->memory->pieces - pieces, <, 100);
	assert_true_now(&f, sweep);
	/* A second time without a run between: nothing is known of since. */
	g_assert_true(recheck(&f, sweep));
	g_assert_cmpuint(hvp_sweep_get_reread(sweep), ==, hvp_sweep_count(sweep));
	tear_down(&f);
}

/* Any one counter moved: all keys are read. */
static void test_moved(void)
{
	Fixture f;

	set_up(&f, 1);
	for (guint i = 0; i < SYNTHETIC_CPUS + 2; i++) {
		g_autoptr(HvpSweep) sweep = make_sweep(&f);

		g_assert_true(hvp_sweep_run(sweep, NULL));
		if (i < SYNTHETIC_CPUS)
			add(&f, queue_member(&f, i, HVP_AT_RQ_NR_SWITCHES), 1);
		else
			add_to_symbol(&f, i == SYNTHETIC_CPUS ? "total_forks" : "nr_threads", 1);
		g_assert_true(recheck(&f, sweep));
		g_assert_cmpuint(hvp_sweep_get_reread(sweep), ==, hvp_sweep_count(sweep));
	}
	tear_down(&f);
}

/* A thread that was seen once and then released itself: asleep and on no list, until it is dead. */
static void test_departed(void)
{
	g_autoptr(HvpSweep) sweep = NULL;
	const HvpSweepTask *task;
	guint slot = FIRST_ALIVE - 1;
	Fixture f;

	set_up(&f, 1);
	sweep = make_sweep(&f);
	g_assert_true(hvp_sweep_run(sweep, NULL));
	f.cpus[0].other = slot;
	while (!reap_step(&f, 0))
		;
	write_stack(&f, slot, 3);
	add(&f, member(&f, slot, HVP_AT_TASK_NVCSW), 1);
	/* Between the run and the stop; before the next run. */
	for (guint i = 0; i < 2; i++) {
		g_assert_true(recheck(&f, sweep));
		task = find(sweep, f.slots[slot].address);
		g_assert_nonnull(task);
		g_assert_cmpint(task->verdict, ==, HVP_UNWIND_RELIABLE);
		g_assert_cmpuint(task->frame_count, ==, 5 + 3);
		g_assert_true(hvp_sweep_run(sweep, NULL));
	}
	set(&f, slot, HVP_AT_TASK_STATE, DEAD);
	g_assert_true(recheck(&f, sweep));
	g_assert_cmpuint(hvp_sweep_get_reread(sweep), <, hvp_sweep_count(sweep));
	g_assert_null(find(sweep, f.slots[slot].address));
	tear_down(&f);
}

/* Takes @slot off the list as release_task() does, with nobody else at work. */
static void release(Fixture *self, guint slot)
{
	self->cpus[0].other = slot;
	while (!reap_step(self, 0))
		;
}

/* Between the run and the stop it releases itself, and at the stop no list can be read. */
static void test_departed_then_unreadable(void)
{
	g_autoptr(HvpSweep) sweep = NULL;
	const HvpSweepTask *task;
	guint slot = FIRST_ALIVE - 1;
	guint64 first;
	Fixture f;

	set_up(&f, 1);
	sweep = make_sweep(&f);
	g_assert_true(hvp_sweep_run(sweep, NULL));
	release(&f, slot);
	/* With all of a recheck that fails, and with a run. */
	first = synthetic_guest_get(f.guest, list_head(&f));
	synthetic_guest_put(f.guest, list_head(&f), 0x1000);
	g_assert_false(recheck(&f, sweep));
	g_assert_false(hvp_sweep_run(sweep, NULL));
	g_assert_false(recheck(&f, sweep));
	synthetic_guest_put(f.guest, list_head(&f), first);
	for (guint i = 0; i < 2; i++) {
		g_assert_true(recheck(&f, sweep));
		task = find(sweep, f.slots[slot].address);
		g_assert_nonnull(task);
		g_assert_cmpint(task->verdict, ==, HVP_UNWIND_RELIABLE);
		g_assert_true(hvp_sweep_run(sweep, NULL));
	}
	tear_down(&f);
}

/* As above, in the recheck in which it was added to the list again. */
static void test_departed_then_queue_unreadable(void)
{
	g_autoptr(HvpSweep) sweep = NULL;
	guint slot = FIRST_ALIVE - 1;
	guint64 head, empty;
	Fixture f;

	set_up(&f, 1);
	sweep = make_sweep(&f);
	g_assert_true(hvp_sweep_run(sweep, NULL));
	release(&f, slot);
	head = queue_member(&f, 1, HVP_AT_RQ_CFS_TASKS).value;
	empty = synthetic_guest_get(f.guest, hvp_gva(head));
	synthetic_guest_put(f.guest, hvp_gva(head), 0x1000);
	for (guint i = 0; i < 2; i++)
		g_assert_false(recheck(&f, sweep));
	synthetic_guest_put(f.guest, hvp_gva(head), empty);
	g_assert_true(hvp_sweep_run(sweep, NULL));
	g_assert_true(recheck(&f, sweep));
	g_assert_nonnull(find(sweep, f.slots[slot].address));
	tear_down(&f);
}

/* A leader whose thread called exec: released with the thread's pid, before it was dead. */
static void test_departed_with_another_pid(void)
{
	g_autoptr(HvpSweep) sweep = NULL;
	guint slot = FIRST_ALIVE - 1;
	Fixture f;

	set_up(&f, 1);
	sweep = make_sweep(&f);
	g_assert_true(hvp_sweep_run(sweep, NULL));
	set(&f, slot, HVP_AT_TASK_PID, 4321);
	release(&f, slot);
	g_assert_true(recheck(&f, sweep));
	g_assert_nonnull(find(sweep, f.slots[slot].address));
	g_assert_cmpint(find(sweep, f.slots[slot].address)->task.pid, ==, 4321);
	/* Its memory is another's by now. */
	g_assert_true(hvp_sweep_run(sweep, NULL));
	add(&f, member(&f, slot, HVP_AT_TASK_START_BOOTTIME), 1);
	g_assert_true(recheck(&f, sweep));
	g_assert_null(find(sweep, f.slots[slot].address));
	tear_down(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/sweep/quiet-keys-NOT-READ-again", test_quiet);
	g_test_add_func("/sweep/any-counter-moved-keys-READ-again", test_moved);
	g_test_add_func("/sweep/departed-asleep-TOLD-until-dead", test_departed);
	g_test_add_func("/sweep/departed-then-lists-unreadable-TOLD",
			test_departed_then_unreadable);
	g_test_add_func("/sweep/departed-then-queues-unreadable-TOLD",
			test_departed_then_queue_unreadable);
	g_test_add_func("/sweep/departed-with-another-pid-TOLD", test_departed_with_another_pid);
	g_test_add_func("/sweep/standing-still-as-a-fresh-look-SAYS", test_standing);
	g_test_add_func("/sweep/nearly-quiet-as-a-fresh-look-SAYS", test_calm);
	g_test_add_func("/sweep/bursts-as-a-fresh-look-SAYS", test_bursts);
	g_test_add_func("/sweep/fork-storm-as-a-fresh-look-SAYS", test_storm);
	return g_test_run();
}
