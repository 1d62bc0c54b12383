/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Of guest calls whose keeper died: who is still in one, by the stacks of a made-up guest. Its
 * borrowed thread stands at different places of a call, and of one made from a hook in it.
 */
#include "../guest/synthetic-guest.h"
#include "engine/lost-calls.h"

#define BORROWED_PID 100
#define STACK_TOP (SYNTHETIC_STACK_BYTES - 2048U)
#define OUTER_OFFSET (SYNTHETIC_STACK_BYTES - 512U)
#define INNER_OFFSET (SYNTHETIC_STACK_BYTES - 1024U)
#define REGS_WORDS 21U
#define KERNEL_CS 0x10U
#define NMI_STACK 0xfffffe0000011f00ULL

typedef struct {
	SyntheticGuest *guest;
	HvpTarget target;
	HvpRegisters registers[SYNTHETIC_CPUS];
	HvpGva task;
	HvpGva stack;
	HvpKeeperFrame outer, inner;
	HvpGva at; /* where the next frame of its stack goes */
} Fixture;

/* On @name's padding, as it were: what unwinding finds there differs. */
static void set_up(Fixture *self, const char *name)
{
	SyntheticOptions options = { .generation = GENERATION_6_1 };
	HvpGva offsets;

	*self = (Fixture){ 0 };
	self->guest = synthetic_guest_new(&options);
	offsets = synthetic_guest_symbol(self->guest, "__per_cpu_offset");
	self->task = synthetic_guest_add_task(self->guest, "kworker", BORROWED_PID, hvp_gva(0));
	self->stack = hvp_gva(synthetic_guest_get(
		self->guest, synthetic_guest_member(self->guest, self->task, HVP_AT_TASK_STACK)));
	for (guint cpu = 0; cpu < SYNTHETIC_CPUS; cpu++) {
		HvpGva other = synthetic_guest_add_task(self->guest, "user", 200 + cpu, hvp_gva(0));

		synthetic_guest_set(self->guest, other, HVP_AT_TASK_ON_CPU, 1);
		synthetic_guest_put(self->guest,
				    synthetic_guest_per_cpu(self->guest, "current_task", cpu),
				    other.value);
		self->registers[cpu] = self->guest->registers;
		self->registers[cpu].kernel_gs_base =
			synthetic_guest_get(self->guest, hvp_gva_add(offsets, cpu * 8));
	}
	self->target.kernel = synthetic_guest_attach(self->guest);
	self->target.registers = self->registers;
	self->target.vcpu_count = SYNTHETIC_CPUS;
	g_assert_true(hvp_target_refresh_modules(&self->target, NULL));
	self->outer.return_pc = synthetic_guest_return_into(self->guest, name);
	self->outer.return_rsp = self->stack.value + OUTER_OFFSET;
	self->outer.stack =
		(HvpGvaRange){ self->stack, hvp_gva_add(self->stack, SYNTHETIC_STACK_BYTES) };
	self->inner = self->outer;
	self->inner.return_rsp = self->stack.value + INNER_OFFSET;
}

static void tear_down(Fixture *self)
{
	hvp_unwinder_free(self->target.unwinder);
	hvp_modules_free(self->target.modules);
	hvp_kernel_free(self->target.kernel);
	synthetic_guest_free(self->guest);
}

/* The thread sleeps, called from do_wait, whose return address is to be put at `at`. */
static void sleep_in_call(Fixture *self)
{
	static const struct {
		const char *name;
		guint frame_bytes;
	} callers[] = { { "schedule", 48 }, { "do_wait", 16 } };

	self->at = hvp_gva_add(self->stack, STACK_TOP);
	synthetic_guest_set(self->guest, self->task, HVP_AT_TASK_SP, self->at.value);
	synthetic_guest_set(self->guest, self->at, HVP_AT_FRAME_RETURN,
			    synthetic_guest_return_into(self->guest, "__schedule").value);
	self->at = hvp_gva_add(self->at,
			       hvp_layout_get(&self->guest->layout, HVP_AT_FRAME_SIZE));
	for (guint i = 0; i < G_N_ELEMENTS(callers); i++) {
		self->at = hvp_gva_add(self->at, callers[i].frame_bytes);
		synthetic_guest_put(
			self->guest, hvp_gva(self->at.value - 8),
			synthetic_guest_return_into(self->guest, callers[i].name).value);
	}
	self->at = hvp_gva_add(self->at, 24);
}

/* Whoever was interrupted stood at @pc with @rsp. */
static void put_interrupt(Fixture *self, HvpGva pc, guint64 rsp)
{
	synthetic_guest_put(self->guest, self->at,
			    synthetic_guest_return_into(self->guest, "asm_sysvec").value);
	self->at = hvp_gva_add(self->at, 8);
	synthetic_guest_put(self->guest, hvp_gva_add(self->at, 16 * 8), pc.value);
	synthetic_guest_put(self->guest, hvp_gva_add(self->at, 17 * 8), KERNEL_CS);
	synthetic_guest_put(self->guest, hvp_gva_add(self->at, 19 * 8), rsp);
}

/*
 * Frames of a function without locals, up to where @rsp is when they have returned; the outermost
 * returns to @pc.
 */
static void put_callers(Fixture *self, guint64 rsp, HvpGva pc)
{
	for (; self->at.value < rsp - 8; self->at = hvp_gva_add(self->at, 8))
		synthetic_guest_put(self->guest, self->at,
				    synthetic_guest_return_into(self->guest, "deep").value);
	synthetic_guest_put(self->guest, self->at, pc.value);
	self->at = hvp_gva_add(self->at, 8);
}

static HvpLostCall judge_all(Fixture *self, const HvpKeeperFrame *calls, guint count)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpSweep) sweep = hvp_sweep_new(&self->target, &error);
	guint rechecked;

	g_assert_no_error(error);
	g_assert_true(hvp_sweep_run(sweep, &error));
	g_assert_true(hvp_sweep_recheck(sweep, self->registers, SYNTHETIC_CPUS, &rechecked,
					&error));
	return hvp_lost_calls_judge_by_tasks(calls, count, sweep);
}

static HvpLostCall judge(Fixture *self, const HvpKeeperFrame *call)
{
	return judge_all(self, call, 1);
}

static HvpLostCall judge_nested(Fixture *self)
{
	const HvpKeeperFrame calls[] = { self->outer, self->inner };

	return judge_all(self, calls, G_N_ELEMENTS(calls));
}

/* Behind the return trap may be the information of the function in front of it, or none. */
static const char *const paddings[] = { "no_orc", "deep", "misaligned" };

static void test_asleep_in_call(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(paddings); i++) {
		Fixture f;

		set_up(&f, paddings[i]);
		sleep_in_call(&f);
		put_callers(&f, f.outer.return_rsp, f.outer.return_pc);
		g_assert_cmpint(judge(&f, &f.outer), ==, HVP_LOST_CALL_UNDER_WAY);
		tear_down(&f);
	}
}

static void test_interrupted_at_return_trap(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(paddings); i++) {
		Fixture f;

		set_up(&f, paddings[i]);
		sleep_in_call(&f);
		put_interrupt(&f, f.outer.return_pc, f.outer.return_rsp);
		g_assert_cmpint(judge(&f, &f.outer), ==, HVP_LOST_CALL_UNDER_WAY);
		tear_down(&f);
	}
}

static void test_on_vcpu_at_return_trap(void)
{
	HvpRegisters *registers;
	Fixture f;

	set_up(&f, "no_orc");
	registers = &f.registers[1];
	synthetic_guest_set(f.guest, f.task, HVP_AT_TASK_ON_CPU, 1);
	synthetic_guest_put(f.guest, synthetic_guest_per_cpu(f.guest, "current_task", 1),
			    f.task.value);
	registers->gs_base = registers->kernel_gs_base;
	registers->cs = KERNEL_CS;
	registers->rip = f.outer.return_pc.value;
	registers->general[HVP_RSP] = f.outer.return_rsp;
	g_assert_cmpint(judge(&f, &f.outer), ==, HVP_LOST_CALL_UNDER_WAY);
	tear_down(&f);
}

static void test_home_OVER(void)
{
	Fixture f;

	set_up(&f, "no_orc");
	g_assert_cmpint(judge(&f, &f.outer), ==, HVP_LOST_CALL_OVER);
	/* Caught where it stands, and never sent: what it was to return to lies below its stack. */
	synthetic_guest_put(f.guest, hvp_gva_add(f.stack, INNER_OFFSET - 8),
			    f.inner.return_pc.value);
	g_assert_cmpint(judge(&f, &f.inner), ==, HVP_LOST_CALL_OVER);
	tear_down(&f);
}

static void test_gone_OVER(void)
{
	Fixture f;

	set_up(&f, "no_orc");
	f.outer.stack.start = synthetic_guest_alloc(f.guest, SYNTHETIC_STACK_BYTES);
	f.outer.stack.end = hvp_gva_add(f.outer.stack.start, SYNTHETIC_STACK_BYTES);
	f.outer.return_rsp = f.outer.stack.start.value + OUTER_OFFSET;
	g_assert_cmpint(judge(&f, &f.outer), ==, HVP_LOST_CALL_OVER);
	tear_down(&f);
}

static void test_in_nested_call(void)
{
	Fixture f;

	set_up(&f, "no_orc");
	sleep_in_call(&f);
	put_callers(&f, f.inner.return_rsp, f.inner.return_pc);
	put_callers(&f, f.outer.return_rsp, f.outer.return_pc);
	g_assert_cmpint(judge_nested(&f), ==, HVP_LOST_CALL_UNDER_WAY);
	/* Nobody asks while the inner one is under way: it would not be seen. */
	g_assert_cmpint(judge(&f, &f.outer), ==, HVP_LOST_CALL_UNKNOWN);
	tear_down(&f);
}

/* Back at the hook from which it was sent, in the midst of the outer call. */
static void test_nested_call_OVER(void)
{
	Fixture f;

	set_up(&f, "no_orc");
	sleep_in_call(&f);
	put_interrupt(&f, synthetic_guest_return_into(f.guest, "deep"), f.inner.return_rsp);
	f.at = hvp_gva(f.inner.return_rsp);
	put_callers(&f, f.outer.return_rsp, f.outer.return_pc);
	f.inner.return_rsp -= 256;
	g_assert_cmpint(judge_nested(&f), ==, HVP_LOST_CALL_OVER);
	g_assert_cmpint(judge(&f, &f.outer), ==, HVP_LOST_CALL_UNDER_WAY);
	/* By itself it could not be told: no stack is reliable beyond a return trap. */
	g_assert_cmpint(judge(&f, &f.inner), ==, HVP_LOST_CALL_UNKNOWN);
	tear_down(&f);
}

/* Both are over but for the way home of the outer one, which waits at its return trap. */
static void test_outer_at_return_trap(void)
{
	Fixture f;

	set_up(&f, "no_orc");
	sleep_in_call(&f);
	put_interrupt(&f, f.outer.return_pc, f.outer.return_rsp);
	g_assert_cmpint(judge_nested(&f), ==, HVP_LOST_CALL_OVER);
	g_assert_cmpint(judge(&f, &f.outer), ==, HVP_LOST_CALL_UNDER_WAY);
	tear_down(&f);
}

/* The same place with another stack pointer is no end of this call. */
static void test_unreliable_UNKNOWN(void)
{
	Fixture f;

	set_up(&f, "no_orc");
	sleep_in_call(&f);
	put_callers(&f, f.outer.return_rsp + 8, f.outer.return_pc);
	g_assert_cmpint(judge(&f, &f.outer), ==, HVP_LOST_CALL_UNKNOWN);
	tear_down(&f);
}

static void test_aside(void)
{
	const HvpKeeperFrame call = { .is_aside = 1,
				      .return_pc = { 0xffffffff81000100ULL },
				      .return_rsp = 0xffffc90000003e00ULL,
				      .stack = { { 0xffffc90000002000ULL },
						 { 0xffffc90000004008ULL } } };
	const struct {
		guint64 rip, rsp;
		HvpLostCall expected;
	} cases[] = {
		{ 0xffffffff81000100ULL, 0xffffc90000003e00ULL, HVP_LOST_CALL_UNDER_WAY },
		{ 0xffffffff81000100ULL, 0xffffc90000003df8ULL, HVP_LOST_CALL_UNKNOWN },
		{ 0xffffffff81002000ULL, 0xffffc90000003000ULL, HVP_LOST_CALL_UNKNOWN },
		{ 0xffffffff81002000ULL, NMI_STACK, HVP_LOST_CALL_UNKNOWN },
		{ 0xffffffff81002000ULL, 0xffffc90000004008ULL, HVP_LOST_CALL_OVER },
		{ 0xffffffff81000100ULL, 0xffffc90000013e00ULL, HVP_LOST_CALL_OVER },
		{ 0x401000, 0x7ffc00001000ULL, HVP_LOST_CALL_OVER },
	};

	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		HvpRegisters registers[2] = { 0 };

		registers[i % 2].rip = cases[i].rip;
		registers[i % 2].general[HVP_RSP] = cases[i].rsp;
		g_assert_cmpint(hvp_lost_calls_judge_by_vcpus(&call, registers, 2), ==,
				cases[i].expected);
	}
}

/* Who is at its end tells more than another who may be in it. */
static void test_aside_and_nmi_elsewhere(void)
{
	const HvpKeeperFrame call = { .is_aside = 1,
				      .return_pc = { 0xffffffff81000100ULL },
				      .return_rsp = 0xffffc90000003e00ULL,
				      .stack = { { 0xffffc90000002000ULL },
						 { 0xffffc90000004008ULL } } };
	HvpRegisters registers[2] = { { .rip = 0xffffffff81002000ULL },
				      { .rip = call.return_pc.value } };

	registers[0].general[HVP_RSP] = NMI_STACK;
	registers[1].general[HVP_RSP] = call.return_rsp;
	g_assert_cmpint(hvp_lost_calls_judge_by_vcpus(&call, registers, 2), ==,
			HVP_LOST_CALL_UNDER_WAY);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/lost-calls/asleep-in-call", test_asleep_in_call);
	g_test_add_func("/lost-calls/interrupted-at-return-trap", test_interrupted_at_return_trap);
	g_test_add_func("/lost-calls/on-vcpu-at-return-trap", test_on_vcpu_at_return_trap);
	g_test_add_func("/lost-calls/home-OVER", test_home_OVER);
	g_test_add_func("/lost-calls/gone-OVER", test_gone_OVER);
	g_test_add_func("/lost-calls/in-nested-call", test_in_nested_call);
	g_test_add_func("/lost-calls/nested-call-OVER", test_nested_call_OVER);
	g_test_add_func("/lost-calls/outer-at-return-trap", test_outer_at_return_trap);
	g_test_add_func("/lost-calls/unreliable-UNKNOWN", test_unreliable_UNKNOWN);
	g_test_add_func("/lost-calls/aside", test_aside);
	g_test_add_func("/lost-calls/aside-and-nmi-elsewhere", test_aside_and_nmi_elsewhere);
	return g_test_run();
}
