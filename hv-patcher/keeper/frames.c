/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/frames.h"

#include <string.h>

#include "base/bytes.h"
#include "keeper/journal.h"

#define MAX_INSTRUCTION_BYTES 15

/* THREAD_SIZE is 16 KiB, 32 with KASAN. */
#define MAX_STACK_BYTES (64U << 10)

/* How often threads may be answered or stepped before the guest must have run. */
#define MAX_ROUNDS 64

static const HvpKeeperFrame *innermost(const HvpFrames *self)
{
	return self->frame_count > 0 ? &self->frames[self->frame_count - 1] : NULL;
}

/* A frame that is there only while a redirection is written: nobody returns to address 0. */
static bool is_redirection(const HvpKeeperFrame *frame)
{
	return frame->return_pc.value == 0;
}

static const HvpKeeperHook *find_hook(const HvpFrames *self, guint64 pc)
{
	for (gsize i = 0; i < self->hook_count; i++)
		if (self->hooks[i].pc.value == pc)
			return &self->hooks[i];
	return NULL;
}

static bool is_trap(const HvpFrames *self, guint64 pc)
{
	for (gsize i = 0; i < self->trap_count; i++)
		if (self->traps[i].value == pc)
			return true;
	return false;
}

HvpFramesPlace hvp_frames_get_place(const HvpFrames *self, guint index)
{
	const HvpRegisters *registers = &self->vcpus->registers[index];
	const HvpKeeperFrame *frame = innermost(self);
	guint64 rsp = registers->general[HVP_RSP];

	/* One that cannot be moved from there is not there yet. */
	if (!hvp_vcpus_is_planted(self->vcpus, hvp_gva(registers->rip)) ||
	    !hvp_backend_can_write_registers(self->vcpus->backend, index))
		return HVP_FRAMES_NOTHING;
	if (frame != NULL && registers->rip == frame->return_pc.value && rsp == frame->return_rsp)
		return HVP_FRAMES_RETURN;
	if (frame != NULL && hvp_gva_range_contains(frame->stack, hvp_gva(rsp)) &&
	    find_hook(self, registers->rip) != NULL)
		return HVP_FRAMES_HOOK;
	return is_trap(self, registers->rip) ? HVP_FRAMES_TRAP : HVP_FRAMES_BYSTANDER;
}

HvpFramesPlace hvp_frames_find(const HvpFrames *self, guint *ret_index)
{
	HvpFramesPlace found = HVP_FRAMES_NOTHING;

	for (guint i = 0; i < self->vcpus->count; i++) {
		HvpFramesPlace place = self->vcpus->known[i] ? hvp_frames_get_place(self, i)
							     : HVP_FRAMES_NOTHING;

		if (place > found) {
			found = place;
			*ret_index = i;
		}
	}
	return found;
}

/* The journal first. */
static bool push(HvpFrames *self, const HvpKeeperFrame *frame, GError **error)
{
	const HvpJournalRecord records[] = {
		{ HVP_JOURNAL_CALLED, NULL, 0 },
		{ HVP_JOURNAL_DIVERT, (const guint8 *)frame, sizeof *frame },
	};
	gsize skipped = hvp_keeper_frame_is_step(frame) ? 0 : 1;
	gint64 at = hvp_journal_get_size(self->journal_fd);

	if (self->frame_count == HVP_KEEPER_MAX_FRAMES)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "more than %d calls nested",
				     HVP_KEEPER_MAX_FRAMES);
	if (!hvp_journal_append_all(self->journal_fd, records + skipped,
				    G_N_ELEMENTS(records) - skipped, error))
		return false;
	self->journal_at[self->frame_count] = at;
	self->frames[self->frame_count++] = *frame;
	self->started = false;
	return true;
}

/*
 * Threads that come by a trap are moved by the thousand, and the journal is not to fill with that.
 * False: @frame's record, at @at, is not the last one, or might not be by now.
 */
static bool cut_redirection(const HvpFrames *self, const HvpKeeperFrame *frame, gint64 at)
{
	return self->tool_waits && is_redirection(frame) && at >= 0 &&
	       hvp_journal_get_size(self->journal_fd) ==
		       at + HVP_JOURNAL_HEADER_BYTES + (gint64)sizeof *frame &&
	       hvp_journal_cut(self->journal_fd, at);
}

/*
 * The innermost frame is no more. Where that cannot be written, its beginning is taken away: a
 * recovery must not wait for a thread that is home. It stays that the call was made, if it was.
 */
static bool pop(HvpFrames *self, HvpJournalType how, GError **error)
{
	GError *local = NULL;
	gint64 at = self->journal_at[--self->frame_count];

	if (cut_redirection(self, &self->frames[self->frame_count], at))
		return true;
	if (hvp_journal_append(self->journal_fd, how, NULL, 0, &local))
		return true;
	if (at >= 0 && how == HVP_JOURNAL_HOME &&
	    hvp_keeper_frame_is_step(&self->frames[self->frame_count]))
		at += HVP_JOURNAL_HEADER_BYTES;
	if (!hvp_journal_cut(self->journal_fd, at)) {
		g_propagate_error(error, local);
		return false;
	}
	g_error_free(local);
	return true;
}

/* That vCPU @index is to get the registers @to. */
static bool announce(HvpFrames *self, guint index, const HvpRegisters *to, GError **error)
{
	HvpKeeperFrame frame = { .vcpu_index = index };
	guint64 from, rsp = to->general[HVP_RSP];

	frame.saved = self->vcpus->registers[index];
	from = frame.saved.general[HVP_RSP];
	frame.return_rsp = rsp;
	frame.stack.start = hvp_gva(MIN(from, rsp));
	frame.stack.end = hvp_gva(MAX(from, rsp) + 8);
	return push(self, &frame, error);
}

static bool carry_out(HvpFrames *self, guint index, const HvpRegisters *to, bool started,
		      GError **error)
{
	if (!hvp_vcpus_write(self->vcpus, index, to, error))
		return false;
	/* Also where that fails: what is innermost then was not begun just now. */
	self->started = started;
	return pop(self, HVP_JOURNAL_HOME, error);
}

/*
 * Gives vCPU @index the registers @to, for good. The frame holds what was there until all is
 * written: a thread with half of it, left by a keeper that died, is put back. With all of it,
 * nobody has to look after the thread any more.
 */
static bool move(HvpFrames *self, guint index, const HvpRegisters *to, GError **error)
{
	bool started = self->started;

	return announce(self, index, to, error) && carry_out(self, index, to, started, error);
}

/* Does what vCPU @index would do next, had no spin trap been written over it. */
static bool emulate(HvpFrames *self, guint index, GError **error)
{
	HvpRegisters to = self->vcpus->registers[index];
	const HvpKeeperSpin *site = hvp_spins_find(&self->vcpus->spins, hvp_gva(to.rip));
	HvpEmulationPush pushed;
	guint8 bytes[8] = { 0 };
	guint read_bytes;

	if (site == NULL || site->emulation.kind == HVP_EMULATION_NONE)
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "vCPU %u cannot be let past the spin trap at "
				     "0x%" G_GINT64_MODIFIER "x",
				     index, to.rip);
	read_bytes = hvp_emulation_read_bytes(&site->emulation);
	if (read_bytes > 0 &&
	    !hvp_backend_read_virtual(self->vcpus->backend, index, hvp_gva(site->emulation.value),
				      bytes, read_bytes, error))
		return false;
	hvp_emulation_run(&site->emulation, hvp_load_u64(bytes), &to, &pushed);
	hvp_store_u64(bytes, pushed.value);
	/* Below its stack pointer, where nothing is in use, until that is moved. */
	return (!pushed.is_there ||
		hvp_backend_write_virtual(self->vcpus->backend, index, hvp_gva(to.general[HVP_RSP]),
					  bytes, sizeof bytes, error)) &&
	       move(self, index, &to, error);
}

static bool let_past(HvpFrames *self, guint index, GError **error)
{
	return hvp_vcpus_uses_spins(self->vcpus) ? emulate(self, index, error)
						 : hvp_vcpus_step_over(self->vcpus, index, error);
}

/*
 * One that does not get past (a long string instruction) will hit its breakpoint again, or goes
 * on spinning until the trap is removed.
 */
static bool pass_bystander(HvpFrames *self, guint index, GError **error)
{
	GError *local = NULL;

	for (guint round = 0; round < MAX_ROUNDS && self->vcpus->known[index] &&
			      hvp_frames_get_place(self, index) == HVP_FRAMES_BYSTANDER;
	     round++) {
		if (let_past(self, index, &local))
			continue;
		if (g_error_matches(local, HVP_ERROR, HVP_ERROR_BUSY)) {
			g_clear_error(&local);
			return true;
		}
		g_propagate_error(error, local);
		return false;
	}
	return true;
}

bool hvp_frames_pass_bystanders(HvpFrames *self, GError **error)
{
	for (guint i = 0; i < self->vcpus->count; i++)
		if (!pass_bystander(self, i, error))
			return false;
	return true;
}

static bool require_vcpu(const HvpFrames *self, guint index, GError **error)
{
	if (index < self->vcpus->count)
		return true;
	return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "there is no vCPU %u", index);
}

static bool require_place(HvpFrames *self, guint index, HvpFramesPlace place, const char *what,
			  GError **error)
{
	if (!require_vcpu(self, index, error) || !hvp_vcpus_read(self->vcpus, index, error))
		return false;
	if (hvp_frames_get_place(self, index) == place)
		return true;
	return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "vCPU %u does not stand at a %s",
			     index, what);
}

bool hvp_frames_pass(HvpFrames *self, guint index, GError **error)
{
	HvpFramesPlace place;

	if (!require_vcpu(self, index, error) || !hvp_vcpus_read(self->vcpus, index, error))
		return false;
	place = hvp_frames_get_place(self, index);
	if (place != HVP_FRAMES_BYSTANDER && place != HVP_FRAMES_TRAP && place != HVP_FRAMES_HOOK)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "vCPU %u does not stand at a trap that it may pass", index);
	return let_past(self, index, error);
}

static bool require_plantable(const HvpFrames *self, HvpGva pc, GError **error)
{
	return hvp_vcpus_can_plant(self->vcpus, pc) ||
	       hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
			     "no spin trap is known at 0x%" G_GINT64_MODIFIER "x", pc.value);
}

/* Traps, hooks and the return traps of all frames. */
static bool plant(HvpFrames *self, GError **error)
{
	HvpGva pcs[HVP_VCPUS_MAX_PLANTED];
	gsize count = 0;

	for (gsize i = 0; i < self->trap_count; i++)
		pcs[count++] = self->traps[i];
	for (gsize i = 0; i < self->hook_count; i++)
		pcs[count++] = self->hooks[i].pc;
	for (gsize i = 0; i < self->frame_count; i++)
		if (!is_redirection(&self->frames[i]))
			pcs[count++] = self->frames[i].return_pc;
	return hvp_vcpus_plant(self->vcpus, pcs, count, error);
}

bool hvp_frames_set_traps(HvpFrames *self, const HvpGva *pcs, gsize count, GError **error)
{
	if (count > HVP_KEEPER_MAX_TRAPS)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "more than %d traps",
				     HVP_KEEPER_MAX_TRAPS);
	for (gsize i = 0; i < count; i++)
		if (!require_plantable(self, pcs[i], error))
			return false;
	if (count > 0)
		memcpy(self->traps, pcs, count * sizeof *pcs);
	self->trap_count = count;
	return plant(self, error);
}

bool hvp_frames_set_hooks(HvpFrames *self, const HvpKeeperHook *hooks, gsize count, GError **error)
{
	if (count > HVP_KEEPER_MAX_TRAPS)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "more than %d hooks",
				     HVP_KEEPER_MAX_TRAPS);
	for (gsize i = 0; i < count; i++) {
		if (hooks[i].call_bytes > MAX_INSTRUCTION_BYTES)
			return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
					     "a call instruction of %u bytes", hooks[i].call_bytes);
		if (!require_plantable(self, hooks[i].pc, error))
			return false;
	}
	if (!hvp_journal_append(self->journal_fd, HVP_JOURNAL_HOOKS, hooks, count * sizeof *hooks,
				error))
		return false;
	if (count > 0)
		memcpy(self->hooks, hooks, count * sizeof *hooks);
	self->hook_count = count;
	return plant(self, error);
}

bool hvp_frames_check_frame(const HvpFrames *self, const HvpKeeperFrame *frame, GError **error)
{
	guint64 size_bytes = hvp_gva_range_size(frame->stack);

	if (!require_vcpu(self, frame->vcpu_index, error))
		return false;
	if (frame->stack.start.value >= frame->stack.end.value || size_bytes > MAX_STACK_BYTES ||
	    !hvp_gva_range_contains(frame->stack, hvp_gva(frame->return_rsp)) ||
	    !hvp_gva_range_contains(frame->stack, hvp_gva(frame->saved.general[HVP_RSP])))
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "a frame's stack pointers are not in its stack");
	return true;
}

/* Checks everything that divert is given against the vCPU as it stands. */
static bool check_divert(HvpFrames *self, const HvpKeeperFrame *frame,
			 const HvpRegisters *registers, GError **error)
{
	guint64 rsp = registers->general[HVP_RSP];

	if (frame->return_pc.value == 0)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "a call returns nowhere");
	if (!require_plantable(self, frame->return_pc, error) ||
	    !hvp_frames_check_frame(self, frame, error) ||
	    !hvp_vcpus_read(self->vcpus, frame->vcpu_index, error))
		return false;
	if (!hvp_backend_can_write_registers(self->vcpus->backend, frame->vcpu_index))
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "vCPU %u cannot be sent elsewhere from where it stands",
				     frame->vcpu_index);
	if (!hvp_vcpus_same_registers(&frame->saved, &self->vcpus->registers[frame->vcpu_index]))
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "a frame's saved registers are not those of vCPU %u",
				     frame->vcpu_index);
	if (!hvp_gva_range_contains(frame->stack, hvp_gva(rsp)) || rsp >= frame->return_rsp)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "a call's RSP is not below its return, or not in its stack");
	return true;
}

bool hvp_frames_divert(HvpFrames *self, const HvpKeeperFrame *frame, const HvpRegisters *registers,
		       GError **error)
{
	return check_divert(self, frame, registers, error) && push(self, frame, error) &&
	       plant(self, error) &&
	       hvp_vcpus_write(self->vcpus, frame->vcpu_index, registers, error);
}

/*
 * Whether the thread of @frame, which has_not_left(), was never in the call. One that was has
 * its return in the journal before anything of it is put back.
 */
static bool has_not_begun(const HvpKeeperFrame *frame, const HvpRegisters *registers)
{
	return frame->is_over == 0 && registers->rip == frame->saved.rip &&
	       registers->rip != frame->return_pc.value;
}

/* What came back is for whoever takes over. Where it cannot be written the call is over all the
 * same.
 */
static void note_return(HvpFrames *self, const HvpRegisters *registers)
{
	HvpKeeperFrame *frame = &self->frames[self->frame_count - 1];

	if (registers->rip != frame->return_pc.value || !hvp_keeper_frame_is_step(frame))
		return;
	frame->is_over = 1;
	(void)!hvp_journal_append(self->journal_fd, HVP_JOURNAL_RETURNED,
				  &registers->general[HVP_RAX], sizeof(guint64), NULL);
}

/*
 * RIP first: by it a recovery knows the thread if this ends half way, see has_not_left. Not where
 * the thread would then run, with half of its registers.
 */
static bool write_rip_first(HvpFrames *self, guint index, guint64 rip, GError **error)
{
	HvpRegisters first = self->vcpus->registers[index];

	first.rip = rip;
	return hvp_backend_runs_when_let_go(self->vcpus->backend) ||
	       hvp_vcpus_write(self->vcpus, index, &first, error);
}

/* Gives vCPU @index what the innermost frame saved, and drops the frame. */
static bool restore(HvpFrames *self, guint index, HvpJournalType how, GError **error)
{
	const HvpRegisters *saved = &innermost(self)->saved;

	if (!hvp_vcpus_read(self->vcpus, index, error))
		return false;
	if (how == HVP_JOURNAL_HOME)
		note_return(self, &self->vcpus->registers[index]);
	if (!write_rip_first(self, index, saved->rip, error) ||
	    !hvp_vcpus_write(self->vcpus, index, saved, error))
		return false;
	self->started = true;
	return pop(self, how, error) && plant(self, error);
}

bool hvp_frames_come_home(HvpFrames *self, guint index, GError **error)
{
	return require_place(self, index, HVP_FRAMES_RETURN, "return trap", error) &&
	       restore(self, index, HVP_JOURNAL_HOME, error);
}

bool hvp_frames_redirect(HvpFrames *self, guint index, HvpGva pc, guint64 argument, GError **error)
{
	HvpRegisters to;

	if (!require_place(self, index, HVP_FRAMES_TRAP, "trap", error))
		return false;
	to = self->vcpus->registers[index];
	to.general[HVP_RDI] = argument;
	to.rip = pc.value;
	return move(self, index, &to, error);
}

bool hvp_frames_answer(HvpFrames *self, guint index, guint64 value, GError **error)
{
	HvpRegisters to;
	const HvpKeeperHook *hook;
	bool started = self->started;
	guint8 bytes[8];

	if (!require_place(self, index, HVP_FRAMES_HOOK, "hook", error))
		return false;
	to = self->vcpus->registers[index];
	hook = find_hook(self, to.rip);
	to.general[HVP_RAX] = value;
	to.rip += hook->call_bytes;
	if (hook->call_bytes == 0) {
		if (!hvp_backend_read_virtual(self->vcpus->backend, index,
					      hvp_gva(to.general[HVP_RSP]), bytes, sizeof bytes,
					      error))
			return false;
		to.rip = hvp_load_u64(bytes);
		to.general[HVP_RSP] += sizeof bytes;
	}
	/*
	 * One whose stack pointer was moved already is not to be answered again. Where there is no
	 * room to say so it is answered all the same: it has to get home.
	 */
	if (!announce(self, index, &to, NULL))
		return hvp_vcpus_write(self->vcpus, index, &to, error);
	return carry_out(self, index, &to, started, error);
}

bool hvp_frames_set_spins(HvpFrames *self, const HvpKeeperSpin *sites, gsize count, GError **error)
{
	static HvpSpins wanted;

	if (!hvp_spins_set(&wanted, sites, count, error) ||
	    !hvp_vcpus_check_spins(self->vcpus, &wanted, error) ||
	    !hvp_journal_append(self->journal_fd, HVP_JOURNAL_SPINS, sites, count * sizeof *sites,
				error))
		return false;
	self->vcpus->spins = wanted;
	return true;
}

void hvp_frames_starts(HvpFrames *self)
{
	self->started = true;
}

/*
 * Between being caught and its first instruction in the call, a thread has RSP at one of
 * three places, and RIP still (or again) where it was caught or at its return:
 * RIP is the last register that a diversion writes, and the first that restore does.
 */
static bool has_not_left(const HvpKeeperFrame *frame, const HvpRegisters *registers)
{
	guint64 rsp = registers->general[HVP_RSP];

	return (registers->rip == frame->saved.rip || registers->rip == frame->return_pc.value) &&
	       (rsp == frame->saved.general[HVP_RSP] || rsp == frame->return_rsp ||
		rsp == frame->return_rsp - 8);
}

static bool take_back_innermost(HvpFrames *self, GError **error)
{
	bool ran = hvp_backend_runs_when_let_go(self->vcpus->backend);

	/* We ourselves wrote its registers, at least some of them, and nobody ran since. */
	if (!self->started)
		return restore(self, innermost(self)->vcpu_index, HVP_JOURNAL_NOT_BEGUN, error);
	/* Nobody's registers are half written where all run on: who is not back is out. */
	for (guint i = 0; !ran && i < self->vcpus->count; i++) {
		const HvpRegisters *registers = &self->vcpus->registers[i];

		if (has_not_left(innermost(self), registers))
			return restore(self, i,
				       has_not_begun(innermost(self), registers)
					       ? HVP_JOURNAL_NOT_BEGUN
					       : HVP_JOURNAL_HOME,
				       error);
	}
	return !is_redirection(innermost(self)) || pop(self, HVP_JOURNAL_HOME, error);
}

bool hvp_frames_take_back(HvpFrames *self, GError **error)
{
	bool redirected = true;

	/* Under a redirection there may be a call that has not begun. */
	while (redirected && self->frame_count > 0) {
		redirected = is_redirection(innermost(self));
		if (!take_back_innermost(self, error))
			return false;
	}
	return true;
}

/* One step of going home; *@ret_done when nothing is left to do without running. */
static bool go_home_once(HvpFrames *self, bool *ret_done, GError **error)
{
	guint index = 0;

	*ret_done = false;
	switch (hvp_frames_find(self, &index)) {
	case HVP_FRAMES_RETURN:
		return restore(self, index, HVP_JOURNAL_HOME, error);
	case HVP_FRAMES_HOOK:
		return hvp_frames_answer(
			self, index, find_hook(self, self->vcpus->registers[index].rip)->failure,
			error);
	case HVP_FRAMES_TRAP:
	case HVP_FRAMES_BYSTANDER:
		/* Stepping runs the VM, which is for its owner to decide while it paused it. */
		*ret_done = self->vcpus->owner_paused;
		return *ret_done || hvp_frames_pass_bystanders(self, error);
	case HVP_FRAMES_NOTHING:
		*ret_done = true;
	}
	return true;
}

bool hvp_frames_go_home(HvpFrames *self, GError **error)
{
	bool done = false;

	self->trap_count = 0;
	if (!plant(self, error))
		return false;
	for (guint round = 0; round < MAX_ROUNDS && !done; round++)
		if (!go_home_once(self, &done, error))
			return false;
	if (self->frame_count > 0)
		return true;
	self->hook_count = 0;
	return plant(self, error);
}

bool hvp_frames_forget_frames(HvpFrames *self, GError **error)
{
	if (hvp_vcpus_uses_spins(self->vcpus)) {
		self->trap_count = 0;
		self->hook_count = 0;
		hvp_vcpus_forget_spins(self->vcpus);
	}
	while (self->frame_count > 0)
		if (!pop(self, HVP_JOURNAL_HOME, error))
			return false;
	return true;
}
