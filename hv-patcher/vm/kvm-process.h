/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a process that holds KVM vCPUs shows of them in /proc, whatever program it is: its
 * descriptors "kvm-vcpu:N" (N is the APIC id), where each one's shared page (struct kvm_run,
 * file offset 0; the dirty ring lies further on) is mapped, which thread runs which. QEMU keeps
 * the descriptor of a vCPU that was unplugged, without the page, and takes it again for the next
 * one that is plugged in.
 *
 *   /proc/PID/fd/F -> anon_inode:kvm-vcpu:N
 *   /proc/PID/maps:  start-end rw-s 00000000 ... anon_inode:kvm-vcpu:N
 *   /proc/PID/task/T/syscall:  16 F 0xae80 (ioctl of F, KVM_RUN) .. .. .. .. SP PC, or "running"
 */
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include "base/address.h"
#include "base/error.h"

#define HVP_KVM_MAX_VCPUS 512

typedef struct {
	guint32 id;
	int fd;		 /* in that process */
	HvpHva run;	 /* its struct kvm_run there */
	pid_t thread_id; /* that runs it; 0: not known */
} HvpKvmVcpu;

typedef struct {
	pid_t pid;
	int fd_folder; /* /proc/PID/fd */
	guint count;
	guint parked; /* behind those: mapped by nobody, so that nobody runs them */
	HvpKvmVcpu vcpus[HVP_KVM_MAX_VCPUS]; /* ascending by id */
} HvpKvmProcess;

/*
 * Lists the vCPUs of @pid; threads are not known yet. NOT_FOUND: it has none. UNSUPPORTED: more
 * than one VM, too many vCPUs, or an encrypted guest. PERMISSION, VM_GONE. Close it in any case.
 */
bool hvp_kvm_process_open(HvpKvmProcess *self, pid_t pid, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void hvp_kvm_process_close(HvpKvmProcess *self);

/* Whether the process still has memory: the first thing that goes when it ends. */
bool hvp_kvm_process_has_memory(const HvpKvmProcess *self);

/* Whether a thread that runs a vCPU has ended. */
bool hvp_kvm_process_lost_thread(const HvpKvmProcess *self);

/*
 * Lists the descriptors again: BUSY where a vCPU came or went. Does not allocate, may be called
 * while its threads stand.
 */
bool hvp_kvm_process_check(const HvpKvmProcess *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The vCPU whose KVM_RUN a thread with @registers was stopped in, or -1. */
gint hvp_kvm_process_find_run(const HvpKvmProcess *self, const struct user_regs_struct *registers);

/*
 * What thread @thread_id says of itself without being stopped. *@ret_index: the vCPU that
 * it runs, or -1; *@ret_running: it is on a CPU and does not tell.
 */
bool hvp_kvm_process_ask_thread(const HvpKvmProcess *self, pid_t thread_id, gint *ret_index,
				bool *ret_running) G_GNUC_WARN_UNUSED_RESULT;
