/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tool's side of the keeper: the small process that alone stops the VM,
 * changes registers and writes guest memory. Each function is one request and
 * one answer over a socket pair; the keeper does nothing on its own while the
 * tool is alive and in time. When the tool's end closes, or a pause outlives its
 * budget, the keeper brings borrowed threads home (see below), puts the old
 * bytes back, resumes, detaches and ends.
 *
 *   attached, running --stop--> stopped --resume--> running
 *   running --wait--> stopped at a trap (or TIMED_OUT, still running)
 *   stopped at a trap --divert--> a guest call is under way --wait--> stopped at
 *        its return trap --come_home--> stopped where it was caught
 *
 * Going home without the tool: the innermost call is waited for (its thread may
 * hold locks, it is never cut short); hooks are answered with their failure
 * value; registers are restored frame by frame; traps are removed; uncommitted
 * writes are undone. Bystanders that hit a trap are stepped over it.
 *
 * Errors: TIMED_OUT and BUSY leave the session usable. VM_GONE, CONFLICT
 * (somebody else resumed, reset or debugged the VM), UNDONE (the keeper rolled
 * back, because a budget passed or a write failed) and INCONSISTENT (rolling
 * back failed too) end it: every later call returns the same error.
 */
#pragma once

#include <sys/types.h>

#include "base/address.h"
#include "base/deadline.h"
#include "base/emulation.h"
#include "base/error.h"
#include "base/registers.h"
#include "vm/kvm.h"

typedef struct HvpKeeper HvpKeeper;

#define HVP_KEEPER_MAX_VCPUS 512
#define HVP_KEEPER_MAX_TRAPS 64
#define HVP_KEEPER_MAX_FRAMES 8
#define HVP_KEEPER_MAX_WRITES 4096
#define HVP_KEEPER_WRITE_BYTES 16
#define HVP_KEEPER_MAX_SPINS 64
#define HVP_KEEPER_SPIN_BYTES 2

/* What a vCPU stop found. `registers` is owned by the stop; clear it. */
typedef struct {
	guint vcpu_count;
	HvpRegisters *registers; /* [vcpu_count], by vCPU index of the monitor */
	gint trapped_vcpu;	 /* the vCPU that stands at a trap, or -1 */
	HvpGva trap;		 /* that trap's address */
	gint64 stop_usec;	 /* from asking until all vCPUs stood still */
	gint64 registers_usec;	 /* reading their registers */
} HvpKeeperStop;

void hvp_keeper_stop_clear(HvpKeeperStop *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HvpKeeperStop, hvp_keeper_stop_clear)

/*
 * A function that the host answers for the borrowed thread: at @pc the thread
 * gets @failure in RAX and goes on behind the call. @call_bytes is the length of
 * the call instruction at @pc, or 0 where @pc is a function's entry (then the
 * return address is popped). Only a thread whose RSP lies in the stack of the
 * innermost frame is answered, all others are stepped over.
 */
typedef struct {
	HvpGva pc;
	guint32 call_bytes;
	guint64 failure;
} HvpKeeperHook;

/* How a trap is made. */
typedef enum {
	HVP_KEEPER_BREAKPOINTS, /* by the VM's debugger: it says who came */
	HVP_KEEPER_SPINS, /* a jump to itself in the guest's text: one looks who is there */
} HvpKeeperTrapKind;

/*
 * Where a spin trap can be: at @pc begins an instruction of at least HVP_KEEPER_SPIN_BYTES, so
 * that nobody ever stands inside what is overwritten. All of it are plain bytes, with zero where
 * there is nothing.
 */
typedef struct {
	HvpGva pc;
	HvpGpa gpa; /* of @pc; all in one page */
	guint8 old_bytes[HVP_KEEPER_SPIN_BYTES];
	HvpEmulation emulation; /* of that instruction: lets bystanders past; or NONE */
} HvpKeeperSpin;

/* Old and new bytes of one place; never crosses a page. */
typedef struct {
	HvpGpa gpa;
	guint32 length_bytes; /* 1..HVP_KEEPER_WRITE_BYTES */
	guint8 old_bytes[HVP_KEEPER_WRITE_BYTES];
	guint8 new_bytes[HVP_KEEPER_WRITE_BYTES];
} HvpKeeperWrite;

/* A thread sent elsewhere: what it takes to know it again and bring it home. */
typedef struct {
	guint32 vcpu_index;	/* where it was caught; it may come back on another */
	guint16 is_aside;	/* 1: no step of the operation waits for this call */
	guint16 is_over;	/* 1: it has returned, its thread is on the way home */
	HvpGva return_pc;	/* trap at which the call is over */
	guint64 return_rsp;	/* RSP of exactly this thread at that moment */
	HvpGvaRange stack;	/* its kernel stack, tells it from bystanders */
	HvpRegisters saved;	/* what it had when it was caught */
} HvpKeeperFrame;

/* Whether it is a call that a step of the operation waits for: no mere move, no call aside. */
static inline bool hvp_keeper_frame_is_step(const HvpKeeperFrame *self)
{
	return self->return_pc.value != 0 && self->is_aside == 0;
}

/*
 * Starts a keeper process and hands it @qmp_fd (the monitor connection, negotiated
 * already; taken over on success; -1: there is none, and hvp_keeper_use_kvm is needed) and
 * @journal_fd (borrowed, append-only). The keeper writes each intrusion there and syncs it
 * before it happens. Without a monitor nobody tells it of a reset: it looks whether
 * the guest is still the one whose registers it has.
 */
HvpKeeper *hvp_keeper_start(int qmp_fd, int journal_fd, GError **error);

/* The keeper's process, for messages and tests. */
pid_t hvp_keeper_get_pid(const HvpKeeper *self);

/*
 * Closes the session: detaches when still attached (as if the tool had died)
 * and waits for the process to end, at most a second. NULL is fine.
 */
void hvp_keeper_free(HvpKeeper *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpKeeper, hvp_keeper_free)

/*
 * Before attach or adopt: not through the monitor and the gdb stub, but by stopping the
 * threads of the process at @place that run its KVM vCPUs. Without ranges memory is out of
 * reach, and registers are all that there is.
 */
bool hvp_keeper_use_kvm(HvpKeeper *self, const HvpKvmPlace *place,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Connects to the VM's vCPUs. CONFLICT when the VM is not running or a
 * debugger of somebody else's is there; PERMISSION when the monitor refuses.
 * The VM runs again afterwards.
 */
bool hvp_keeper_attach(HvpKeeper *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * For recovery: attaches to a VM that a dead keeper left, whatever its run
 * state, takes over its frames, hooks, spin traps and writes, and does what that keeper
 * would have done without its tool: home, undo, resume. When @roll_forward, the
 * writes are verified as done instead of undone. On return the session is
 * attached and the VM runs. Waits for a call under way until @deadline.
 */
bool hvp_keeper_adopt(HvpKeeper *self, const HvpKeeperFrame *frames, gsize frame_count,
		      const HvpKeeperHook *hooks, gsize hook_count, const HvpKeeperSpin *spins,
		      gsize spin_count, const HvpKeeperWrite *writes, gsize write_count,
		      bool roll_forward, HvpDeadline deadline,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Leaves: traps removed, gdb server closed, run state as found. */
bool hvp_keeper_detach(HvpKeeper *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Stops all vCPUs and reads their registers. From now on the tool has
 * @budget_usec until resume; past it the keeper undoes and ends the session.
 */
bool hvp_keeper_stop(HvpKeeper *self, gint64 budget_usec, HvpKeeperStop *ret_stop,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Resumes after stop or wait. @ret_usec (may be NULL): how long resuming took. */
bool hvp_keeper_resume(HvpKeeper *self, gint64 *ret_usec, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/* The kind of traps that this keeper's tool has decided on; breakpoints unless set. */
void hvp_keeper_set_trap_kind(HvpKeeper *self, HvpKeeperTrapKind kind);
HvpKeeperTrapKind hvp_keeper_get_trap_kind(const HvpKeeper *self);

/* BUSY, naming it, where a job moves or copies the VM's RAM of which no monitor tells. */
typedef bool (*HvpKeeperGuard)(gpointer data, GError **error);
void hvp_keeper_set_guard(HvpKeeper *self, HvpKeeperGuard guard, gpointer data);

/*
 * Before traps are planted, while the guest runs: whether they stay in this guest. A spin trap that
 * is copied with its memory is one that nobody removes over there. BUSY, naming the job.
 */
bool hvp_keeper_check_no_job(HvpKeeper *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * From now on traps, hooks and return traps are spin traps, and only at @sites; with none, they
 * are breakpoints again. What is planted must stay in the set. While any is planted and the
 * guest runs, wait is to be called at least every two seconds: whoever comes there stands.
 */
bool hvp_keeper_set_spins(HvpKeeper *self, const HvpKeeperSpin *sites, gsize count,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Replaces the set of traps (breakpoints at @pcs); call while stopped or
 * running (then the VM is stopped for a moment). @count 0 removes all.
 * Traps of hooks and return traps of frames are kept on top of the set.
 */
bool hvp_keeper_set_traps(HvpKeeper *self, const HvpGva *pcs, gsize count, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/* Likewise the set of hooks. */
bool hvp_keeper_set_hooks(HvpKeeper *self, const HvpKeeperHook *hooks, gsize count,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Resumes when stopped, and waits until a vCPU stands at a trap, hook or
 * return trap that is the tool's business: a trap always is; a hook or return
 * trap only for the borrowed thread. TIMED_OUT: the VM is running. The stop's
 * budget is @budget_usec as for stop. With spin traps the VM is stopped now and then to look,
 * and at @deadline.
 */
bool hvp_keeper_wait(HvpKeeper *self, HvpDeadline deadline, gint64 budget_usec,
		     HvpKeeperStop *ret_stop, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Steps @vcpu_index over the trap or hook it stands at; the VM stays stopped. BUSY: it does not
 * get past, or what stands under the spin trap cannot be done for it.
 */
bool hvp_keeper_pass(HvpKeeper *self, guint vcpu_index, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/*
 * Sends the thread on @frame->vcpu_index elsewhere: journals @frame, plants its
 * return trap, sets the registers to @registers. Resume with wait. Frames nest:
 * a further call may be made from a hook of the first.
 */
bool hvp_keeper_divert(HvpKeeper *self, const HvpKeeperFrame *frame,
		       const HvpRegisters *registers, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether the keeper has ended, or does not answer: its session is another one's to finish. */
bool hvp_keeper_is_lost(const HvpKeeper *self);

/* Whether a thread sent elsewhere by divert has not been brought home by come_home yet. */
bool hvp_keeper_is_calling(const HvpKeeper *self);

/* @vcpu_index stands at the innermost frame's return trap: restore and pop it. */
bool hvp_keeper_come_home(HvpKeeper *self, guint vcpu_index, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/* @vcpu_index stands at a hook: RAX = @value, go on behind it. */
bool hvp_keeper_answer(HvpKeeper *self, guint vcpu_index, guint64 value, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/*
 * @vcpu_index stands at a trap of set_traps at the entry of a function: it enters the function
 * at @pc instead, with @argument in RDI, and returns from there to the same caller. There is no
 * way back to wait for, and none is needed, whoever dies.
 */
bool hvp_keeper_redirect(HvpKeeper *self, guint vcpu_index, HvpGva pc, guint64 argument,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * While stopped: writes plain data (a module's file, a record, arguments) that
 * nobody in the guest looks at yet. Not undone, not verified against old bytes.
 */
bool hvp_keeper_write_data(HvpKeeper *self, HvpGpa gpa, const void *bytes, gsize length_bytes,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * While stopped: checks that every place holds its old bytes (else CONFLICT and
 * nothing is written, session usable; BUSY likewise: one cannot be looked at now), journals the
 * list, writes all new bytes. On a failure in between all are undone (UNDONE). The writes stay
 * uncommitted, and are undone when the tool dies, until hvp_keeper_commit.
 */
bool hvp_keeper_write(HvpKeeper *self, const HvpKeeperWrite *writes, gsize count,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * All pages in which this session has written or planted anything, in no order: HvpGpa; the
 * caller's.
 */
GArray *hvp_keeper_get_pages(const HvpKeeper *self);

/*
 * Reads all writes back and makes them final. UNDONE, as after a failed write, where one did not
 * arrive; CONFLICT where somebody resumed the VM in between: they are undone as well.
 */
bool hvp_keeper_commit(HvpKeeper *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;
