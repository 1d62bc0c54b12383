/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The proof that no task stands in text that is about to change or go. Pure: it
 * looks at a sweep's verdicts only. Fail closed: a stack that is not reliable blocks.
 *
 * Inside means a frame whose instruction lies in a forbidden range; of a return address
 * that instruction is the call before it (behind a call that never returns, the
 * address itself may already be the next function's).
 */
#pragma once

#include "engine/sweep.h"

/* Text in which nobody may stand. */
typedef struct {
	HvpGvaRange range;
	const char *name; /* for people; borrowed */
} HvpForbidden;

typedef enum {
	HVP_BLOCKER_ACTIVE,
	HVP_BLOCKER_UNRELIABLE,
	HVP_BLOCKER_POLICY, /* kernel threads are asked for more */
} HvpBlockerReason;

/* One task that is in the way. Owns its strings; guest bytes are escaped. */
typedef struct {
	gint32 pid;
	char *comm;
	bool is_kthread;
	HvpBlockerReason reason;
	char *function;	  /* the function it must not be in; else why it is in the way */
	GPtrArray *stack; /* char *: "sym+0x10/0x40 [module]" */
} HvpBlocker;

void hvp_prove_free_blocker(HvpBlocker *self);

/* Whether nobody blocks. Quick; allocates nothing; may be called while stopped. */
bool hvp_prove(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count);

/*
 * The same of a sweep that was rechecked, where hvp_prove_is_blocked has found nobody in the way
 * in what it was before: only those are looked at of whom it may say something else now.
 */
bool hvp_prove_changed(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count);

/*
 * Whether what a sweep of the running guest saw already rules a switch out. Tasks that were on a
 * CPU, and so not seen, do not.
 */
bool hvp_prove_is_blocked(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count);

/* Whether @task is in the way: its stack is not reliable, or it stands in forbidden text. */
bool hvp_prove_is_in_the_way(const HvpSweep *sweep, const HvpSweepTask *task,
			     const HvpForbidden *forbidden, gsize count);

/* The blockers themselves, symbolised: HvpBlocker, at most @max of them. */
GPtrArray *hvp_prove_blockers(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count,
			      HvpTarget *target, guint max);

/* The tasks that stand in forbidden text for certain, HvpTask as the sweep saw them. */
GArray *hvp_prove_active(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count);

/* A blocker made of @task with its stack; takes @function. */
HvpBlocker *hvp_prove_describe(const HvpSweep *sweep, const HvpSweepTask *task, HvpTarget *target,
			       HvpBlockerReason reason, char *function);

/* The instruction that a frame stands on: of a return address, the call before it. */
HvpGva hvp_prove_frame_instruction(const HvpFrame *frame);

/* One frame as people read it, "sym+0x10/0x40 [module]" or a bare address; caller frees. */
char *hvp_prove_format_frame(HvpTarget *target, const HvpFrame *frame);
