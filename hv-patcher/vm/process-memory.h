/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest-physical memory read from the process that runs the VM, without asking
 * it and without changing it: a page that the guest never touched reads as zeros
 * and is not allocated. How depends on the mapping that a range lies in:
 *
 *   private anonymous        process_vm_readv (the kernel's shared zero page)
 *   shared, of a file        pread of the file (memfd, tmpfs, hugetlbfs): a hole
 *                            stays one, whereas reading it mapped would fill it
 *   private, of a file       pages that /proc/PID/pagemap shows present or swapped:
 *                            process_vm_readv; all others: pread of the file
 *
 * A punched hole or a truncated file is a short read, never a SIGBUS. Reads only;
 * for what may write see the keeper. Not safe for use by several threads at once.
 */
#pragma once

#include <sys/types.h>

#include "mem/physical.h"
#include "vm/ram.h"

/*
 * A reader of the memory of process @pid with the layout @ram (copied). Opens all
 * it needs now. PERMISSION: reading that process is forbidden (the message names
 * Yama where it is the likely cause). VM_GONE: no such process. BAD_DATA: a range
 * is not mapped there.
 *
 * read: no allocation, no wait for the guest, so it may be called while paused;
 * one system call for up to 512 pieces of private memory (one for each piece,
 * where a helper has opened it), one for each piece of shared memory. VM_GONE once
 * the process has ended, then no piece is ok.
 */
HvpPhysical *hvp_process_memory_new(pid_t pid, const HvpRam *ram, GError **error);

/*
 * Opens the file that @pid has mapped at @start, for reading; *@ret_fd is the caller's, -1: it is a
 * device, which is not opened. NOT_FOUND: no file is mapped there. PERMISSION.
 */
bool hvp_process_memory_open_mapping(pid_t pid, guint64 start, int *ret_fd,
				     GError **error) G_GNUC_WARN_UNUSED_RESULT;
