/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registers of a VM of which nothing else is known yet: stops it once for a moment, through
 * the threads that run its KVM vCPUs. Its memory is neither needed nor touched.
 */
#pragma once

#include "base/registers.h"
#include "vm/machine.h"

/*
 * The registers of all vCPUs of @machine, which was found by its process: the caller's, of
 * hvp_machine_get_vcpu_count. BUSY: the VM is paused, another hvpatch is at work on it (@folder
 * and errors as of hvp_journal_open), or it could not be stopped for 5 s. Errors of hvp_kvm_attach.
 */
HvpRegisters *hvp_glance_read_registers(HvpMachine *machine, const char *folder, GError **error);
