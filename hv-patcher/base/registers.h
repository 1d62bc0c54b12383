/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The x86-64 registers of one stopped vCPU, as far as unwinding, guest calls
 * and finding the kernel need them. FPU and vector state is never touched:
 * kernel code may not use it without saving it itself.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Indices of the general registers, in the order of their encoding. */
enum {
	HVP_RAX,
	HVP_RCX,
	HVP_RDX,
	HVP_RBX,
	HVP_RSP,
	HVP_RBP,
	HVP_RSI,
	HVP_RDI,
	HVP_R8,
	HVP_R9,
	HVP_R10,
	HVP_R11,
	HVP_R12,
	HVP_R13,
	HVP_R14,
	HVP_R15,
	HVP_GENERAL_COUNT,
};

#define HVP_RFLAGS_TF (1U << 8)
#define HVP_RFLAGS_IF (1U << 9)
#define HVP_RFLAGS_DF (1U << 10)

typedef struct {
	guint64 general[HVP_GENERAL_COUNT];
	guint64 rip;
	guint64 rflags;
	guint64 fs_base;
	guint64 gs_base;
	guint64 kernel_gs_base;
	guint64 cr0;
	guint64 cr3;
	guint64 cr4;
	guint64 efer;
	/* Base of the interrupt descriptor table; 0 where the source does not tell. */
	guint64 idt_base;
	/* Base of the task state segment, likewise. */
	guint64 tr_base;
	guint32 cs;
	guint32 ss;
} HvpRegisters;

static inline bool hvp_registers_in_user_mode(const HvpRegisters *self)
{
	return (self->cs & 3) == 3;
}
