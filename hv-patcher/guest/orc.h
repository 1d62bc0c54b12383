/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ORC unwind tables: for each code address, how to find the caller's frame. One
 * table is the image's, one more comes with each module.
 *
 *   ip table  = s32[], each relative to its own address, ascending
 *   entries   = struct orc_entry[], bitfields as the guest's BTF places them
 *
 * Source: arch/x86/include/asm/orc_types.h, arch/x86/kernel/unwind_orc.c.
 */
#pragma once

#include "guest/kernel.h"

typedef enum {
	HVP_ORC_UNDEFINED, /* no information: never a verdict */
	HVP_ORC_END,	   /* the outermost frame */
	HVP_ORC_CALL,	   /* a return address below the caller's stack pointer */
	HVP_ORC_REGS,	   /* a whole pt_regs */
	HVP_ORC_IRET,	   /* only the hardware's part of one */
} HvpOrcType;

/* Base registers, as the kernel numbers them. */
enum {
	HVP_ORC_REG_UNDEFINED,
	HVP_ORC_REG_PREV_SP,
	HVP_ORC_REG_DX,
	HVP_ORC_REG_DI,
	HVP_ORC_REG_BP,
	HVP_ORC_REG_SP,
	HVP_ORC_REG_R10,
	HVP_ORC_REG_R13,
	HVP_ORC_REG_BP_INDIRECT,
	HVP_ORC_REG_SP_INDIRECT,
};

typedef struct {
	HvpOrcType type;
	gint16 sp_offset;
	gint16 bp_offset;
	guint8 sp_reg;
	guint8 bp_reg;
	bool signal; /* the frame above was interrupted, not called */
} HvpOrcEntry;

typedef struct HvpOrc HvpOrc;

#define HVP_ORC_MAX_ENTRIES (8U << 20)

/*
 * Copies @count entries at @entries with addresses at @ips. BAD_DATA when the addresses
 * do not ascend; FAULT.
 */
HvpOrc *hvp_orc_load(HvpKernel *kernel, HvpGva ips, HvpGva entries, guint64 count, GError **error);

/* The image's own table. */
HvpOrc *hvp_orc_load_image(HvpKernel *kernel, GError **error);

void hvp_orc_free(HvpOrc *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpOrc, hvp_orc_free)

/* The entry for @pc: the last one not above it. False when all are above. */
bool hvp_orc_find(const HvpOrc *self, HvpGva pc, HvpOrcEntry *ret_entry);
