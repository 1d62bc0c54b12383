/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The RAM layout of a VM without asking anybody: of the few that the mappings of its process
 * allow (ram-blocks.h) the one that the guest's page tables agree with (ram-evidence.h). For
 * every VMM that has its guest's RAM mapped, and a Linux guest.
 *
 * Not told: RAM that was plugged in, a split that no VMM has by default (QEMU's
 * max-ram-below-4g), a guest that was told to use less than its RAM (mem=).
 */
#pragma once

#include <sys/types.h>

#include "base/registers.h"
#include "vm/ram.h"

/*
 * The layout of process @pid, whose vCPUs have @registers now or had them a moment ago. Reads
 * only, and no page that the process does not hold. UNSUPPORTED: no layout agrees with the
 * guest; AMBIGUOUS: more than one does. Errors of hvp_process_memory_new.
 */
HvpRam *hvp_ram_guess(pid_t pid, const HvpRegisters *registers, guint count, GError **error);
