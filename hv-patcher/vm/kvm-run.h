/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The page that KVM shares with a VMM for each vCPU (struct kvm_run), used through the
 * VMM's own mapping: when `kvm_valid_regs` asks for them, KVM leaves the registers there on
 * every exit; with `kvm_dirty_regs` set it takes them from there on the next entry
 * ("synchronized registers", Documentation/virt/kvm/api.rst).
 *
 * A bit that this KVM does not know makes KVM_RUN fail and the guest is lost: check first.
 * A value found there belongs to the VMM: ours is OR-ed in, and taken out again.
 *
 *   arm:     rip = marker, then valid |= REGS | SREGS | EVENTS     (threads run)
 *   exit:    KVM overwrites rip with the real one
 *   take:    rip is the marker: nothing was left                   (threads stand)
 *   disarm:  valid = what was found
 *
 * A try that failed is followed by another arm, without a disarm in between. A page that has had
 * an exit since it was armed is not marked again: it holds those of the last one at all times.
 */
#pragma once

#include "base/registers.h"
#include "vm/kvm-process.h"

typedef enum {
	HVP_KVM_RUN_STALE,  /* no exit since arming */
	HVP_KVM_RUN_FRESH,  /* these are the registers of the last exit */
	HVP_KVM_RUN_SHARED, /* so, if it stands at an exit: the VMM, or a try before, asked for them
			     */
	HVP_KVM_RUN_TAKEN,  /* the VMM has registers of its own there: not to be touched */
} HvpKvmRunState;

typedef struct {
	const HvpKvmProcess *process; /* borrowed */
	bool armed[HVP_KVM_MAX_VCPUS];
	bool known[HVP_KVM_MAX_VCPUS];	  /* since then it has exited; the caller may clear it */
	guint64 found[HVP_KVM_MAX_VCPUS]; /* before it was armed */
	HvpKvmRunState states[HVP_KVM_MAX_VCPUS];
	/*
	 * No event is half way into the guest: KVM injects it on the next entry, whatever the
	 * registers are by then, and with interrupts off that entry fails. And its VMM has not
	 * called it out, who may reset it, or send it elsewhere, before the next entry.
	 */
	bool settled[HVP_KVM_MAX_VCPUS];
} HvpKvmRun;

/* Asks /dev/kvm whether registers can be left there at all. UNSUPPORTED, PERMISSION. */
bool hvp_kvm_run_check(GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Arms the pages of all vCPUs, or, of those not known, marks them again. VM_GONE; BUSY: one is
 * not mapped any more.
 */
bool hvp_kvm_run_arm(HvpKvmRun *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Tells in `states`, `settled` and @ret_registers (kernel_gs_base is not told and 0) what the
 * armed pages hold. VM_GONE, BUSY likewise.
 */
bool hvp_kvm_run_take(HvpKvmRun *self, HvpRegisters *ret_registers,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* All pages, threads stopped or not. VM_GONE. */
bool hvp_kvm_run_disarm(HvpKvmRun *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Has KVM take the general registers, RIP and RFLAGS of @registers when vCPU @index enters the
 * guest the next time. Its thread stands.
 */
bool hvp_kvm_run_put(HvpKvmRun *self, guint index, const HvpRegisters *registers,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;
