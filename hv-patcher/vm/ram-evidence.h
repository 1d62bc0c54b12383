/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest's own page tables say about a layout of its RAM. A Linux kernel maps all of
 * its RAM linearly (page_offset_base + physical address, Documentation/arch/x86/x86_64/mm.rst),
 * and nothing but its RAM; so the tables tell how much of it there is and where it ends.
 *
 * A layout agrees with a vCPU if, walking the kernel's half of its tables through that layout,
 *   - every table lies in RAM, and every entry is one: no reserved bits, no page of the
 *     kernel's that users may touch;
 *   - there is one linear map of physical memory, no address of which is outside of the
 *     layout or leads elsewhere, and which covers the layout up to its ends;
 *   - each of the layout's blocks holds tables of these, so that it can be nowhere else;
 *   - the vCPU's page-fault gate and, in kernel mode, its instruction are mapped and executable.
 *
 * The guest is hostile: it may make a wrong layout agree. Then another part of the same
 * process, which is as large as RAM is, is taken for its memory.
 */
#pragma once

#include "base/registers.h"
#include "mem/physical.h"
#include "vm/ram-blocks.h"

/* Memory of a process by its own addresses (gpa = hva), seen through a layout. */
HvpPhysical *hvp_ram_evidence_view(HvpPhysical *by_hva, const HvpRam *ram);

/*
 * Whether @layout agrees with one of @registers at least, of which the first 16 are asked; vCPUs
 * that do not run such a kernel, or whose tables are not theirs any more, say nothing. @by_hva
 * has every block at its own address. *@pages_left, what may be read of it, is lowered.
 * UNSUPPORTED: it is used up; else false only when memory is gone.
 */
bool hvp_ram_evidence_judge(HvpPhysical *by_hva, const HvpRamLayout *layout,
			    const HvpRegisters *registers, guint count, guint64 *pages_left,
			    bool *ret_agrees, GError **error) G_GNUC_WARN_UNUSED_RESULT;
