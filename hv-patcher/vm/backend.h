/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the keeper gets at a VM's vCPUs and memory, whatever runs the VM: QEMU's gdb stub
 * (gdb-backend.h) or the threads of a process that holds KVM vCPUs (kvm.h). One
 * client at a time; nothing here allocates but errors.
 *
 * A backend that failed stays failed: every later call returns that error again.
 * FAULT (one request could not be done, such as memory that is not there), BUSY and
 * TIMED_OUT do not fail it.
 */
#pragma once

#include "base/address.h"
#include "base/deadline.h"
#include "base/error.h"
#include "base/registers.h"

typedef struct HvpBackend HvpBackend;

typedef enum {
	HVP_BACKEND_TRAP,   /* a breakpoint or a step */
	HVP_BACKEND_PAUSED, /* we asked for it, or somebody's "stop" */
	HVP_BACKEND_OTHER,  /* I/O error, shutdown, watchdog, ...: somebody else's stop */
	HVP_BACKEND_EXITED, /* the VM ends */
} HvpBackendStopKind;

typedef struct {
	HvpBackendStopKind kind;
	guint signal;
	gint vcpu_index; /* which vCPU it was, or -1 where that is not told */
	gint64 asked_usec; /* when the first vCPU was asked to; 0: nobody asked */
} HvpBackendStop;

/* Every function as described below at hvp_backend_*; those that a backend has no use for: NULL. */
typedef struct {
	const char *name;
	bool runs_when_let_go;
	void (*free)(HvpBackend *self);
	bool (*has_failed)(const HvpBackend *self);
	guint (*get_vcpu_count)(const HvpBackend *self);
	int (*get_fd)(const HvpBackend *self);
	bool (*has_input)(const HvpBackend *self);
	bool (*stop)(HvpBackend *self, HvpDeadline deadline, HvpBackendStop *ret_stop,
		     GError **error);
	bool (*wait_stop)(HvpBackend *self, HvpDeadline deadline, HvpBackendStop *ret_stop,
			  GError **error);
	bool (*check_stopped)(HvpBackend *self, GError **error);
	bool (*resume)(HvpBackend *self, GError **error);
	bool (*read_registers)(HvpBackend *self, guint vcpu_index, HvpRegisters *ret_registers,
			       GError **error);
	bool (*can_write_registers)(const HvpBackend *self, guint vcpu_index);
	bool (*write_registers)(HvpBackend *self, guint vcpu_index, const HvpRegisters *from,
				const HvpRegisters *to, GError **error);
	bool (*read_physical)(HvpBackend *self, HvpGpa gpa, void *ret_bytes, gsize length_bytes,
			      GError **error);
	bool (*write_physical)(HvpBackend *self, HvpGpa gpa, const void *bytes,
			       gsize length_bytes, GError **error);
	bool (*read_virtual)(HvpBackend *self, guint vcpu_index, HvpGva gva, void *ret_bytes,
			     gsize length_bytes, GError **error);
	bool (*write_virtual)(HvpBackend *self, guint vcpu_index, HvpGva gva, const void *bytes,
			      gsize length_bytes, GError **error);
	/* All three or none. */
	bool (*insert_breakpoint)(HvpBackend *self, HvpGva pc, GError **error);
	bool (*remove_breakpoint)(HvpBackend *self, HvpGva pc, GError **error);
	bool (*step)(HvpBackend *self, guint vcpu_index, HvpBackendStop *ret_stop, GError **error);
	bool (*needs_restore)(const HvpBackend *self);
	bool (*restore)(HvpBackend *self, GError **error);
} HvpBackendOps;

/* First member of every backend's own struct. */
struct HvpBackend {
	const HvpBackendOps *ops;
};

/* Lets go of the VM, in whatever state it is; NULL is fine. */
void hvp_backend_free(HvpBackend *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpBackend, hvp_backend_free)

/* "gdbstub" or "kvm"; static. */
const char *hvp_backend_get_name(const HvpBackend *self);

/*
 * Whether the VM runs again by itself when whoever stopped it dies; else it stays stopped. Then
 * write_registers is all or nothing, and whoever was given registers is on his way.
 */
bool hvp_backend_runs_when_let_go(const HvpBackend *self);

/* Whether nothing will work any more. */
bool hvp_backend_has_failed(const HvpBackend *self);

/* As of the last stop. */
guint hvp_backend_get_vcpu_count(const HvpBackend *self);

/*
 * To poll for POLLIN, unless has_input: then wait_stop has something to take, or, while stopped,
 * check_stopped. Another one while stopped than while running.
 */
int hvp_backend_get_fd(const HvpBackend *self);
bool hvp_backend_has_input(const HvpBackend *self);

/*
 * While running: stops all vCPUs and waits until they stand. BUSY: some
 * vCPU could not be stopped where its registers can be told, and all run again.
 */
bool hvp_backend_stop(HvpBackend *self, HvpDeadline deadline, HvpBackendStop *ret_stop,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* While running: takes a stop that was not asked for, or VM_GONE. */
bool hvp_backend_wait_stop(HvpBackend *self, HvpDeadline deadline, HvpBackendStop *ret_stop,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* While stopped, its descriptor has something to say: CONFLICT or VM_GONE if it stands no more. */
bool hvp_backend_check_stopped(HvpBackend *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Resumes all vCPUs. */
bool hvp_backend_resume(HvpBackend *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* While stopped. */
bool hvp_backend_read_registers(HvpBackend *self, guint vcpu_index, HvpRegisters *ret_registers,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* While stopped: whether registers can be written where @vcpu_index stands, until it runs again. */
bool hvp_backend_can_write_registers(const HvpBackend *self, guint vcpu_index);

/*
 * While stopped: writes the general registers, RFLAGS and RIP of @to; @from is what the
 * vCPU has now. Only for a vCPU that stands at a trap of ours. BUSY: not possible where it stands.
 */
bool hvp_backend_write_registers(HvpBackend *self, guint vcpu_index, const HvpRegisters *from,
				 const HvpRegisters *to, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* While stopped: physical memory. Whether a write arrived is for the caller to read back. */
bool hvp_backend_read_physical(HvpBackend *self, HvpGpa gpa, void *ret_bytes, gsize length_bytes,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_backend_write_physical(HvpBackend *self, HvpGpa gpa, const void *bytes,
				gsize length_bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* While stopped: at most 1984 bytes as @vcpu_index sees them. FAULT: not mapped. */
bool hvp_backend_read_virtual(HvpBackend *self, guint vcpu_index, HvpGva gva, void *ret_bytes,
			      gsize length_bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The same for writing what is no code. */
bool hvp_backend_write_virtual(HvpBackend *self, guint vcpu_index, HvpGva gva, const void *bytes,
			       gsize length_bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether there are breakpoints and single steps; else those functions are UNSUPPORTED. */
bool hvp_backend_can_break(const HvpBackend *self);

/* While stopped: a breakpoint on all vCPUs, at a virtual address of whatever address space. */
bool hvp_backend_insert_breakpoint(HvpBackend *self, HvpGva pc, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
bool hvp_backend_remove_breakpoint(HvpBackend *self, HvpGva pc, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/*
 * While stopped: lets @vcpu_index execute one instruction while all others stand. The
 * caller has lifted the breakpoint there.
 */
bool hvp_backend_step(HvpBackend *self, guint vcpu_index, HvpBackendStop *ret_stop,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Whether something else than breakpoints is to be put back before leaving, while stopped; and
 * does it.
 */
bool hvp_backend_needs_restore(const HvpBackend *self);
bool hvp_backend_restore(HvpBackend *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;
