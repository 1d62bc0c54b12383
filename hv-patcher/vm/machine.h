/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One running VM: its process, its vCPUs, its RAM layout and a reader of its memory, found
 * through its monitor, or without one, by the process alone. Asks only; it never
 * stops, resumes or changes the VM (that is the keeper).
 *
 * By the monitor: QEMU's pid is the thread group of its vCPU threads, as query-cpus-fast names
 * them; the peer credentials of the socket name whoever called listen(). Identity is
 * (pid, start time), so that a reused pid is noticed.
 */
#pragma once

#include <sys/types.h>

#include "base/registers.h"
#include "mem/physical.h"
#include "vm/monitor.h"
#include "vm/ram.h"

/* Label of the character device through which the keeper speaks to the gdb stub. */
#define HVP_MACHINE_GDB_LABEL "hvpatch-gdb"

#define HVP_MACHINE_MAX_VCPUS 512

typedef struct HvpMachine HvpMachine;

typedef enum {
	HVP_ACCELERATOR_TCG,
	HVP_ACCELERATOR_KVM,
} HvpAccelerator;

/*
 * Connects to @monitor (taken) and asks for all of the above; blocks until @deadline.
 * Errors of hvp_monitor_connect, hvp_qemu_ram_query and hvp_process_memory_new; UNSUPPORTED:
 * not x86_64, or too many vCPUs; NOT_FOUND: its process is not visible from here.
 */
HvpMachine *hvp_machine_open_monitor(HvpMonitor *monitor, HvpDeadline deadline, GError **error);

/* The same with the QMP socket at @qmp_path. */
HvpMachine *hvp_machine_open(const char *qmp_path, HvpDeadline deadline, GError **error);

/*
 * The VM of process @pid, whatever program it is, which has vCPUs of KVM; nobody is asked. Its
 * RAM is not known before hvp_machine_find_ram. Errors of hvp_kvm_process_open; VM_GONE.
 */
HvpMachine *hvp_machine_open_process(pid_t pid, GError **error);

/*
 * Of a machine by its process: finds its RAM and makes its reader. @registers[@count] are its
 * vCPUs', of a moment ago. Errors of hvp_ram_guess: nothing is changed then, try again.
 */
bool hvp_machine_find_ram(HvpMachine *self, const HvpRegisters *registers, guint count,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Gives a machine that was found by its process its @monitor (taken). CONFLICT: it is another
 * process's. Errors of hvp_machine_open_monitor; it is without one then, as before.
 */
bool hvp_machine_add_monitor(HvpMachine *self, HvpMonitor *monitor, HvpDeadline deadline,
			     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Disconnects; NULL is fine. The VM is as it was. */
void hvp_machine_free(HvpMachine *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpMachine, hvp_machine_free)

/* Whether it was found through its monitor. */
bool hvp_machine_has_monitor(const HvpMachine *self);

/*
 * Connects to the monitor again, if there is one, after its connection was given away and closed.
 * VM_GONE when another process answers there.
 */
bool hvp_machine_reconnect(HvpMachine *self, HvpDeadline deadline, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/* Borrowed; usable until hvp_machine_free, also after hvp_qmp_steal_fd (then errors); or NULL. */
HvpQmp *hvp_machine_get_qmp(HvpMachine *self);
/* Borrowed; NULL as long as RAM is not found. */
HvpPhysical *hvp_machine_get_physical(HvpMachine *self);
const HvpRam *hvp_machine_get_ram(const HvpMachine *self);

pid_t hvp_machine_get_pid(const HvpMachine *self);
/* Clock ticks after boot, field 22 of /proc/PID/stat. */
guint64 hvp_machine_get_start_time(const HvpMachine *self);
/* QEMU's version, such as "7.2.22"; borrowed; NULL without a monitor. */
const char *hvp_machine_get_version(const HvpMachine *self);
HvpAccelerator hvp_machine_get_accelerator(const HvpMachine *self);
/* "kvm" or "tcg"; static. */
const char *hvp_machine_get_accelerator_name(const HvpMachine *self);

guint hvp_machine_get_vcpu_count(const HvpMachine *self);
/*
 * Of vCPU @index (below the count; ascending by QEMU's cpu-index): its thread and cpu-index.
 * Without a monitor 0 and the APIC id.
 */
pid_t hvp_machine_get_vcpu_thread_id(const HvpMachine *self, guint index);
guint hvp_machine_get_vcpu_cpu_index(const HvpMachine *self, guint index);

/* The run state when it was opened, without a monitor running; hvp_qmp_query_status asks again.
 * Borrowed. */
bool hvp_machine_was_running(const HvpMachine *self);
const char *hvp_machine_get_status(const HvpMachine *self);

/* Whether QEMU is still the process that it was when it was opened. */
bool hvp_machine_same_process(const HvpMachine *self);

/*
 * Reads the registers of all vCPUs through the monitor while the VM runs: each a
 * snapshot of some moment, under TCG of the general registers not even that;
 * control registers, IDT and segment bases are good. @count must be the number of
 * vCPUs (INVALID_ARGUMENT). kernel_gs_base is not told and 0. Blocks up to 5 s. UNSUPPORTED
 * without a monitor.
 */
bool hvp_machine_read_registers(HvpMachine *self, HvpRegisters *ret_registers, guint count,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Parses the text of `info registers -a`: one block "CPU#N" for each of the @count
 * ascending @cpu_indices, in any order. BAD_DATA: a field or block missing,
 * twice, foreign or garbled; nothing is then written.
 */
bool hvp_machine_parse_registers(const char *text, const guint *cpu_indices,
				 HvpRegisters *ret_registers, guint count,
				 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Looks for a gdb server: CONFLICT naming it when the owner has one (-s, -gdb).
 * *@ret_leftover: a dead keeper of ours left its own (HVP_MACHINE_GDB_LABEL). Without a monitor
 * neither is seen, and nothing of ours is there.
 */
bool hvp_machine_find_debugger(HvpMachine *self, HvpDeadline deadline, bool *ret_leftover,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Looks for a job that copies RAM, under which a host write may be lost: migration,
 * dump, snapshot, a userfaultfd in QEMU. *@ret_job: its name with its state (such as
 * "migration (active)"), owned by the caller, or NULL when there is none. A state
 * that is not known to be at rest counts as a job. Without a monitor only the userfaultfd is
 * seen: its owner is to be asked for the rest.
 */
bool hvp_machine_find_ram_job(HvpMachine *self, HvpDeadline deadline, char **ret_job,
			      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * All that QEMU tells of such jobs, ended ones as well, as text that is another one when any has
 * come, gone or got on since; the caller's.
 */
char *hvp_machine_describe_ram_jobs(HvpMachine *self, HvpDeadline deadline, GError **error);

/* Which process QEMU is that answers on @qmp. NOT_FOUND: it is not visible from here. */
bool hvp_machine_ask_process(HvpQmp *qmp, HvpDeadline deadline, pid_t *ret_pid,
			     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The process that thread @thread_id belongs to. NOT_FOUND: it is not visible from here. */
bool hvp_machine_read_thread_group(pid_t thread_id, pid_t *ret_pid,
				   GError **error) G_GNUC_WARN_UNUSED_RESULT;
