/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/unwinder.h"

#include "base/bytes.h"
#include "guest/hidden-returns.h"

#include <string.h>

/* Bytes of the hardware's part of a pt_regs: ip, cs, flags, sp, ss. */
#define IRET_FRAME_BYTES 40U

/*
 * Where a kernel stack may end. Before 6.4 the ORC mark for it stands at all code that must not be
 * unwound, retpolines among it (UNWIND_HINT_EMPTY): only in these functions is it believed.
 */
static const char *const beginning_names[] = {
	"ret_from_fork",
	"ret_from_fork_asm",	/* since 6.5 */
	"secondary_startup_64", /* idle tasks */
	"secondary_startup_64_no_verify",
	"common_startup_64", /* since 6.9 */
};

#define MAX_BEGINNINGS G_N_ELEMENTS(beginning_names)

struct HvpUnwinder {
	HvpKernel *kernel;
	HvpModules *modules;
	HvpOrc *orc;
	HvpGvaRange text;
	/* Freed after boot, but the boot CPU's idle task still stands in it. */
	HvpGvaRange init_text;
	HvpGva ret_from_fork;
	/* The functions in which a kernel stack begins. */
	HvpGvaRange beginnings[MAX_BEGINNINGS];
	HvpGvaRange kretprobe;
	HvpGvaRange function_graph;
	/* Offsets in a pt_regs. */
	guint32 regs_bytes, regs_ip, regs_sp, regs_cs, regs_bp, regs_di, regs_dx, regs_r10,
		regs_r13;
	guint32 frame_bytes, frame_bp, frame_return;
};

/* Where one walk is. Registers of an interrupted frame are copies too. */
typedef struct {
	HvpUnwinder *unwinder;
	HvpGva task;
	const HvpStackCopy *stacks;
	guint stack_count;
	guint left_stacks; /* bit mask of stacks that must not be entered again */
	HvpGva pc;
	HvpGva slot; /* where pc was read as a return address; 0 else */
	guint64 sp;
	guint64 bp;
	bool exact;
	bool in_user_mode;
	bool has_registers; /* the four below belong to this frame */
	guint64 di, dx, r10, r13, saved_bp;
} Walk;

const char *hvp_unwinder_verdict_text(HvpUnwindVerdict verdict)
{
	static const char *const texts[] = {
		[HVP_UNWIND_RELIABLE] = "",
		[HVP_UNWIND_NO_STACK] = "its stack cannot be read",
		[HVP_UNWIND_BAD_STACK] = "a frame lies outside its stack",
		[HVP_UNWIND_UNKNOWN_TEXT] = "a return address lies in unknown code",
		[HVP_UNWIND_NO_ORC] = "code without unwind information",
		[HVP_UNWIND_BAD_ORC] = "unwind information makes no sense",
		[HVP_UNWIND_GOES_BACK] = "the stack does not advance",
		[HVP_UNWIND_TOO_DEEP] = "too many frames",
		[HVP_UNWIND_KRETPROBE] = "a return address is hidden by a kretprobe",
		[HVP_UNWIND_FUNCTION_GRAPH] =
			"a return address is hidden by function-graph tracing",
		[HVP_UNWIND_UNDECIDED] = "on a CPU that is in entry code or switching tasks",
		[HVP_UNWIND_NOT_SEEN] = "on a CPU or changing",
	};

	return (guint)verdict < G_N_ELEMENTS(texts) ? texts[verdict] : "unknown";
}

static HvpGvaRange optional_function(HvpKernel *kernel, const char *name)
{
	HvpGvaRange range = { 0 };

	(void)!hvp_kernel_function(kernel, name, 1, &range, NULL);
	return range;
}

/* The offsets come from the guest too: none may lead out of its struct. */
static bool check_offsets(const HvpUnwinder *self, GError **error)
{
	const guint32 words[] = { self->regs_bp, self->regs_di, self->regs_dx, self->regs_r10,
				  self->regs_r13 };
	bool fits = self->regs_ip + IRET_FRAME_BYTES <= self->regs_bytes &&
		    self->frame_bp + 8 <= self->frame_bytes &&
		    self->frame_return + 8 <= self->frame_bytes && (self->frame_bytes & 7) == 0;

	for (guint i = 0; i < G_N_ELEMENTS(words); i++)
		fits = fits && words[i] + 8 <= self->regs_bytes;
	return fits || hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "struct pt_regs or inactive_task_frame is malformed");
}

static void load_offsets(HvpUnwinder *self)
{
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);

	self->regs_bytes = hvp_layout_get(layout, HVP_AT_REGS_SIZE);
	self->regs_ip = hvp_layout_get(layout, HVP_AT_REGS_IP);
	self->regs_sp = hvp_layout_get(layout, HVP_AT_REGS_SP);
	self->regs_cs = hvp_layout_get(layout, HVP_AT_REGS_CS);
	self->regs_bp = hvp_layout_get(layout, HVP_AT_REGS_BP);
	self->regs_di = hvp_layout_get(layout, HVP_AT_REGS_DI);
	self->regs_dx = hvp_layout_get(layout, HVP_AT_REGS_DX);
	self->regs_r10 = hvp_layout_get(layout, HVP_AT_REGS_R10);
	self->regs_r13 = hvp_layout_get(layout, HVP_AT_REGS_R13);
	self->frame_bytes = hvp_layout_get(layout, HVP_AT_FRAME_SIZE);
	self->frame_bp = hvp_layout_get(layout, HVP_AT_FRAME_BP);
	self->frame_return = hvp_layout_get(layout, HVP_AT_FRAME_RETURN);
}

HvpUnwinder *hvp_unwinder_new(HvpKernel *kernel, GError **error)
{
	g_autoptr(HvpUnwinder) self = g_new0(HvpUnwinder, 1);

	self->kernel = kernel;
	self->text = hvp_kernel_get_text(kernel);
	self->orc = hvp_orc_load_image(kernel, error);
	if (self->orc == NULL)
		return NULL;
	load_offsets(self);
	if (!check_offsets(self, error))
		return NULL;
	(void)!hvp_kernel_symbol(kernel, "_sinittext", &self->init_text.start, NULL);
	(void)!hvp_kernel_symbol(kernel, "_einittext", &self->init_text.end, NULL);
	/* since 6.5 (3aec4ecb3d1f) the assembly part has the suffix */
	self->ret_from_fork = optional_function(kernel, "ret_from_fork_asm").start;
	if (self->ret_from_fork.value == 0)
		self->ret_from_fork = optional_function(kernel, "ret_from_fork").start;
	/* since 5.19 (73f9b911faa7) kretprobes are rethooks */
	self->kretprobe = optional_function(kernel, "arch_rethook_trampoline");
	if (self->kretprobe.start.value == 0)
		self->kretprobe = optional_function(kernel, "__kretprobe_trampoline");
	self->function_graph = optional_function(kernel, "return_to_handler");
	for (guint i = 0; i < MAX_BEGINNINGS; i++)
		self->beginnings[i] = optional_function(kernel, beginning_names[i]);
	return g_steal_pointer(&self);
}

void hvp_unwinder_free(HvpUnwinder *self)
{
	if (self == NULL)
		return;
	hvp_orc_free(self->orc);
	g_free(self);
}

void hvp_unwinder_set_modules(HvpUnwinder *self, HvpModules *modules)
{
	self->modules = modules;
}

/* Index of the stack copy that holds @bytes at @address, or -1. */
static gint find_stack(const Walk *walk, guint64 address, gsize bytes)
{
	for (guint i = 0; i < walk->stack_count; i++) {
		const HvpStackCopy *stack = &walk->stacks[i];
		guint64 offset = address - stack->base.value;

		if (address >= stack->base.value && offset <= stack->length_bytes &&
		    stack->length_bytes - offset >= bytes)
			return (gint)i;
	}
	return -1;
}

static const guint8 *stack_bytes(const Walk *walk, guint64 address, gsize bytes)
{
	gint index = find_stack(walk, address, bytes);

	if (index < 0 || (walk->left_stacks >> index & 1) != 0)
		return NULL;
	return walk->stacks[index].bytes + (address - walk->stacks[index].base.value);
}

static bool load_word(const Walk *walk, guint64 address, guint64 *ret_word)
{
	const guint8 *bytes = stack_bytes(walk, address, 8);

	if (bytes == NULL)
		return false;
	*ret_word = hvp_load_u64(bytes);
	return true;
}

static bool in_image_text(const HvpUnwinder *self, HvpGva pc)
{
	return hvp_gva_range_contains(self->text, pc) ||
	       hvp_gva_range_contains(self->init_text, pc);
}

static HvpUnwindVerdict classify_text(const HvpUnwinder *self, HvpGva pc)
{
	if (hvp_gva_range_contains(self->kretprobe, pc))
		return HVP_UNWIND_KRETPROBE;
	if (hvp_gva_range_contains(self->function_graph, pc))
		return HVP_UNWIND_FUNCTION_GRAPH;
	if (in_image_text(self, pc) ||
	    (self->modules != NULL && hvp_modules_find_address(self->modules, pc) != NULL))
		return HVP_UNWIND_RELIABLE;
	return HVP_UNWIND_UNKNOWN_TEXT;
}

static bool find_orc(const HvpUnwinder *self, HvpGva pc, HvpOrcEntry *ret_entry)
{
	HvpModule *module;
	const HvpOrc *orc;

	if (in_image_text(self, pc))
		return hvp_orc_find(self->orc, pc, ret_entry);
	module = self->modules ? hvp_modules_find_address(self->modules, pc) : NULL;
	orc = module ? hvp_modules_get_orc(self->modules, module) : NULL;
	return orc != NULL && hvp_orc_find(orc, pc, ret_entry);
}

/* The caller's stack pointer, as the entry says. */
static HvpUnwindVerdict find_frame(const Walk *walk, const HvpOrcEntry *orc, guint64 *ret_sp)
{
	guint64 offset = (guint64)(gint64)orc->sp_offset;

	switch (orc->sp_reg) {
	case HVP_ORC_REG_SP:
		*ret_sp = walk->sp + offset;
		return HVP_UNWIND_RELIABLE;
	case HVP_ORC_REG_BP:
		*ret_sp = walk->bp + offset;
		return HVP_UNWIND_RELIABLE;
	case HVP_ORC_REG_SP_INDIRECT:
		if (!load_word(walk, walk->sp, ret_sp))
			return HVP_UNWIND_BAD_STACK;
		*ret_sp += offset;
		return HVP_UNWIND_RELIABLE;
	case HVP_ORC_REG_BP_INDIRECT:
		return load_word(walk, walk->bp + offset, ret_sp) ? HVP_UNWIND_RELIABLE
								  : HVP_UNWIND_BAD_STACK;
	case HVP_ORC_REG_R10:
		*ret_sp = walk->r10;
		break;
	case HVP_ORC_REG_R13:
		*ret_sp = walk->r13;
		break;
	case HVP_ORC_REG_DI:
		*ret_sp = walk->di;
		break;
	case HVP_ORC_REG_DX:
		*ret_sp = walk->dx;
		break;
	default:
		return HVP_UNWIND_BAD_ORC;
	}
	return walk->has_registers ? HVP_UNWIND_RELIABLE : HVP_UNWIND_BAD_ORC;
}

static void take_registers(Walk *walk, const guint8 *regs)
{
	const HvpUnwinder *unwinder = walk->unwinder;

	walk->has_registers = true;
	walk->di = hvp_load_u64(regs + unwinder->regs_di);
	walk->dx = hvp_load_u64(regs + unwinder->regs_dx);
	walk->r10 = hvp_load_u64(regs + unwinder->regs_r10);
	walk->r13 = hvp_load_u64(regs + unwinder->regs_r13);
	walk->saved_bp = hvp_load_u64(regs + unwinder->regs_bp);
}

/* The interrupted context whose hardware part lies at @frame. */
static void take_iret_frame(Walk *walk, const guint8 *frame)
{
	walk->pc = hvp_gva(hvp_load_u64(frame));
	walk->in_user_mode = (hvp_load_u64(frame + 8) & 3) == 3;
	walk->sp = hvp_load_u64(frame + 24);
}

static HvpUnwindVerdict enter_caller(Walk *walk, const HvpOrcEntry *orc, guint64 sp)
{
	const HvpUnwinder *unwinder = walk->unwinder;
	const guint8 *bytes;

	walk->slot = hvp_gva(0);
	if (orc->type == HVP_ORC_CALL) {
		if (!load_word(walk, sp - 8, &walk->pc.value))
			return HVP_UNWIND_BAD_STACK;
		walk->slot = hvp_gva(sp - 8);
		walk->sp = sp;
		walk->has_registers = false;
		return HVP_UNWIND_RELIABLE;
	}
	if (orc->type == HVP_ORC_REGS) {
		bytes = stack_bytes(walk, sp, unwinder->regs_bytes);
		if (bytes == NULL)
			return HVP_UNWIND_BAD_STACK;
		take_registers(walk, bytes);
		take_iret_frame(walk, bytes + unwinder->regs_ip);
		return HVP_UNWIND_RELIABLE;
	}
	/* Only the hardware's part is there; general registers are still those of this frame. */
	bytes = stack_bytes(walk, sp, IRET_FRAME_BYTES);
	if (bytes == NULL)
		return HVP_UNWIND_BAD_STACK;
	take_iret_frame(walk, bytes);
	return HVP_UNWIND_RELIABLE;
}

static HvpUnwindVerdict find_caller_bp(Walk *walk, const HvpOrcEntry *orc, guint64 sp)
{
	guint64 at;

	switch (orc->bp_reg) {
	case HVP_ORC_REG_UNDEFINED:
		if (walk->has_registers)
			walk->bp = walk->saved_bp;
		return HVP_UNWIND_RELIABLE;
	case HVP_ORC_REG_PREV_SP:
		at = sp;
		break;
	case HVP_ORC_REG_BP:
		at = walk->bp;
		break;
	default:
		return HVP_UNWIND_BAD_ORC;
	}
	return load_word(walk, at + (guint64)(gint64)orc->bp_offset, &walk->bp)
		       ? HVP_UNWIND_RELIABLE
		       : HVP_UNWIND_BAD_STACK;
}

/* A stack that was left is never entered again, and on one stack the pointer only rises. */
static HvpUnwindVerdict check_progress(Walk *walk, guint64 previous_sp)
{
	gint before = find_stack(walk, previous_sp, 0);
	gint now = find_stack(walk, walk->sp, 0);

	if (walk->in_user_mode)
		return HVP_UNWIND_RELIABLE;
	if (now < 0 || (walk->left_stacks >> now & 1) != 0 || (walk->sp & 7) != 0)
		return HVP_UNWIND_BAD_STACK;
	if (before == now)
		return walk->sp > previous_sp ? HVP_UNWIND_RELIABLE : HVP_UNWIND_GOES_BACK;
	if (before >= 0)
		walk->left_stacks |= 1U << before;
	return HVP_UNWIND_RELIABLE;
}

static bool is_beginning(const HvpUnwinder *self, HvpGva pc)
{
	for (guint i = 0; i < MAX_BEGINNINGS; i++)
		if (hvp_gva_range_contains(self->beginnings[i], pc))
			return true;
	return false;
}

/* One frame up. @ret_done: the outermost frame was reached. */
static HvpUnwindVerdict step(Walk *walk, bool *ret_done)
{
	HvpGva lookup = walk->exact ? walk->pc : hvp_gva(walk->pc.value - 1);
	guint64 previous_sp = walk->sp, sp = 0;
	HvpOrcEntry orc;
	HvpUnwindVerdict verdict;

	*ret_done = false;
	if (!find_orc(walk->unwinder, lookup, &orc) || orc.type == HVP_ORC_UNDEFINED)
		return HVP_UNWIND_NO_ORC;
	if (orc.type == HVP_ORC_END) {
		*ret_done = is_beginning(walk->unwinder, lookup);
		return *ret_done ? HVP_UNWIND_RELIABLE : HVP_UNWIND_NO_ORC;
	}
	verdict = find_frame(walk, &orc, &sp);
	if (verdict == HVP_UNWIND_RELIABLE)
		verdict = enter_caller(walk, &orc, sp);
	if (verdict == HVP_UNWIND_RELIABLE)
		verdict = find_caller_bp(walk, &orc, sp);
	if (verdict == HVP_UNWIND_RELIABLE)
		verdict = check_progress(walk, previous_sp);
	/* A pc of zero behind a frame is no code; the kernel's unwinder stops there too. */
	walk->exact = orc.signal;
	*ret_done = walk->in_user_mode;
	return verdict;
}

/*
 * Whether pc is in known code. A tracer's trampoline in place of a return address is replaced by
 * the address it stands for.
 */
static HvpUnwindVerdict resolve_pc(Walk *walk)
{
	HvpUnwindVerdict verdict = classify_text(walk->unwinder, walk->pc);
	HvpHiddenBy by = verdict == HVP_UNWIND_KRETPROBE ? HVP_HIDDEN_BY_RETHOOK
							 : HVP_HIDDEN_BY_FUNCTION_GRAPH;

	if ((verdict != HVP_UNWIND_KRETPROBE && verdict != HVP_UNWIND_FUNCTION_GRAPH) ||
	    walk->slot.value == 0 ||
	    !hvp_hidden_returns_find(walk->unwinder->kernel, walk->task, walk->slot, by, &walk->pc,
				     NULL))
		return verdict;
	/* A function may be under both; a trampoline twice in a row is a loop. */
	verdict = classify_text(walk->unwinder, walk->pc);
	if (verdict != HVP_UNWIND_KRETPROBE && verdict != HVP_UNWIND_FUNCTION_GRAPH)
		return verdict;
	by = by == HVP_HIDDEN_BY_RETHOOK ? HVP_HIDDEN_BY_FUNCTION_GRAPH : HVP_HIDDEN_BY_RETHOOK;
	if (!hvp_hidden_returns_find(walk->unwinder->kernel, walk->task, walk->slot, by, &walk->pc,
				     NULL))
		return verdict;
	return classify_text(walk->unwinder, walk->pc);
}

static void walk_stack(Walk *walk, HvpTrace *ret_trace)
{
	bool done = false;

	ret_trace->count = 0;
	ret_trace->verdict = HVP_UNWIND_RELIABLE;
	while (!done && ret_trace->verdict == HVP_UNWIND_RELIABLE) {
		ret_trace->last_pc = walk->pc;
		ret_trace->verdict = resolve_pc(walk);
		if (ret_trace->verdict != HVP_UNWIND_RELIABLE)
			break;
		if (ret_trace->count == HVP_TRACE_MAX_FRAMES) {
			ret_trace->verdict = HVP_UNWIND_TOO_DEEP;
			break;
		}
		ret_trace->frames[ret_trace->count++] =
			(HvpFrame){ walk->pc, walk->exact, hvp_gva(walk->sp) };
		ret_trace->verdict = step(walk, &done);
	}
}

void hvp_unwinder_trace_sleeping(HvpUnwinder *self, HvpGva task, HvpGva sp,
				 const HvpStackCopy *stack, HvpTrace *ret_trace)
{
	Walk walk = { .unwinder = self, .task = task, .stacks = stack, .stack_count = 1 };
	const guint8 *frame = stack_bytes(&walk, sp.value, self->frame_bytes);

	ret_trace->count = 0;
	ret_trace->last_pc = hvp_gva(0);
	ret_trace->verdict = HVP_UNWIND_NO_STACK;
	if (frame == NULL || (sp.value & 7) != 0)
		return;
	walk.pc = hvp_gva(hvp_load_u64(frame + self->frame_return));
	walk.bp = hvp_load_u64(frame + self->frame_bp);
	walk.sp = sp.value + self->frame_bytes;
	/* A task that never ran stands at the first instruction of ret_from_fork. */
	walk.exact = walk.pc.value == self->ret_from_fork.value;
	walk_stack(&walk, ret_trace);
}

void hvp_unwinder_trace_running(HvpUnwinder *self, HvpGva task, const HvpRegisters *registers,
				const HvpStackCopy *stacks, guint count, HvpTrace *ret_trace)
{
	Walk walk = { .unwinder = self,
		      .task = task,
		      .stacks = stacks,
		      .stack_count = MIN(count, HVP_UNWIND_MAX_STACKS),
		      .pc = hvp_gva(registers->rip),
		      .sp = registers->general[HVP_RSP],
		      .bp = registers->general[HVP_RBP],
		      .exact = true,
		      .has_registers = true,
		      .di = registers->general[HVP_RDI],
		      .dx = registers->general[HVP_RDX],
		      .r10 = registers->general[HVP_R10],
		      .r13 = registers->general[HVP_R13],
		      .saved_bp = registers->general[HVP_RBP] };

	ret_trace->count = 0;
	ret_trace->last_pc = walk.pc;
	ret_trace->verdict = HVP_UNWIND_BAD_STACK;
	if (find_stack(&walk, walk.sp, 0) >= 0 && (walk.sp & 7) == 0)
		walk_stack(&walk, ret_trace);
}
