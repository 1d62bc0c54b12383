/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "guest/tasks.h"
#include "guest/unwinder.h"
#include "synthetic-guest.h"

#define STACK 0xffffc90001000000ULL
#define IRQ_STACK 0xffffc90002000000ULL
#define WORDS 512U
#define REGS_WORDS 21U

/* A stack that tests write words onto, from its low end to where the walk starts. */
typedef struct {
	guint64 base;
	guint8 bytes[WORDS * 8];
	guint next; /* word */
} Stack;

typedef struct {
	SyntheticGuest *guest;
	HvpKernel *kernel;
	HvpUnwinder *unwinder;
	Stack task, irq;
	HvpTrace trace;
} Fixture;

static void set_up(Fixture *self, Generation generation)
{
	SyntheticOptions options = { .generation = generation };
	g_autoptr(GError) error = NULL;

	memset(self, 0, sizeof *self);
	self->guest = synthetic_guest_new(&options);
	self->kernel = synthetic_guest_attach(self->guest);
	self->unwinder = hvp_unwinder_new(self->kernel, &error);
	g_assert_no_error(error);
	self->task.base = STACK;
	self->irq.base = IRQ_STACK;
	self->task.next = self->irq.next = 64;
}

static void tear_down(Fixture *self)
{
	hvp_unwinder_free(self->unwinder);
	hvp_kernel_free(self->kernel);
	synthetic_guest_free(self->guest);
}

static guint64 address_of(const Stack *stack, guint word)
{
	return stack->base + word * 8;
}

static void push(Stack *stack, guint64 word)
{
	g_assert(stack->next < WORDS);
	hvp_store_u64(stack->bytes + stack->next++ * 8, word);
}

static void skip(Stack *stack, guint words)
{
	stack->next += words;
}

/* A return address into @name. */
static void push_return(Fixture *self, Stack *stack, const char *name)
{
	push(stack, synthetic_guest_return_into(self->guest, name).value);
}

static const char *fork_name(Fixture *self)
{
	return self->guest->options.generation == GENERATION_6_1 ? "ret_from_fork"
								 : "ret_from_fork_asm";
}

/* A struct pt_regs of code interrupted at @pc with stack pointer @sp. */
static void push_regs(Stack *stack, guint64 pc, guint64 sp, guint64 bp, bool user)
{
	guint64 regs[REGS_WORDS] = { [4] = bp, [16] = pc, [17] = user ? 0x33 : 0x10, [19] = sp };

	for (guint i = 0; i < REGS_WORDS; i++)
		push(stack, regs[i]);
}

static HvpStackCopy copy_of(const Stack *stack)
{
	return (HvpStackCopy){ hvp_gva(stack->base), sizeof stack->bytes, stack->bytes };
}

/* The frame of __switch_to_asm at the stack's next word, with @pc as return address. */
static guint64 push_inactive(Stack *stack, guint64 pc, guint64 bp)
{
	guint64 sp = address_of(stack, stack->next);

	skip(stack, 5);
	push(stack, bp);
	push(stack, pc);
	return sp;
}

static void trace_sleeping(Fixture *self, guint64 sp)
{
	HvpStackCopy stack = copy_of(&self->task);

	hvp_unwinder_trace_sleeping(self->unwinder, hvp_gva(0), hvp_gva(sp), &stack, &self->trace);
}

/* From @name's middle with the stack pointer at word 64 of @stack. */
static void trace_running(Fixture *self, const char *name, const Stack *stack)
{
	HvpStackCopy stacks[] = { copy_of(&self->task), copy_of(&self->irq) };
	HvpRegisters registers = { .rip = synthetic_guest_return_into(self->guest, name).value,
				   .cs = 0x10 };

	registers.general[HVP_RSP] = address_of(stack, 64);
	registers.general[HVP_RBP] = address_of(stack, 80);
	registers.general[HVP_RDX] = registers.general[HVP_RDI] = address_of(stack, 100);
	registers.general[HVP_R10] = registers.general[HVP_R13] = address_of(stack, 100);
	hvp_unwinder_trace_running(self->unwinder, hvp_gva(0), &registers, stacks, 2, &self->trace);
}

/* @names: the functions of the frames, NULL at the end. */
static void assert_frames(Fixture *self, const char *const *names)
{
	g_assert_cmpstr(hvp_unwinder_verdict_text(self->trace.verdict), ==, "");
	g_assert_cmpint(self->trace.verdict, ==, HVP_UNWIND_RELIABLE);
	for (guint i = 0; names[i] != NULL; i++) {
		HvpGva pc = self->trace.frames[i].pc;
		HvpGvaRange range;
		const char *name;

		g_assert_cmpuint(i, <, self->trace.count);
		g_assert_true(hvp_kernel_find_address(self->kernel, pc, &name, &range));
		g_assert_cmpstr(name, ==, names[i]);
	}
	g_assert_cmpuint(self->trace.count, ==, g_strv_length((char **)names));
}

static void assert_verdict(Fixture *self, HvpUnwindVerdict verdict)
{
	g_assert_cmpstr(hvp_unwinder_verdict_text(self->trace.verdict), ==,
			hvp_unwinder_verdict_text(verdict));
	g_assert_cmpint(self->trace.verdict, ==, verdict);
	g_assert_cmpuint(self->trace.count, <=, HVP_TRACE_MAX_FRAMES);
}

static void test_sleeping(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		Fixture f;
		guint64 sp;

		set_up(&f, generation);
		sp = push_inactive(
			&f.task, synthetic_guest_return_into(f.guest, "__schedule").value, 0x1234);
		skip(&f.task, 5);
		push_return(&f, &f.task, "schedule");
		skip(&f.task, 1);
		push_return(&f, &f.task, "do_wait");
		skip(&f.task, 3);
		push_return(&f, &f.task, "kthread");
		skip(&f.task, 7);
		push_return(&f, &f.task, fork_name(&f));
		trace_sleeping(&f, sp);
		assert_frames(&f, (const char *[]){ "__schedule", "schedule", "do_wait", "kthread",
						    fork_name(&f), NULL });
		g_assert_false(f.trace.frames[0].exact || f.trace.frames[4].exact);
		tear_down(&f);
	}
}

/* The tasks that the synthetic guest itself has, read from its memory. */
static void test_guest_tasks(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		Fixture f;
		g_autoptr(HvpTasks) tasks = NULL;

		set_up(&f, generation);
		synthetic_guest_add_task(f.guest, "sleeper", 77, hvp_gva(0));
		tasks = hvp_tasks_read(f.kernel, NULL);
		for (guint i = 0; i < hvp_tasks_count(tasks); i++) {
			const HvpTask *task = hvp_tasks_get(tasks, i);
			g_autofree guint8 *bytes = g_malloc(SYNTHETIC_STACK_BYTES);
			HvpStackCopy stack = { task->stack, SYNTHETIC_STACK_BYTES, bytes };

			g_assert_true(hvp_address_space_read(hvp_kernel_get_space(f.kernel),
							     task->stack, bytes,
							     SYNTHETIC_STACK_BYTES, NULL));
			hvp_unwinder_trace_sleeping(f.unwinder, task->address, task->sp, &stack,
						    &f.trace);
			assert_verdict(&f, HVP_UNWIND_RELIABLE);
			g_assert_cmpuint(f.trace.count, ==, 5);
		}
		tear_down(&f);
	}
}

static void test_never_run(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		Fixture f;
		guint64 sp;

		set_up(&f, generation);
		sp = push_inactive(&f.task, synthetic_guest_symbol(f.guest, fork_name(&f)).value,
				   0);
		trace_sleeping(&f, sp);
		assert_frames(&f, (const char *[]){ fork_name(&f), NULL });
		g_assert_true(f.trace.frames[0].exact);
		tear_down(&f);
	}
}

static void test_bp_frames(void)
{
	Fixture f;
	guint64 sp;

	set_up(&f, GENERATION_6_1);
	/* bp_frame finds its caller by the bp that __schedule saved. */
	sp = push_inactive(&f.task, synthetic_guest_return_into(f.guest, "__schedule").value, 0);
	skip(&f.task, 4);
	push(&f.task, address_of(&f.task, 100));
	push_return(&f, &f.task, "bp_frame");
	f.task.next = 100;
	push(&f.task, address_of(&f.task, 150));
	push_return(&f, &f.task, "bp_frame");
	f.task.next = 150;
	push(&f.task, 0);
	push_return(&f, &f.task, fork_name(&f));
	trace_sleeping(&f, sp);
	assert_frames(
		&f, (const char *[]){ "__schedule", "bp_frame", "bp_frame", fork_name(&f), NULL });
	tear_down(&f);
}

/* Interrupted in kernel code, then back to user mode. */
static void test_regs(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		Fixture f;

		set_up(&f, generation);
		push_regs(&f.task, synthetic_guest_symbol(f.guest, "do_wait").value,
			  address_of(&f.task, 64 + REGS_WORDS), 0x77, false);
		skip(&f.task, 3);
		push_return(&f, &f.task, "entry_SYSCALL_64");
		push_regs(&f.task, 0x401234, 0x7ffc12345678, 0, true);
		trace_running(&f, "asm_sysvec", &f.task);
		assert_frames(
			&f, (const char *[]){ "asm_sysvec", "do_wait", "entry_SYSCALL_64", NULL });
		/* do_wait's first instruction, not the call before it. */
		g_assert_true(f.trace.frames[0].exact && f.trace.frames[1].exact);
		g_assert_false(f.trace.frames[2].exact);
		tear_down(&f);
	}
}

static void test_iret(void)
{
	Fixture f;

	set_up(&f, GENERATION_6_12);
	push(&f.task, 0xe44);
	push(&f.task, synthetic_guest_symbol(f.guest, "dx_frame").value);
	push(&f.task, 0x10);
	push(&f.task, 2);
	push(&f.task, address_of(&f.task, 70));
	push(&f.task, 0x18);
	/* The general registers are still the vCPU's. */
	f.task.next = 99;
	push_return(&f, &f.task, fork_name(&f));
	trace_running(&f, "asm_exc_partial", &f.task);
	assert_frames(&f, (const char *[]){ "asm_exc_partial", "dx_frame", fork_name(&f), NULL });
	tear_down(&f);
}

static void test_register_frames(void)
{
	static const char *const names[] = { "dx_frame", "di_frame", "r10_frame", "r13_frame" };

	for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
		Fixture f;
		guint64 sp;

		set_up(&f, GENERATION_6_1);
		f.task.next = 99;
		push_return(&f, &f.task, fork_name(&f));
		trace_running(&f, names[i], &f.task);
		assert_frames(&f, (const char *[]){ names[i], fork_name(&f), NULL });
		/* Behind a call nobody knows those registers. */
		f.task.next = 200;
		sp = push_inactive(&f.task, synthetic_guest_return_into(f.guest, names[i]).value,
				   0);
		trace_sleeping(&f, sp);
		assert_verdict(&f, HVP_UNWIND_BAD_ORC);
		tear_down(&f);
	}
}

/* call_on_irqstack left the task's stack pointer in the first word of the other stack. */
static void test_irq_stack(void)
{
	Fixture f;

	set_up(&f, GENERATION_6_1);
	/* deep pops its return address; what lies above is the word that links the stacks. */
	push_return(&f, &f.irq, "call_on_irqstack");
	push(&f.irq, address_of(&f.task, 30));
	f.task.next = 30;
	push_return(&f, &f.task, "do_wait");
	skip(&f.task, 3);
	push_return(&f, &f.task, fork_name(&f));
	trace_running(&f, "deep", &f.irq);
	assert_frames(
		&f, (const char *[]){ "deep", "call_on_irqstack", "do_wait", fork_name(&f), NULL });
	/* The link leads out of both stacks, then to a word that cannot be read. */
	f.irq.next = 65;
	push(&f.irq, 0x4141414141414140);
	trace_running(&f, "deep", &f.irq);
	assert_verdict(&f, HVP_UNWIND_BAD_STACK);
	tear_down(&f);
}

/* From one stack to the other and back: never entered again. */
static void test_stack_loop(void)
{
	Fixture f;

	set_up(&f, GENERATION_6_1);
	push_return(&f, &f.irq, "call_on_irqstack");
	push(&f.irq, address_of(&f.task, 30));
	f.task.next = 30;
	push_return(&f, &f.task, "call_on_irqstack");
	push(&f.task, address_of(&f.irq, 64));
	trace_running(&f, "deep", &f.irq);
	assert_verdict(&f, HVP_UNWIND_BAD_STACK);
	g_assert_cmpuint(f.trace.count, ==, 3);
	/* To itself. */
	f.irq.next = 65;
	push(&f.irq, address_of(&f.irq, 64));
	trace_running(&f, "deep", &f.irq);
	assert_verdict(&f, HVP_UNWIND_GOES_BACK);
	tear_down(&f);
}

static void test_bp_indirect(void)
{
	Fixture f;

	set_up(&f, GENERATION_6_1);
	f.task.next = 81;
	push(&f.task, address_of(&f.task, 90));
	f.task.next = 89;
	push_return(&f, &f.task, fork_name(&f));
	trace_running(&f, "bp_indirect", &f.task);
	assert_frames(&f, (const char *[]){ "bp_indirect", fork_name(&f), NULL });
	tear_down(&f);
}

static void test_bad_text(void)
{
	static const guint64 pcs[] = { 0,
				       1,
				       SYNTHETIC_BASE - 1,
				       SYNTHETIC_BASE + SYNTHETIC_TEXT_BYTES,
				       0xffffffffc0001000,
				       0xffffc90000001234,
				       0x401000,
				       G_MAXUINT64 };

	for (guint i = 0; i < G_N_ELEMENTS(pcs); i++) {
		Fixture f;
		guint64 sp;

		set_up(&f, GENERATION_6_1);
		sp = push_inactive(&f.task, pcs[i], 0);
		trace_sleeping(&f, sp);
		assert_verdict(&f, HVP_UNWIND_UNKNOWN_TEXT);
		g_assert_cmphex(f.trace.last_pc.value, ==, pcs[i]);
		g_assert_cmpuint(f.trace.count, ==, 0);
		f.task.next = 64;
		push(&f.task, pcs[i]);
		trace_running(&f, "deep", &f.task);
		assert_verdict(&f, HVP_UNWIND_UNKNOWN_TEXT);
		g_assert_cmpuint(f.trace.count, ==, 1);
		tear_down(&f);
	}
}

static void test_trampolines(void)
{
	Fixture f;
	guint64 sp;

	set_up(&f, GENERATION_6_1);
	push_return(&f, &f.task, "arch_rethook_trampoline");
	trace_running(&f, "deep", &f.task);
	assert_verdict(&f, HVP_UNWIND_KRETPROBE);
	f.task.next = 64;
	push(&f.task, synthetic_guest_symbol(f.guest, "return_to_handler").value);
	trace_running(&f, "deep", &f.task);
	assert_verdict(&f, HVP_UNWIND_FUNCTION_GRAPH);
	sp = push_inactive(&f.task,
			   synthetic_guest_symbol(f.guest, "arch_rethook_trampoline").value, 0);
	trace_sleeping(&f, sp);
	assert_verdict(&f, HVP_UNWIND_KRETPROBE);
	tear_down(&f);
}

static void test_bad_orc(void)
{
	static const struct {
		const char *name;
		HvpUnwindVerdict verdict;
	} known[] = {
		{ "bad_sp_reg", HVP_UNWIND_BAD_ORC },	{ "bad_bp_reg", HVP_UNWIND_BAD_ORC },
		{ "no_orc", HVP_UNWIND_NO_ORC },	{ "startup_64", HVP_UNWIND_NO_ORC },
		{ "stuck", HVP_UNWIND_GOES_BACK },	{ "backwards", HVP_UNWIND_GOES_BACK },
		{ "misaligned", HVP_UNWIND_BAD_STACK },
	};

	for (guint generation = 0; generation < 2; generation++)
		for (guint i = 0; i < G_N_ELEMENTS(known); i++) {
			Fixture f;

			set_up(&f, generation);
			for (f.task.next = 0; f.task.next < WORDS;)
				push_return(&f, &f.task, "deep");
			trace_running(&f, known[i].name, &f.task);
			assert_verdict(&f, known[i].verdict);
			tear_down(&f);
		}
}

static void test_too_deep(void)
{
	Fixture f;

	set_up(&f, GENERATION_6_1);
	while (f.task.next < WORDS)
		push_return(&f, &f.task, "deep");
	trace_running(&f, "deep", &f.task);
	assert_verdict(&f, HVP_UNWIND_TOO_DEEP);
	g_assert_cmpuint(f.trace.count, ==, HVP_TRACE_MAX_FRAMES);
	/* One frame less is a trace, if it ends. */
	f.task.next = 64 + HVP_TRACE_MAX_FRAMES - 2;
	push_return(&f, &f.task, fork_name(&f));
	trace_running(&f, "deep", &f.task);
	assert_verdict(&f, HVP_UNWIND_RELIABLE);
	g_assert_cmpuint(f.trace.count, ==, HVP_TRACE_MAX_FRAMES);
	tear_down(&f);
}

/* The walk comes to the end of the stack. */
static void test_stack_end(void)
{
	Fixture f;

	set_up(&f, GENERATION_6_1);
	for (guint words = 0; words < 60; words++) {
		HvpStackCopy stack = { hvp_gva(STACK), (64 + words) * 8, f.task.bytes };
		g_autofree guint8 *exact = g_memdup2(f.task.bytes, stack.length_bytes);
		HvpRegisters registers = {
			.rip = synthetic_guest_return_into(f.guest, "asm_sysvec").value, .cs = 0x10
		};

		stack.bytes = exact;
		registers.general[HVP_RSP] = address_of(&f.task, 64);
		registers.general[HVP_RBP] = G_MAXUINT64 - 7;
		hvp_unwinder_trace_running(f.unwinder, hvp_gva(0), &registers, &stack, 1, &f.trace);
		assert_verdict(&f, HVP_UNWIND_BAD_STACK);
		registers.rip = synthetic_guest_return_into(f.guest, "bp_frame").value;
		hvp_unwinder_trace_running(f.unwinder, hvp_gva(0), &registers, &stack, 1, &f.trace);
		assert_verdict(&f, HVP_UNWIND_BAD_STACK);
	}
	tear_down(&f);
}

static void test_bad_sp(void)
{
	static const guint64 offsets[] = { G_MAXUINT64 - 6, WORDS * 8 - 48, WORDS * 8, 1, 4, 7,
					   1ULL << 32 };
	Fixture f;
	HvpStackCopy none = { hvp_gva(STACK), 0, NULL };

	set_up(&f, GENERATION_6_1);
	for (guint i = 0; i < G_N_ELEMENTS(offsets); i++) {
		HvpStackCopy stack = copy_of(&f.task);
		HvpRegisters registers = {
			.rip = synthetic_guest_return_into(f.guest, "deep").value, .cs = 0x10
		};

		trace_sleeping(&f, STACK + offsets[i]);
		assert_verdict(&f, HVP_UNWIND_NO_STACK);
		registers.general[HVP_RSP] = STACK + offsets[i];
		hvp_unwinder_trace_running(f.unwinder, hvp_gva(0), &registers, &stack, 1, &f.trace);
		g_assert_cmpint(f.trace.verdict, !=, HVP_UNWIND_RELIABLE);
	}
	hvp_unwinder_trace_sleeping(f.unwinder, hvp_gva(0), hvp_gva(STACK), &none, &f.trace);
	assert_verdict(&f, HVP_UNWIND_NO_STACK);
	tear_down(&f);
}

/* Even where the frame is found by bp, nobody knows on what stack it runs. */
static void test_sp_elsewhere(void)
{
	Fixture f;
	HvpStackCopy stack;
	HvpRegisters registers = { .cs = 0x10 };

	set_up(&f, GENERATION_6_1);
	stack = copy_of(&f.task);
	registers.rip = synthetic_guest_return_into(f.guest, "bp_frame").value;
	registers.general[HVP_RSP] = 0xffffc90007000000;
	registers.general[HVP_RBP] = address_of(&f.task, 80);
	f.task.next = 81;
	push_return(&f, &f.task, fork_name(&f));
	hvp_unwinder_trace_running(f.unwinder, hvp_gva(0), &registers, &stack, 1, &f.trace);
	assert_verdict(&f, HVP_UNWIND_BAD_STACK);
	registers.general[HVP_RSP] = address_of(&f.task, 70);
	hvp_unwinder_trace_running(f.unwinder, hvp_gva(0), &registers, &stack, 1, &f.trace);
	assert_frames(&f, (const char *[]){ "bp_frame", fork_name(&f), NULL });
	hvp_unwinder_trace_running(f.unwinder, hvp_gva(0), &registers, &stack, 0, &f.trace);
	assert_verdict(&f, HVP_UNWIND_BAD_STACK);
	tear_down(&f);
}

static void test_module_frames(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		Fixture f;
		g_autoptr(HvpModules) modules = NULL;
		HvpModule *module;

		set_up(&f, generation);
		synthetic_guest_add_module(f.guest, "driver");
		hvp_address_space_forget(hvp_kernel_get_space(f.kernel));
		modules = hvp_modules_read(f.kernel, NULL);
		module = hvp_modules_find(modules, "driver");
		push(&f.task, module->text.start.value + 0x123);
		skip(&f.task, 1);
		push_return(&f, &f.task, fork_name(&f));
		trace_running(&f, "deep", &f.task);
		assert_verdict(&f, HVP_UNWIND_UNKNOWN_TEXT);
		hvp_unwinder_set_modules(f.unwinder, modules);
		trace_running(&f, "deep", &f.task);
		assert_verdict(&f, HVP_UNWIND_RELIABLE);
		g_assert_cmpuint(f.trace.count, ==, 3);
		/* Its end is nobody's. */
		f.task.next = 64;
		push(&f.task, module->text.end.value);
		trace_running(&f, "deep", &f.task);
		assert_verdict(&f, HVP_UNWIND_UNKNOWN_TEXT);
		/* A module without ORC. */
		f.task.next = 64;
		push(&f.task, module->text.start.value + 0x123);
		hvp_orc_free(module->orc);
		module->orc = NULL;
		module->orc_entries = hvp_gva(0x1000);
		trace_running(&f, "deep", &f.task);
		assert_verdict(&f, HVP_UNWIND_NO_ORC);
		tear_down(&f);
	}
}

/* Stacks of words that are all plausible: bounded, and never past their end. */
static void test_random(void)
{
	static const char *const names[] = { "__schedule",	 "schedule",
					     "bp_frame",	 "bp_saved_by_bp",
					     "asm_sysvec",	 "asm_exc_partial",
					     "call_on_irqstack", "bp_indirect",
					     "dx_frame",	 "deep",
					     "entry_SYSCALL_64", "misaligned",
					     "backwards",	 "return_to_handler" };
	g_autoptr(GRand) rand = g_rand_new_with_seed(9);
	guint reliable = 0;
	Fixture f;

	set_up(&f, GENERATION_6_12);
	for (guint i = 0; i < 200; i++) {
		for (guint word = 0; word < WORDS; word++)
			for (guint k = 0; k < 2; k++) {
				Stack *stack = k ? &f.irq : &f.task;
				const char *name = names[g_rand_int(rand) % G_N_ELEMENTS(names)];
				guint64 value = synthetic_guest_return_into(f.guest, name).value;

				stack->next = word;
				if (g_rand_int(rand) % 3 == 0)
					value = (g_rand_int(rand) % 2 ? STACK : IRQ_STACK) +
						(g_rand_int(rand) % (WORDS * 8 + 64) & ~7U);
				push(stack, g_rand_int(rand) % 20 ? value : g_rand_int(rand));
			}
		trace_running(&f, names[g_rand_int(rand) % G_N_ELEMENTS(names)], &f.task);
		reliable += f.trace.verdict == HVP_UNWIND_RELIABLE;
		g_assert_cmpuint(f.trace.count, <=, HVP_TRACE_MAX_FRAMES);
		trace_sleeping(&f, address_of(&f.task, g_rand_int(rand) % WORDS));
	}
	/* Only what ended in user mode by chance. */
	g_assert_cmpuint(reliable, <, 20);
	tear_down(&f);
}

static void test_malformed_structs(void)
{
	static const char *const names[] = { "pt_regs", "inactive_task_frame" };

	for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
		SyntheticOptions options = { 0 };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		g_autoptr(HvpKernel) kernel = NULL;
		g_autoptr(GError) error = NULL;
		guint8 *btf = synthetic_guest_bytes(guest, guest->btf, 0x10000);
		gsize types_bytes = hvp_load_u32(btf + 12);
		const guint8 *name = memmem(btf + 24 + types_bytes, 0x8000, names[i],
					    strlen(names[i]) + 1);
		guint32 offset = (guint32)(name - (btf + 24 + types_bytes));

		/* The struct ends before its members do. */
		for (gsize at = 24; at < 24 + types_bytes; at += 4)
			/* A number may look like it: it is a struct's by its kind, too. */
			if (hvp_load_u32(btf + at) == offset &&
			    (hvp_load_u32(btf + at + 4) >> 24 & 0x1f) == BTF_STRUCT)
				hvp_store_u32(btf + at + 8, 40);
		kernel = synthetic_guest_attach(guest);
		g_assert_null(hvp_unwinder_new(kernel, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
}

static void test_texts(void)
{
	for (guint i = HVP_UNWIND_RELIABLE + 1; i <= HVP_UNWIND_NOT_SEEN; i++)
		g_assert_cmpuint(strlen(hvp_unwinder_verdict_text(i)), >, 5);
	g_assert_cmpstr(hvp_unwinder_verdict_text(999), ==, "unknown");
	hvp_unwinder_free(NULL);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/unwind/sleeping-call-frames-RELIABLE", test_sleeping);
	g_test_add_func("/unwind/tasks-of-guest-RELIABLE", test_guest_tasks);
	g_test_add_func("/unwind/never-run-task-RELIABLE", test_never_run);
	g_test_add_func("/unwind/frames-by-bp-RELIABLE", test_bp_frames);
	g_test_add_func("/unwind/interrupted-then-user-mode-RELIABLE", test_regs);
	g_test_add_func("/unwind/hardware-frame-only-RELIABLE", test_iret);
	g_test_add_func("/unwind/frames-by-register-RELIABLE-only-if-known", test_register_frames);
	g_test_add_func("/unwind/irq-stack-RELIABLE", test_irq_stack);
	g_test_add_func("/unwind/loop-between-stacks-BAD_STACK", test_stack_loop);
	g_test_add_func("/unwind/bp-indirect-RELIABLE", test_bp_indirect);
	g_test_add_func("/unwind/return-into-unknown-text-UNRELIABLE", test_bad_text);
	g_test_add_func("/unwind/kretprobe-and-graph-trampolines-UNRELIABLE", test_trampolines);
	g_test_add_func("/unwind/nonsense-orc-UNRELIABLE", test_bad_orc);
	g_test_add_func("/unwind/too-deep-UNRELIABLE", test_too_deep);
	g_test_add_func("/unwind/end-of-stack-BAD_STACK", test_stack_end);
	g_test_add_func("/unwind/sp-outside-or-misaligned-UNRELIABLE", test_bad_sp);
	g_test_add_func("/unwind/sp-on-unknown-stack-BAD_STACK", test_sp_elsewhere);
	g_test_add_func("/unwind/module-frames-RELIABLE-if-known", test_module_frames);
	g_test_add_func("/unwind/random-stacks-BOUNDED", test_random);
	g_test_add_func("/unwind/malformed-structs-BAD_DATA", test_malformed_structs);
	g_test_add_func("/unwind/verdict-TEXTS", test_texts);
	return g_test_run();
}
