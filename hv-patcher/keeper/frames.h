/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The borrowed thread: traps that catch it, frames that say where it was caught
 * and where it comes back, hooks that answer what it calls. On top of vcpus.c; one
 * request of the tool is one function here. All are called while stopped.
 *
 * The borrowed thread is known by its stack: a vCPU whose RSP lies in the stack of
 * the innermost frame runs it. Any other vCPU at a breakpoint of ours that is
 * not a trap is a bystander and is stepped over.
 */
#pragma once

#include "keeper/vcpus.h"

/* What a vCPU stands at, the most urgent last. */
typedef enum {
	HVP_FRAMES_NOTHING,
	HVP_FRAMES_BYSTANDER, /* a breakpoint that is not its business */
	HVP_FRAMES_TRAP,
	HVP_FRAMES_HOOK,   /* the borrowed thread, to be answered */
	HVP_FRAMES_RETURN, /* the borrowed thread, the innermost call is over */
} HvpFramesPlace;

typedef struct {
	HvpVcpus *vcpus; /* borrowed */
	int journal_fd;
	HvpGva traps[HVP_KEEPER_MAX_TRAPS];
	gsize trap_count;
	HvpKeeperHook hooks[HVP_KEEPER_MAX_TRAPS];
	gsize hook_count;
	HvpKeeperFrame frames[HVP_KEEPER_MAX_FRAMES];
	gint64 journal_at[HVP_KEEPER_MAX_FRAMES]; /* where a frame's record stands, or -1 */
	gsize frame_count;
	bool started;	 /* the innermost call: vCPUs ran since it was made */
	bool tool_waits; /* for our answer: it writes nothing to the journal meanwhile */
} HvpFrames;

/* Where vCPU @index stands; its registers are known. */
HvpFramesPlace hvp_frames_get_place(const HvpFrames *self, guint index);

/* Of all vCPUs with known registers: the most urgent place, and who stands there. */
HvpFramesPlace hvp_frames_find(const HvpFrames *self, guint *ret_index);

/* Brings all known bystanders past where they stand. */
bool hvp_frames_pass_bystanders(HvpFrames *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * INVALID_ARGUMENT: it stands at no trap, or is the borrowed thread at its return. BUSY: it does
 * not get past.
 */
bool hvp_frames_pass(HvpFrames *self, guint index, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Replaces the traps or hooks, which is written to the journal, and plants. INVALID_ARGUMENT. */
bool hvp_frames_set_traps(HvpFrames *self, const HvpGva *pcs, gsize count,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_frames_set_hooks(HvpFrames *self, const HvpKeeperHook *hooks, gsize count,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* hvp_keeper_divert. INVALID_ARGUMENT: the frame or registers make no sense. */
bool hvp_frames_divert(HvpFrames *self, const HvpKeeperFrame *frame, const HvpRegisters *registers,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* hvp_keeper_come_home. INVALID_ARGUMENT: it does not stand at the return trap. */
bool hvp_frames_come_home(HvpFrames *self, guint index, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* hvp_keeper_redirect. INVALID_ARGUMENT: it does not stand at a trap. */
bool hvp_frames_redirect(HvpFrames *self, guint index, HvpGva pc, guint64 argument,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* hvp_keeper_answer. INVALID_ARGUMENT: it does not stand at a hook. */
bool hvp_frames_answer(HvpFrames *self, guint index, guint64 value,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Replaces the table of spin traps, which is written to the journal. INVALID_ARGUMENT: not valid,
 * or without one that is planted.
 */
bool hvp_frames_set_spins(HvpFrames *self, const HvpKeeperSpin *sites, gsize count,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Before the vCPUs run. */
void hvp_frames_starts(HvpFrames *self);

/*
 * Going home: takes back an innermost call that has not begun, if any; all
 * registers are known.
 */
bool hvp_frames_take_back(HvpFrames *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Going home: does whatever can be done without running the guest: threads at
 * their return come home, hooks are answered with failure, bystanders stepped over.
 * All registers are known. Afterwards plants what is still needed.
 */
bool hvp_frames_go_home(HvpFrames *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * The guest was reset: there is no thread to bring home any more, and nothing of ours in its
 * text.
 */
bool hvp_frames_forget_frames(HvpFrames *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether counts, addresses and stack of @frame are plausible. INVALID_ARGUMENT. */
bool hvp_frames_check_frame(const HvpFrames *self, const HvpKeeperFrame *frame,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;
