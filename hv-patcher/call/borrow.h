/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Borrowing a guest thread: some work (allocate, load a module) must be done by the
 * guest kernel itself. A kernel thread is caught where it may sleep and holds no
 * locks, made to call functions of ours, and put back as it was.
 *
 *   catch -> stopped at the trap -> call ... call -> release -> running as before
 *
 * While a call runs, functions that the borrowed thread reaches can be answered by
 * the host (hooks); a hook may itself make calls. Whatever happens to this process, the
 * keeper brings the thread home.
 */
#pragma once

#include "guest/kernel.h"
#include "keeper/keeper.h"

typedef struct HvpBorrow HvpBorrow;

#define HVP_BORROW_MAX_ARGUMENTS 8U
/* Room for arguments passed by address, below the caught thread's stack pointer. */
#define HVP_BORROW_SCRATCH_BYTES 1024U

/* What becomes of a function that a hook answers. */
typedef struct {
	bool run_it;   /* the guest's own function runs after all */
	guint64 value; /* else: what it is to return */
} HvpBorrowReply;

/*
 * Answers one hook: @registers are the borrowed thread's; calls may be made, in which the same
 * hooks hold. On false the hook's failure value is taken and the call returns the error.
 */
typedef bool (*HvpBorrowAnswer)(HvpBorrow *borrow, const HvpRegisters *registers, void *user_data,
				HvpBorrowReply *ret_reply, GError **error);

/*
 * A trap at which the threads that come by are looked at one by one, while calls run and at the
 * release. @visit lets vCPU @vcpu pass or redirects it; @is_over says that nobody else is awaited.
 */
typedef struct {
	HvpGva trap;
	bool (*visit)(guint vcpu, const HvpRegisters *registers, void *user_data, GError **error);
	bool (*is_over)(void *user_data);
	void *user_data;
} HvpBorrowGate;

/* A function of the guest that the host answers for the borrowed thread. */
typedef struct {
	HvpKeeperHook hook;
	HvpBorrowAnswer answer;
} HvpBorrowHook;

/*
 * Waits until a kernel thread comes to a place where it can be borrowed, at most until
 * @deadline (TIMED_OUT). Afterwards the guest stands still. Borrows both. BUSY:
 * a call that took too long is still under way.
 */
HvpBorrow *hvp_borrow_catch(HvpKeeper *keeper, HvpKernel *kernel, HvpDeadline deadline,
			    GError **error);

/*
 * Calls @function with @arguments in the borrowed thread and waits until it returns, at most
 * until @deadline. With more than six arguments the scratch area holds the rest. @hooks (may be
 * NULL) are answered meanwhile with @user_data. On
 * TIMED_OUT the call goes on: free the keeper, which stays with it to the end.
 */
bool hvp_borrow_call(HvpBorrow *self, HvpGva function, const guint64 *arguments,
		     guint argument_count, const HvpBorrowHook *hooks, guint hook_count,
		     void *user_data, HvpDeadline deadline, guint64 *ret_value,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * For an answer that has changed the failure value of one of its call's hooks: the new one is
 * what the thread gets from now on, should nobody be there to answer.
 */
bool hvp_borrow_update_hooks(HvpBorrow *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The same by the function's name, without hooks. */
bool hvp_borrow_call_name(HvpBorrow *self, const char *name, const guint64 *arguments,
			  guint argument_count, HvpDeadline deadline, guint64 *ret_value,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Has the delayed work @work of system_wq, which waits for its time and whose function is
 * @function, run soon after the release instead. Nothing where the guest has not all of that.
 */
bool hvp_borrow_hasten_work(HvpBorrow *self, const char *work, const char *function,
			    HvpDeadline deadline, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Calls @function, which must not sleep, with interrupts off, as it is called under a spin lock.
 * What RCU protects and was seen alive while the guest stood still stays until it returns.
 * TIMED_OUT as above.
 */
bool hvp_borrow_call_atomic(HvpBorrow *self, HvpGva function, const guint64 *arguments,
			    guint argument_count, HvpDeadline deadline,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Address of the scratch area of the next call at this depth; 16-aligned. */
HvpGva hvp_borrow_scratch(HvpBorrow *self);

/* Writes plain data into guest memory, through the guest's own mapping of @address. */
bool hvp_borrow_write(HvpBorrow *self, HvpGva address, const void *bytes, gsize length_bytes,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Lets the thread go on where it was caught; the guest runs. Frees @self in any case.
 * *@longest_hold_usec (may be NULL) is raised to the longest time that the guest stood still.
 */
bool hvp_borrow_release(HvpBorrow *self, gint64 *longest_hold_usec,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* A clock that stands while the guest does. */
gint64 hvp_borrow_guest_usec(const HvpBorrow *self);

/* Opens @gate (borrowed), until the release. The guest stays stopped. */
bool hvp_borrow_open_gate(HvpBorrow *self, const HvpBorrowGate *gate,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * As release, but goes on looking at who comes to the gate until it is over or @deadline passes,
 * then closes it. When it is over the guest stands still, which is for the caller to end:
 * *@ret_stopped_at_usec is since when, and 0 where it runs.
 */
bool hvp_borrow_release_at_gate(HvpBorrow *self, HvpDeadline deadline, gint64 *longest_hold_usec,
				gint64 *ret_stopped_at_usec,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Forgets a borrowed thread after an error: the keeper, when freed, brings it home. */
void hvp_borrow_free(HvpBorrow *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpBorrow, hvp_borrow_free)
