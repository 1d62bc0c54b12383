/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/lost-calls.h"

#include "engine/switch.h"

#define PATIENCE_USEC (10 * G_USEC_PER_SEC)
#define RETRY_USEC (20 * 1000)

/* Since 4.20: CPU_ENTRY_AREA_PGD, with paging of 4 and 5 levels. */
static const HvpGvaRange exception_stacks = { { 0xfffffe0000000000ULL },
					      { 0xfffffe8000000000ULL } };

static bool is_at_end_of(const HvpKeeperFrame *call, guint64 pc, guint64 sp)
{
	return pc == call->return_pc.value && sp == call->return_rsp;
}

HvpLostCall hvp_lost_calls_judge_by_vcpus(const HvpKeeperFrame *call, const HvpRegisters *registers,
					  guint count)
{
	HvpLostCall found = HVP_LOST_CALL_OVER;

	for (guint i = 0; i < count; i++) {
		HvpGva sp = hvp_gva(registers[i].general[HVP_RSP]);

		if (is_at_end_of(call, registers[i].rip, sp.value))
			return HVP_LOST_CALL_UNDER_WAY;
		/* Not even an NMI tells in which it has come. */
		if (hvp_gva_range_contains(call->stack, sp) ||
		    hvp_gva_range_contains(exception_stacks, sp))
			found = HVP_LOST_CALL_UNKNOWN;
	}
	return found;
}

/*
 * A stack is walked from its top, and not reliably beyond a return trap: where the end of an outer
 * call is seen first, nobody is in the innermost.
 */
static HvpLostCall judge_by_stack(const HvpKeeperFrame *calls, guint count, const HvpSweep *sweep,
				  const HvpSweepTask *task)
{
	const HvpFrame *frames = hvp_sweep_frames(sweep, task);

	for (guint i = 0; i < task->frame_count; i++)
		for (guint j = count; j > 0; j--)
			if (is_at_end_of(&calls[j - 1], frames[i].pc.value, frames[i].sp.value))
				return j == count ? HVP_LOST_CALL_UNDER_WAY : HVP_LOST_CALL_OVER;
	return task->verdict == HVP_UNWIND_RELIABLE ? HVP_LOST_CALL_OVER : HVP_LOST_CALL_UNKNOWN;
}

/* A thread that is not there any more is in no call. */
HvpLostCall hvp_lost_calls_judge_by_tasks(const HvpKeeperFrame *calls, guint count,
					  const HvpSweep *sweep)
{
	HvpGvaRange stack = calls[count - 1].stack;

	for (guint i = 0; i < hvp_sweep_count(sweep); i++) {
		const HvpSweepTask *task = hvp_sweep_get(sweep, i);

		if (hvp_gva_range_contains(stack, task->task.stack))
			return judge_by_stack(calls, count, sweep, task);
	}
	return HVP_LOST_CALL_OVER;
}

static bool judge(HvpTarget *target, HvpKeeper *keeper, const HvpKeeperFrame *calls, guint count,
		  HvpLostCall *ret_call, GError **error)
{
	const HvpKeeperFrame *call = &calls[count - 1];
	g_autoptr(HvpSweep) sweep = NULL;
	g_auto(HvpKeeperStop) stop = { 0 };

	if (call->is_aside != 0) {
		if (!hvp_keeper_stop(keeper, G_USEC_PER_SEC, &stop, error))
			return false;
		*ret_call = hvp_lost_calls_judge_by_vcpus(call, stop.registers, stop.vcpu_count);
		return hvp_keeper_resume(keeper, NULL, error);
	}
	sweep = hvp_switch_look(target, keeper, error);
	if (sweep != NULL)
		*ret_call = hvp_lost_calls_judge_by_tasks(calls, count, sweep);
	return sweep != NULL;
}

/* A redirection is one write: it was made or not, and nobody comes back from it. */
static bool judge_patiently(HvpTarget *target, HvpKeeper *keeper, const HvpKeeperFrame *calls,
			    guint count, HvpLostCall *ret_call, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(PATIENCE_USEC);

	*ret_call = HVP_LOST_CALL_OVER;
	if (calls[count - 1].return_pc.value == 0)
		return true;
	for (;;) {
		GError *reason = NULL;

		if (!judge(target, keeper, calls, count, ret_call, &reason) &&
		    (!g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY) ||
		     hvp_deadline_passed(deadline))) {
			g_propagate_error(error, reason);
			return false;
		}
		if (reason == NULL && *ret_call != HVP_LOST_CALL_UNKNOWN)
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
		HvpLostCall found;

		if (!judge_patiently(target, keeper,
				     (const HvpKeeperFrame *)(void *)state->frames->data,
				     state->frames->len, &found, error))
			return false;
		if (found == HVP_LOST_CALL_UNDER_WAY)
			return true;
		if (!hvp_journal_drop_frame(journal, state, error))
			return false;
	}
	return true;
}

/* Whether a thread that is out has to be stopped at @pc: at its call's end, or at a hook. */
static bool is_awaited(const HvpJournalState *state, HvpGva pc)
{
	for (guint i = 0; i < state->frames->len; i++)
		if (g_array_index(state->frames, HvpKeeperFrame, i).return_pc.value == pc.value)
			return true;
	for (guint i = 0; i < state->hooks->len; i++)
		if (g_array_index(state->hooks, HvpKeeperHook, i).pc.value == pc.value)
			return true;
	return false;
}

/*
 * Without the traps at which a thread was caught: whoever stands there holds a CPU, and may hold
 * a lock that no stack can be judged without.
 */
static bool attach(HvpKeeper *keeper, const HvpJournalState *state, GError **error)
{
	g_autoptr(GArray) traps = g_array_new(FALSE, FALSE, sizeof(HvpKeeperSpin));

	for (guint i = 0; i < state->spins->len; i++)
		if (!is_awaited(state, g_array_index(state->spins, HvpKeeperSpin, i).pc))
			g_array_append_val(traps, g_array_index(state->spins, HvpKeeperSpin, i));
	if (traps->len == 0)
		return hvp_keeper_attach(keeper, error);
	return hvp_keeper_adopt(keeper, NULL, 0, NULL, 0,
				(const HvpKeeperSpin *)(void *)traps->data, traps->len, NULL, 0,
				false, hvp_deadline_in(PATIENCE_USEC), error);
}

bool hvp_lost_calls_drop(HvpTarget *target, HvpKeeper *keeper, HvpJournal *journal,
			 HvpJournalState *state, GError **error)
{
	return state->frames->len == 0 ||
	       (attach(keeper, state, error) && drop(target, keeper, journal, state, error) &&
		hvp_keeper_detach(keeper, error));
}
