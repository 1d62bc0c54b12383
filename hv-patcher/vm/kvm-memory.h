/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory by the addresses that it has in the VMM, for a time in which the VMM's
 * threads stand: a page is touched only where /proc/PID/pagemap shows it present, as bringing
 * one in may need just those threads (userfaultfd), a disk, or memory that is to be allocated.
 * Allocates nothing but by `new`.
 */
#pragma once

#include <sys/types.h>

#include "mem/physical.h"
#include "vm/ram.h"

/* Memory of @pid laid out as @ranges (ascending, disjoint; copied). PERMISSION, VM_GONE. */
HvpPhysical *hvp_kvm_memory_new(pid_t pid, const HvpRamRange *ranges, gsize count, GError **error);

/*
 * Before the vCPUs are stopped: fetches the pages that were not present when they stood (those of a
 * function that nobody has called for long need not be), which may take its time.
 */
void hvp_kvm_memory_prepare(HvpPhysical *self);

/* All or nothing where FAULT is told before; a failure on the way is FAULT or VM_GONE. */
bool hvp_kvm_memory_write(HvpPhysical *self, HvpGpa gpa, const void *bytes, gsize length_bytes,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;
