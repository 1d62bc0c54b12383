/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Borrowing a vCPU of guest.h for a call, as the tool's call/ does with a thread. */
#pragma once

#include "vm.h"

#define BORROWER_PATIENCE_USEC (30 * G_USEC_PER_SEC)
#define BORROWER_PAUSE_USEC 10000
/* A refusal by KVM: a vCPU did not get a CPU, or was at an exit, in all tries of a stop. */
static inline bool borrower_waits(GError **error, gint64 until_usec)
{
	if (!g_error_matches(*error, HVP_ERROR, HVP_ERROR_BUSY) ||
	    g_get_monotonic_time() >= until_usec)
		return false;
	g_clear_error(error);
	g_usleep(BORROWER_PAUSE_USEC);
	return true;
}

/* As the tool does, what is refused for the moment is asked for again. */
#define CHECK(expression)                                                                 \
	do {                                                                              \
		gint64 until_usec = g_get_monotonic_time() + BORROWER_PATIENCE_USEC;      \
		while (!(expression))                                                     \
			if (!borrower_waits(&error, until_usec))                          \
				g_error("%s:%d: %s: %s", __FILE__, __LINE__, #expression, \
					error != NULL ? error->message : "");             \
	} while (0)

/* Room for whatever the caller would put on the stack. */
#define BORROWER_SCRATCH_BYTES 256

typedef struct {
	guint vcpu;
	HvpRegisters registers; /* as it stands */
	HvpRegisters saved;	/* when it was caught for the call under way */
} Borrowed;

/* Waits until a vCPU stands at @pc. */
static inline void borrower_wait(Vm *vm, Borrowed *borrowed, guint64 pc)
{
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;

	CHECK(hvp_keeper_wait(vm->keeper, vm_soon(), BUDGET_USEC, &stop, &error));
	g_assert_cmpint(stop.trapped_vcpu, >=, 0);
	g_assert_cmphex(stop.trap.value, ==, pc);
	borrowed->vcpu = (guint)stop.trapped_vcpu;
	borrowed->registers = stop.registers[borrowed->vcpu];
}

/* Catches a vCPU at GUEST_WORK; then no trap is set. */
static inline void borrower_catch(Vm *vm, Borrowed *borrowed)
{
	const HvpGva pc = { GUEST_WORK };
	g_autoptr(GError) error = NULL;

	CHECK(hvp_keeper_set_traps(vm->keeper, &pc, 1, &error));
	borrower_wait(vm, borrowed, GUEST_WORK);
	CHECK(hvp_keeper_set_traps(vm->keeper, NULL, 0, &error));
}

/* What it takes to have @function called where the vCPU stands, returning to nowhere. */
static inline void borrower_prepare(Vm *vm, const Borrowed *borrowed, guint64 function,
				    HvpKeeperFrame *ret_frame, HvpRegisters *ret_registers)
{
	guint64 stack = GUEST_STACK(borrowed->registers.general[HVP_RBX]);
	guint64 rsp = (borrowed->registers.general[HVP_RSP] - BORROWER_SCRATCH_BYTES) & ~15ULL;
	guint64 nowhere = GUEST_NOWHERE;
	g_autoptr(GError) error = NULL;

	*ret_frame = (HvpKeeperFrame){
		.vcpu_index = borrowed->vcpu,
		.return_pc = hvp_gva(GUEST_NOWHERE),
		.return_rsp = rsp,
		.stack = { hvp_gva(stack), hvp_gva(stack + GUEST_STACK_BYTES) },
		.saved = borrowed->registers,
	};
	*ret_registers = borrowed->registers;
	ret_registers->general[HVP_RSP] = rsp - 8;
	ret_registers->rip = function;
	CHECK(hvp_keeper_write_data(vm->keeper, hvp_gpa(rsp - 8), &nowhere, 8, &error));
}

static inline void borrower_call(Vm *vm, Borrowed *borrowed, guint64 function, guint64 rdi,
				 guint64 rsi)
{
	HvpKeeperFrame frame;
	HvpRegisters registers;
	g_autoptr(GError) error = NULL;

	borrower_prepare(vm, borrowed, function, &frame, &registers);
	borrowed->saved = frame.saved;
	registers.general[HVP_RDI] = rdi;
	registers.general[HVP_RSI] = rsi;
	CHECK(hvp_keeper_divert(vm->keeper, &frame, &registers, &error));
}

/* Waits for the end of the call and returns its result. */
static inline guint64 borrower_wait_return(Vm *vm, Borrowed *borrowed)
{
	borrower_wait(vm, borrowed, GUEST_NOWHERE);
	return borrowed->registers.general[HVP_RAX];
}

static inline void borrower_come_home(Vm *vm, Borrowed *borrowed)
{
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;

	CHECK(hvp_keeper_come_home(vm->keeper, borrowed->vcpu, &error));
	CHECK(hvp_keeper_stop(vm->keeper, BUDGET_USEC, &stop, &error));
	borrowed->registers = stop.registers[borrowed->vcpu];
	g_assert_cmpmem(borrowed->registers.general, sizeof borrowed->registers.general,
			borrowed->saved.general, sizeof borrowed->saved.general);
	g_assert_cmphex(borrowed->registers.rip, ==, borrowed->saved.rip);
	g_assert_cmphex(borrowed->registers.rflags, ==, borrowed->saved.rflags);
}
