/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a command works on: a running VM or a dump, the kernel found in it, its
 * modules and the unwinder. Reading only; never stops the VM.
 */
#pragma once

#include "guest/policy.h"
#include "guest/unwinder.h"
#include "keeper/keeper.h"
#include "vm/core.h"
#include "vm/machine.h"

typedef enum {
	HVP_TARGET_BACKEND_AUTO, /* by what the VM is */
	HVP_TARGET_BACKEND_GDBSTUB,
	HVP_TARGET_BACKEND_KVM,
} HvpTargetBackend;

/* "auto", ...: their names, then NULL. */
extern const char *const hvp_target_backend_names[];

/* Who moves and copies the VM's RAM. */
typedef struct {
	/* BUSY, naming it, where a job does that now. NULL, as the others: there is nobody to ask.
	 */
	bool (*check_no_job)(gpointer data, GError **error);
	/* As hvp_machine_describe_ram_jobs. */
	char *(*describe_jobs)(gpointer data, GError **error);
	/* Where the VM's monitor is, for what cannot be done without; the caller's, never NULL. */
	HvpMonitor *(*find_monitor)(gpointer data);
	/* As hvp_target_find_agent; NULL: it has none. The caller's. */
	char *(*find_agent)(gpointer data);
	const char *taint; /* what he marks the VM with when that is used; static */
	gpointer data;
	GDestroyNotify free_data;
} HvpTargetOwner;

typedef struct {
	HvpMachine *machine;	 /* NULL for a dump */
	bool by_kvm;		 /* stopped through its vCPU threads, else by the gdb stub */
	const char *backend_why; /* for people; static */
	HvpCore *core;		 /* NULL for a VM */
	char *name;		 /* the domain's, or how the user named it */
	const char *taint;	 /* what libvirt marks the VM with; NULL: nothing; static */
	HvpTargetOwner owner;	 /* to be asked for jobs that no monitor tells of */
	char *agent_path;	 /* the socket of the guest's agent; NULL: none is known */
	char *oracle_path; /* the socket of QEMU's plugin of ours; NULL: it has none */
	/* The plugin watches functions of modules also after an operation: nobody unloads them. */
	bool keeps_watching;
	char *journal_folder;	 /* NULL: where all journals are */
	HvpPhysical *physical;	 /* borrowed from machine or core */
	HvpRegisters *registers; /* [vcpu_count], as they were at attach */
	guint vcpu_count;
	HvpKernel *kernel;
	HvpModules *modules;
	HvpUnwinder *unwinder; /* NULL until hvp_target_get_unwinder */
	gint64 connect_usec;   /* finding the VM and its RAM */
	HvpKeeperTrapKind trap_kind; /* how guest threads are caught */
} HvpTarget;

/* Attaches to the VM that @monitor (taken) leads to, as @name. Blocks up to 10 s. */
HvpTarget *hvp_target_open_monitor(HvpMonitor *monitor, const char *name, GError **error);

/*
 * Attaches to the VM of process @pid as @name, without a monitor: by its KVM vCPUs, which are
 * stopped for a moment, and by what the guest's page tables say of where its memory lies. Errors
 * of hvp_machine_open_process, hvp_glance_read_registers and hvp_ram_guess.
 */
HvpTarget *hvp_target_open_process(pid_t pid, const char *name, GError **error);

/* The same with the QMP socket at @qmp_path, which is also its name. */
HvpTarget *hvp_target_open_qmp(const char *qmp_path, GError **error);

/*
 * Has the monitor of a VM that was attached to without; nothing where it is there. Its owner marks
 * the VM for that, so it is announced. UNSUPPORTED: nobody knows of one. Errors of
 * hvp_machine_add_monitor.
 */
bool hvp_target_need_monitor(HvpTarget *self, const char *what_for,
			     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Decides by_kvm; nothing for a dump. UNSUPPORTED: the VM has no vCPUs of KVM, or no monitor here
 * that would start QEMU's gdb stub, which every VM of QEMU's has.
 */
bool hvp_target_choose_backend(HvpTarget *self, HvpTargetBackend wanted,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Tells @keeper, which is not attached yet, where the vCPUs of KVM and the guest's memory are. */
bool hvp_target_hand_over(HvpTarget *self, HvpKeeper *keeper,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Sets agent_path: to @path, or, if that is NULL, to what QEMU, or else the VM's owner, tells of
 * its ports, which may be nothing. No failure matters.
 */
void hvp_target_find_agent(HvpTarget *self, const char *path);

/* Opens a dump. */
HvpTarget *hvp_target_open_core(const char *path, GError **error);

void hvp_target_free(HvpTarget *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpTarget, hvp_target_free)

/* The unwinder, its tables loaded on first use. Owned by @self. */
HvpUnwinder *hvp_target_get_unwinder(HvpTarget *self, GError **error);

/* Reads the guest's module list anew. */
bool hvp_target_refresh_modules(HvpTarget *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* "vmlinux" or the module that holds @pc, its function's name and range; false when unknown. */
bool hvp_target_symbolize(HvpTarget *self, HvpGva pc, const char **ret_module,
			  const char **ret_name, HvpGvaRange *ret_range);

/* What each vCPU does by @registers: for people. @ret_task's memory may be gone: false then. */
typedef enum { HVP_VCPU_KERNEL, HVP_VCPU_USER, HVP_VCPU_IDLE, HVP_VCPU_OFF } HvpVcpuState;
const char *hvp_target_vcpu_state_name(HvpVcpuState state);
HvpVcpuState hvp_target_vcpu_state(HvpTarget *self, const HvpRegisters *registers, gint32 *ret_pid,
				   char *ret_comm, gsize comm_bytes);

/* Folder of the kernel cache for this user; owned by the caller; NULL: there is none. */
char *hvp_target_cache_folder(void);
