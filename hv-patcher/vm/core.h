/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM's memory and registers from a file: the ELF vmcore that QEMU's
 * dump-guest-memory writes (paging=false). Read only.
 *
 *   PT_LOAD: p_paddr, p_filesz at p_offset    guest-physical ranges
 *   PT_NOTE: "QEMU" notes, one a vCPU         QEMUCPUState, all registers
 *
 * Source: QEMU target/i386/arch_dump.c, docs/interop/vmcoreinfo.
 */
#pragma once

#include "base/registers.h"
#include "mem/physical.h"

typedef struct HvpCore HvpCore;

/*
 * Opens the dump at @path. NOT_FOUND, PERMISSION; BAD_DATA where it is not such
 * a dump, or is cut off.
 */
HvpCore *hvp_core_open(const char *path, GError **error);
void hvp_core_free(HvpCore *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpCore, hvp_core_free)

/* The memory; owned by @self. */
HvpPhysical *hvp_core_get_physical(HvpCore *self);

/* The vCPUs' registers at the time of the dump; owned by @self. */
const HvpRegisters *hvp_core_get_registers(HvpCore *self, guint *ret_count);
