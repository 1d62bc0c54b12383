/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unwinds one kernel stack by ORC. The contract is that of the kernel's reliable
 * stack traces (Documentation/livepatch/reliable-stacktrace.rst): every function that
 * the task may return to, or unreliable with a reason. Never a guess.
 *
 * Works on private copies of the stacks involved; pure, bounded by
 * HVP_TRACE_MAX_FRAMES; may be called while the guest is stopped.
 *
 * Source: arch/x86/kernel/unwind_orc.c, arch/x86/kernel/stacktrace.c.
 */
#pragma once

#include "guest/modules.h"

#define HVP_TRACE_MAX_FRAMES 256U
#define HVP_UNWIND_MAX_STACKS 8U

typedef enum {
	HVP_UNWIND_RELIABLE,
	HVP_UNWIND_NO_STACK,	 /* the stack could not be read */
	HVP_UNWIND_BAD_STACK,	 /* a frame lies outside the stacks of this task */
	HVP_UNWIND_UNKNOWN_TEXT, /* a return address in no known code (BPF, trampoline, junk) */
	HVP_UNWIND_NO_ORC,	 /* code without unwind information (entry code) */
	HVP_UNWIND_BAD_ORC,	 /* unwind information that makes no sense here */
	HVP_UNWIND_GOES_BACK,	 /* the stack pointer does not advance */
	HVP_UNWIND_TOO_DEEP,
	HVP_UNWIND_KRETPROBE,	   /* hidden by a kretprobe, and the true one is not to be found */
	HVP_UNWIND_FUNCTION_GRAPH, /* likewise by the function-graph tracer */
	HVP_UNWIND_UNDECIDED,	    /* on a CPU, at a moment that cannot be judged */
	HVP_UNWIND_NOT_SEEN,	   /* not looked at: on a CPU, or changed meanwhile */
} HvpUnwindVerdict;

/* A phrase for people; static. "" for RELIABLE. */
const char *hvp_unwinder_verdict_text(HvpUnwindVerdict verdict);

typedef struct {
	HvpGva pc;
	bool exact; /* pc is the next instruction itself; else a return address */
	HvpGva sp;  /* the stack pointer there, or as it will be on return */
} HvpFrame;

typedef struct {
	HvpUnwindVerdict verdict;
	HvpGva last_pc; /* where the walk ended, when unreliable */
	guint count;
	HvpFrame frames[HVP_TRACE_MAX_FRAMES];
} HvpTrace;

/* A copy of part of a stack: [base, base + length_bytes). Borrowed. */
typedef struct {
	HvpGva base;
	gsize length_bytes;
	const guint8 *bytes;
} HvpStackCopy;

typedef struct HvpUnwinder HvpUnwinder;

/* Loads the image's ORC table; borrows @kernel and, until replaced, @modules (may be NULL). */
HvpUnwinder *hvp_unwinder_new(HvpKernel *kernel, GError **error);
void hvp_unwinder_free(HvpUnwinder *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpUnwinder, hvp_unwinder_free)
void hvp_unwinder_set_modules(HvpUnwinder *self, HvpModules *modules);

/*
 * Unwinds the task at @task, which is off its CPU: @sp is its thread.sp, where the frame that
 * __switch_to_asm left lies. Return addresses that tracers hid are looked up in the guest.
 */
void hvp_unwinder_trace_sleeping(HvpUnwinder *self, HvpGva task, HvpGva sp,
				 const HvpStackCopy *stack, HvpTrace *ret_trace);

/*
 * Unwinds the task at @task from the registers of a vCPU in kernel mode, over up to @count
 * stacks.
 */
void hvp_unwinder_trace_running(HvpUnwinder *self, HvpGva task, const HvpRegisters *registers,
				const HvpStackCopy *stacks, guint count, HvpTrace *ret_trace);
