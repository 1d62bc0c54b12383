/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of the gdb stub of a QEMU system emulator: stops and resumes all vCPUs,
 * reads and writes their registers, breakpoints, single steps, physical memory.
 *
 *   new --handshake--> stopped --continue--> running --(interrupt | wait_stop)--> stopped
 *                      stopped --step--> stopped
 *
 * Connecting stops the VM. In `stopped` every function is one or a few requests
 * with an answer each; while running only interrupt and wait_stop may be called.
 *
 * What QEMU's stub does (gdbstub.c, 7.2): any byte that it gets while the VM runs
 * stops the VM; so a stop reply where an answer was due means that somebody else
 * had resumed it (CONFLICT). A breakpoint hit and our interrupt that cross are one
 * stop reply. Resuming makes a vCPU that stands at a breakpoint hit it again at
 * once. `D` is never sent: it would resume a VM that its owner paused. A
 * client's death leaves its breakpoints; `?` clears those of one vCPU.
 *
 * Any failure of an exchange leaves the connection failed: every later call
 * returns that error again. FAULT (the stub refused one request, such as memory
 * that is not mapped) does not. Every request has the timeout given to `new`.
 * Nothing is allocated but by new, handshake and learn_registers (and for errors).
 */
#pragma once

#include "base/address.h"
#include "base/deadline.h"
#include "base/error.h"
#include "base/registers.h"

#define HVP_GDBSTUB_MAX_VCPUS 512

/* Most bytes of memory in one request: QEMU takes 2048 and its packet 4096. */
#define HVP_GDBSTUB_CHUNK_BYTES 1984

typedef struct HvpGdbstub HvpGdbstub;

typedef enum {
	HVP_GDBSTUB_TRAP,   /* breakpoint or step (SIGTRAP) */
	HVP_GDBSTUB_PAUSED, /* our interrupt or somebody's "stop" (SIGINT) */
	HVP_GDBSTUB_OTHER,  /* I/O error, shutdown, watchdog, ...: somebody else's stop */
	HVP_GDBSTUB_EXITED, /* QEMU ends */
} HvpGdbstubStopKind;

typedef struct {
	HvpGdbstubStopKind kind;
	guint signal;
	gint vcpu_index; /* which vCPU it was, or -1 where the stub does not tell */
} HvpGdbstubStop;

/* A client on @fd, a stream socket (taken). Never NULL. */
HvpGdbstub *hvp_gdbstub_new(int fd, gint64 request_timeout_usec);
/* Closes the connection; NULL is fine. The VM keeps its run state. */
void hvp_gdbstub_free(HvpGdbstub *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpGdbstub, hvp_gdbstub_free)

/* Whether an exchange failed, so that nothing will work any more. */
bool hvp_gdbstub_has_failed(const HvpGdbstub *self);

/* To poll for POLLIN, unless has_input (bytes that were read already). */
int hvp_gdbstub_get_fd(const HvpGdbstub *self);
bool hvp_gdbstub_has_input(const HvpGdbstub *self);

/*
 * Right after connecting, the VM stopped: negotiates, clears the breakpoints of a
 * client that died, lists the vCPUs, fetches the target description. UNSUPPORTED:
 * the stub lacks something.
 */
bool hvp_gdbstub_handshake(HvpGdbstub *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Reads the description that handshake fetched, without asking the stub, so that
 * the VM may run again meanwhile. Needed before registers. Errors of hvp_gdb_target_parse.
 */
bool hvp_gdbstub_learn_registers(HvpGdbstub *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The vCPUs, in the order of the monitor's query-cpus-fast. */
guint hvp_gdbstub_get_vcpu_count(const HvpGdbstub *self);

/* While running: stops all vCPUs, and waits until they stand. */
bool hvp_gdbstub_interrupt(HvpGdbstub *self, HvpDeadline deadline, HvpGdbstubStop *ret_stop,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* While running: waits for a stop. TIMED_OUT does not fail the connection. */
bool hvp_gdbstub_wait_stop(HvpGdbstub *self, HvpDeadline deadline, HvpGdbstubStop *ret_stop,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Resumes all vCPUs; returns when the stub has taken the request. */
bool hvp_gdbstub_continue(HvpGdbstub *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Lets @vcpu_index execute one instruction while all others stand. The caller has
 * lifted the breakpoint there. An instruction that does not end (a halt) is
 * interrupted after the request timeout; the registers tell.
 */
bool hvp_gdbstub_step(HvpGdbstub *self, guint vcpu_index, HvpGdbstubStop *ret_stop,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

bool hvp_gdbstub_read_registers(HvpGdbstub *self, guint vcpu_index, HvpRegisters *ret_registers,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Writes the general registers, RFLAGS and RIP of @to that differ from @from, what
 * the vCPU has now; RSP last but one, RIP last.
 */
bool hvp_gdbstub_write_registers(HvpGdbstub *self, guint vcpu_index, const HvpRegisters *from,
				 const HvpRegisters *to, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* A breakpoint on all vCPUs, at a virtual address of whatever address space. */
bool hvp_gdbstub_insert_breakpoint(HvpGdbstub *self, HvpGva pc, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
bool hvp_gdbstub_remove_breakpoint(HvpGdbstub *self, HvpGva pc, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/* Physical memory, in chunks. The stub does not tell where there is no RAM: read back. */
bool hvp_gdbstub_read_physical(HvpGdbstub *self, HvpGpa gpa, void *ret_bytes, gsize length_bytes,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_gdbstub_write_physical(HvpGdbstub *self, HvpGpa gpa, const void *bytes,
				gsize length_bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* At most HVP_GDBSTUB_CHUNK_BYTES as @vcpu_index sees them. FAULT: not mapped. */
bool hvp_gdbstub_read_virtual(HvpGdbstub *self, guint vcpu_index, HvpGva gva, void *ret_bytes,
			      gsize length_bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;

bool hvp_gdbstub_write_virtual(HvpGdbstub *self, guint vcpu_index, HvpGva gva, const void *bytes,
			       gsize length_bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Makes memory requests virtual again; the stub would keep the physical mode for
 * its next client. Call before leaving.
 */
bool hvp_gdbstub_leave_physical_mode(HvpGdbstub *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_gdbstub_is_in_physical_mode(const HvpGdbstub *self);
