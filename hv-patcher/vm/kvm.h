/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vCPUs of whatever process holds KVM vCPUs as a backend: for each stop its vCPU threads are
 * seized, interrupted, waited for, and let go again (threads.h); their registers are in the
 * page that KVM shares with the process (kvm-run.h). Nothing of it is seen by the VMM, its
 * monitor or its manager. There are no breakpoints.
 * While it is attached no CPU of the host sleeps deeply (wakeups.h).
 *
 * vCPUs are numbered by ascending APIC id. Registers are written only to one whose KVM_RUN
 * returned -EINTR with no interrupt half way into it, else BUSY, and taken over when it runs again.
 */
#pragma once

#include "vm/backend.h"
#include "vm/ram.h"

/* Where a VM is. */
typedef struct {
	pid_t pid;
	guint64 start_time;	   /* of the process, see hvp_machine_get_start_time */
	const HvpRamRange *ranges; /* ascending, disjoint */
	gsize range_count;
} HvpKvmPlace;

/*
 * Finds the vCPUs of @place and which thread runs which, for which running threads are stopped
 * once for a moment. BUSY: one is in no thread until @deadline (the VM is paused, or halts
 * outside of KVM). Errors of hvp_kvm_process_open, hvp_kvm_run_check and hvp_threads_seize;
 * VM_GONE.
 */
HvpBackend *hvp_kvm_attach(const HvpKvmPlace *place, HvpDeadline deadline, GError **error);
