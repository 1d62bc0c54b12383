/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/lost-calls.h"

#include "engine/switch.h"

#define PATIENCE_USEC (10 * G_USEC_PER_SEC)
#define RETRY_USEC (20 * 1000)

typedef enum { OVER, UNDER_WAY, UNKNOWN } Call;

static bool is_at_end_of(const HvpKeeperFrame *call, guint64 pc, guint64 sp)
{
	return pc == call->return_pc.value && sp == call->return_rsp;
}

/* Of one made from an interrupt, on whatever stack that came: never off its CPU. */
static Call judge_by_vcpus(const HvpKeeperFrame *call, const HvpKeeperStop *stop)
{
	for (guint i = 0; i < stop->vcpu_count; i++) {
		const HvpRegisters *registers = &stop->registers[i];

		if (is_at_end_of(call, registers->rip, registers->general[HVP_RSP]))
			return UNDER_WAY;
		if (hvp_gva_range_contains(call->stack, hvp_gva(registers->general[HVP_RSP])))
			return UNKNOWN;
	}
	return OVER;
}

static Call judge_by_stack(const HvpKeeperFrame *call, const HvpSweep *sweep,
			   const HvpSweepTask *task)
{
	const HvpFrame *frames = hvp_sweep_frames(sweep, task);

	for (guint i = 0; i < task->frame_count; i++)
		if (is_at_end_of(call, frames[i].pc.value, frames[i].sp.value))
			return UNDER_WAY;
	return task->verdict == HVP_UNWIND_RELIABLE ? OVER : UNKNOWN;
}

/* A thread that is not there any more is in no call. */
static Call judge_by_tasks(const HvpKeeperFrame *call, const HvpSweep *sweep)
{
	for (guint i = 0; i < hvp_sweep_count(sweep); i++) {
		const HvpSweepTask *task = hvp_sweep_get(sweep, i);

		if (hvp_gva_range_contains(call->stack, task->task.stack))
			return judge_by_stack(call, sweep, task);
	}
	return OVER;
}

static bool judge(HvpTarget *target, HvpKeeper *keeper, const HvpKeeperFrame *call, Call *ret_call,
		  GError **error)
{
	g_autoptr(HvpSweep) sweep = NULL;
	g_auto(HvpKeeperStop) stop = { 0 };

	if (call->is_aside != 0) {
		if (!hvp_keeper_stop(keeper, G_USEC_PER_SEC, &stop, error))
			return false;
		*ret_call = judge_by_vcpus(call, &stop);
		return hvp_keeper_resume(keeper, NULL, error);
	}
	sweep = hvp_switch_look(target, keeper, error);
	if (sweep != NULL)
		*ret_call = judge_by_tasks(call, sweep);
	return sweep != NULL;
}

/* A redirection is one write: it was made or not, and nobody comes back from it. */
static bool judge_patiently(HvpTarget *target, HvpKeeper *keeper, const HvpKeeperFrame *call,
			    Call *ret_call, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(PATIENCE_USEC);

	*ret_call = OVER;
	if (call->return_pc.value == 0)
		return true;
	for (;;) {
		GError *reason = NULL;

		if (!judge(target, keeper, call, ret_call, &reason) &&
		    (!g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY) ||
		     hvp_deadline_passed(deadline))) {
			g_propagate_error(error, reason);
			return false;
		}
		if (reason == NULL && *ret_call != UNKNOWN)
			return true;
		g_clear_error(&reason);
		if (hvp_deadline_passed(deadline))
			return hvp_error_set(error, HVP_ERROR_BUSY,
					     "it cannot be told whether a guest call that was "
					     "interrupted is over: try again");
		g_usleep(RETRY_USEC);
	}
}

static bool drop(HvpTarget *target, HvpKeeper *keeper, HvpJournal *journal, HvpJournalState *state,
		 GError **error)
{
	/* From the innermost: one that is under way was called from all outer ones. */
	while (state->frames->len > 0) {
		const HvpKeeperFrame *call = &g_array_index(state->frames, HvpKeeperFrame,
							    state->frames->len - 1);
		Call found;

		if (!judge_patiently(target, keeper, call, &found, error))
			return false;
		if (found == UNDER_WAY)
			return true;
		if (!hvp_journal_drop_frame(journal, state, error))
			return false;
	}
	return true;
}

bool hvp_lost_calls_drop(HvpTarget *target, HvpKeeper *keeper, HvpJournal *journal,
			 HvpJournalState *state, GError **error)
{
	return state->frames->len == 0 ||
	       (hvp_keeper_attach(keeper, error) && drop(target, keeper, journal, state, error) &&
		hvp_keeper_detach(keeper, error));
}
