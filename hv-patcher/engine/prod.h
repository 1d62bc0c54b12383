/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sending sleeping tasks out of text that is to be switched. A borrowed thread wakes each of
 * them as a signal would, without there being one: it leaves its system call, which is
 * restarted at the edge of user mode. As all must be outside at one moment, there is a gate
 * there, at arch_do_signal_or_restart: who comes to it enters msleep instead, and is sent there
 * again by the same loop when it wakes.
 *
 *   asleep in old text --woken--> on its way out --at the gate--> in msleep --> restarted
 *
 * With the gate open nobody gets from the edge back into old text; when the last of them is
 * there the guest stands still, and that is the moment. Nothing of it needs to be undone: who is
 * in msleep wakes by itself, whoever of us died.
 */
#pragma once

#include "base/deadline.h"
#include "engine/target.h"
#include "guest/task.h"
#include "keeper/keeper.h"

/*
 * Whether sending @tasks (HvpTask) out can leave none of them inside: each sleeps so that it can
 * be woken, or runs anyway, and one at least sleeps. Else nobody is to be disturbed.
 */
bool hvp_prod_is_of_use(const GArray *tasks);

/* What became of one round. */
typedef struct {
	guint woken;
	guint held;		  /* of those, at the edge of user mode */
	gint64 longest_hold_usec; /* the guest stood still for a call, at most */
	gint64 stopped_at_usec;	  /* since when it stands still now; 0: it runs */
} HvpProdRound;

/*
 * Wakes those of @tasks (HvpTask, as a sweep saw them) that have not moved since. When all of user
 * mode are held the guest stands still, to be judged at once and then resumed by the caller. It
 * runs where not all come in time, and where no thread can be borrowed before @deadline or a
 * function is missing, which is no failure. Any error is one of the keeper or of a call that did
 * not return.
 */
bool hvp_prod_run(HvpTarget *target, HvpKeeper *keeper, const GArray *tasks, HvpDeadline deadline,
		  HvpProdRound *ret_round, GError **error) G_GNUC_WARN_UNUSED_RESULT;
