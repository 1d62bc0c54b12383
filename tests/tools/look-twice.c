/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * look-twice QMP-SOCKET ROUNDS: whether a sweep that began while the guest ran says the same as
 * one that knows nothing of before, both of the guest as it stands still in one stop. Prints
 *
 *   judged N quiet N moved N tasks N differ N
 *
 * judged: stops that were a moment to judge; quiet: of these, the keys were not all read again;
 * moved: stacks read while it stood still; tasks: compared. Each difference is told on stderr.
 * Exits 1 if there was one, or nothing was judged. For tests.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/sweep.h"
#include "engine/transaction.h"

#define BUDGET_USEC G_USEC_PER_SEC
#define PAUSE_USEC (20 * 1000)

typedef struct {
	guint judged, quiet, moved, tasks, differ;
} Tally;

static const HvpSweepTask *find(const HvpSweep *sweep, HvpGva address)
{
	for (guint i = 0; i < hvp_sweep_count(sweep); i++)
		if (hvp_sweep_get(sweep, i)->task.address.value == address.value)
			return hvp_sweep_get(sweep, i);
	return NULL;
}

static bool same_task(const HvpSweep *sweep, const HvpSweepTask *ours, const HvpSweep *fresh,
		      const HvpSweepTask *theirs)
{
	if (ours == NULL || ours->verdict != theirs->verdict || ours->vcpu != theirs->vcpu ||
	    ours->task.pid != theirs->task.pid || ours->frame_count != theirs->frame_count)
		return false;
	for (guint i = 0; i < ours->frame_count; i++)
		if (hvp_sweep_frames(sweep, ours)[i].pc.value !=
		    hvp_sweep_frames(fresh, theirs)[i].pc.value)
			return false;
	return true;
}

static void compare(const HvpSweep *sweep, const HvpSweep *fresh, Tally *tally)
{
	for (guint i = 0; i < hvp_sweep_count(fresh); i++) {
		const HvpSweepTask *theirs = hvp_sweep_get(fresh, i);
		const HvpSweepTask *ours = find(sweep, theirs->task.address);

		tally->tasks++;
		if (same_task(sweep, ours, fresh, theirs))
			continue;
		tally->differ++;
		fprintf(stderr, "pid %d: %s, %u frames; a fresh look: %s, %u frames\n",
			theirs->task.pid,
			ours ? hvp_unwinder_verdict_text(ours->verdict) : "not known",
			ours ? ours->frame_count : 0, hvp_unwinder_verdict_text(theirs->verdict),
			theirs->frame_count);
	}
}

static bool look(HvpSweep *sweep, HvpSweep *fresh, const HvpKeeperStop *stop, Tally *tally,
		 GError **error)
{
	guint rechecked, ignored;

	if (!hvp_sweep_recheck(sweep, stop->registers, stop->vcpu_count, &rechecked, error) ||
	    !hvp_sweep_recheck(fresh, stop->registers, stop->vcpu_count, &ignored, error))
		return false;
	tally->judged++;
	tally->quiet += hvp_sweep_get_reread(sweep) < hvp_sweep_count(sweep);
	tally->moved += rechecked;
	return true;
}

static bool run_round(HvpTarget *target, HvpKeeper *keeper, HvpSweep *sweep, Tally *tally,
		      GError **error)
{
	g_autoptr(HvpSweep) fresh = hvp_sweep_new(target, error);
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) reason = NULL;
	bool judged;

	if (fresh == NULL)
		return false;
	/* A run that failed is judged too: then all is read while it stands still. */
	if (!hvp_sweep_run(sweep, &reason) && !g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY)) {
		g_propagate_error(error, g_steal_pointer(&reason));
		return false;
	}
	g_clear_error(&reason);
	if (!hvp_keeper_stop(keeper, BUDGET_USEC, &stop, error))
		return false;
	judged = look(sweep, fresh, &stop, tally, &reason);
	if (!hvp_keeper_resume(keeper, NULL, error))
		return false;
	if (judged)
		compare(sweep, fresh, tally);
	if (judged || g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY) ||
	    g_error_matches(reason, HVP_ERROR, HVP_ERROR_FAULT))
		return true;
	g_propagate_error(error, g_steal_pointer(&reason));
	return false;
}

static bool run(const char *path, guint rounds, Tally *tally, GError **error)
{
	g_autoptr(HvpTarget) target = hvp_target_open_qmp(path, error);
	g_autoptr(HvpTransaction) transaction = NULL;
	g_autoptr(HvpSweep) sweep = NULL;

	if (target == NULL || !hvp_transaction_open_for_looking(target, &transaction, error))
		return false;
	if (transaction == NULL)
		return hvp_error_set(error, HVP_ERROR_CONFLICT, "the VM is paused");
	sweep = hvp_sweep_new(target, error);
	for (guint i = 0; i < rounds && sweep != NULL; i++) {
		if (!run_round(target, transaction->keeper, sweep, tally, error))
			return false;
		g_usleep(PAUSE_USEC);
	}
	return sweep != NULL && hvp_transaction_close(g_steal_pointer(&transaction), error);
}

int main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	Tally tally = { 0 };

	if (argc != 3) {
		fprintf(stderr, "usage: look-twice QMP-SOCKET ROUNDS\n");
		return 2;
	}
	if (!run(argv[1], (guint)strtoul(argv[2], NULL, 10), &tally, &error)) {
		fprintf(stderr, "look-twice: %s\n", error->message);
		return 2;
	}
	printf("judged %u quiet %u moved %u tasks %u differ %u\n", tally.judged, tally.quiet,
	       tally.moved, tally.tasks, tally.differ);
	return tally.differ > 0 || tally.judged == 0;
}
