/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the domains of libvirt, and VMs named otherwise, become targets: by their process under KVM,
 * so that libvirt marks nothing, else through the monitor. For all front ends.
 */
#pragma once

#include "engine/target.h"
#include "vm/libvirt.h"

typedef struct {
	HvpTargetBackend backend;
	HvpKeeperTrapKind trap_kind;
	const char *oracle_path; /* the socket of QEMU's plugin of ours; NULL: use none */
	bool may_use_monitor;	 /* a domain's, where it takes that */
	bool is_changing;	 /* not while somebody else moves or copies the VM's RAM */
} HvpOpenWay;

/*
 * What @way says of @target, which is taken and may be NULL: then @error is set already.
 * UNSUPPORTED: the backend is not for this VM.
 */
HvpTarget *hvp_open_set_up(const HvpOpenWay *way, HvpTarget *target, GError **error);

/*
 * Attaches to @domain, which runs, of @libvirt: one under KVM without its monitor, unless that is
 * asked for (the backend gdbstub), or allowed and of use. Errors of vm/libvirt.h; BUSY:
 * it is to be changed, and libvirt moves its RAM.
 */
HvpTarget *hvp_open_domain(const HvpOpenWay *way, const HvpLibvirt *libvirt,
			   const HvpLibvirtDomain *domain, GError **error);

/* *@ret_pid is its process if that has vCPUs of KVM, else 0: it is emulated. */
bool hvp_open_find_kvm(const HvpLibvirtDomain *domain, pid_t *ret_pid,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Whether it runs, so that it can be looked at by its process: the threads of one that is paused
 * are not in the guest, and tell nothing of it. CONFLICT.
 */
bool hvp_open_check_running(const HvpLibvirtDomain *domain,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The socket of the agent's port that @domain has; NULL: it has none. The caller's. */
char *hvp_open_find_agent(const HvpLibvirtDomain *domain);

/* UNSUPPORTED: there is nobody who tells what is done with the VM's RAM. Always false. */
bool hvp_open_refuse_ownerless(GError **error);

/*
 * Whether somebody tells what is done with the RAM of @target while it is changed. UNSUPPORTED: a
 * VM that was named by its process alone.
 */
bool hvp_open_check_owner(const HvpTarget *target, GError **error) G_GNUC_WARN_UNUSED_RESULT;
