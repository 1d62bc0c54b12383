/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/session.h"

#include <string.h>

#define ANSWER_TIMEOUT_USEC (G_USEC_PER_SEC / 10)

/* How long after resuming the vCPUs are looked at, first and at most. */
#define FIRST_LOOK_USEC 500
#define LAST_LOOK_USEC (20 * 1000)
/* A tool that has not looked for so long does not come back; threads may stand at its traps. */
#define LAST_LOOK_LIMIT_USEC (2 * G_USEC_PER_SEC)

void hvp_session_drop_tool(HvpSession *self)
{
	if (self->tool_fd >= 0)
		self->dropped_fd = self->tool_fd;
	self->tool_fd = -1;
	self->pending = HVP_SESSION_PENDING_NOTHING;
}

/* A tool that does not read its answer is as good as gone. */
void hvp_session_send_answer(HvpSession *self)
{
	if (self->tool_fd >= 0 &&
	    !hvp_wire_send(&self->answer, self->tool_fd, hvp_deadline_in(ANSWER_TIMEOUT_USEC),
			   NULL))
		hvp_session_drop_tool(self);
}

void hvp_session_answer_ok(HvpSession *self, const void *bytes, gsize length_bytes)
{
	hvp_wire_begin(&self->answer, HVP_WIRE_OK);
	if (hvp_wire_append(&self->answer, bytes, length_bytes))
		hvp_session_send_answer(self);
}

void hvp_session_answer_error(HvpSession *self, const GError *error)
{
	HvpWireError failure = { .code = (guint32)error->code, .ended = self->ended != NULL };

	g_strlcpy(failure.message, error->message, sizeof failure.message);
	hvp_wire_begin(&self->answer, HVP_WIRE_ERROR);
	if (hvp_wire_append(&self->answer, &failure, sizeof failure))
		hvp_session_send_answer(self);
}

void hvp_session_answer_stop(HvpSession *self)
{
	guint index = 0;
	HvpFramesPlace place = hvp_frames_find(&self->frames, &index);
	bool trapped = place > HVP_FRAMES_BYSTANDER;
	HvpWireStopped stopped = {
		.vcpu_count = self->vcpus.count,
		.trapped_vcpu = trapped ? (gint32)index : -1,
		.trap = trapped ? self->vcpus.registers[index].rip : 0,
		.stop_usec = self->stop_usec,
		.registers_usec = self->registers_usec,
	};

	hvp_wire_begin(&self->answer, HVP_WIRE_OK);
	if (hvp_wire_append(&self->answer, &stopped, sizeof stopped) &&
	    hvp_wire_append(&self->answer, self->vcpus.registers,
			    self->vcpus.count * sizeof(HvpRegisters)))
		hvp_session_send_answer(self);
}

void hvp_session_start_budget(HvpSession *self, gint64 usec)
{
	self->budget_usec = usec;
	self->budget = hvp_deadline_in(usec);
	self->budget_runs = true;
}

bool hvp_session_stop(HvpSession *self, GError **error)
{
	bool stood = self->vcpus.stopped;

	self->stop_usec = 0;
	if (!hvp_vcpus_stop(&self->vcpus, error))
		return false;
	if (!stood)
		self->stop_usec = g_get_monotonic_time() - self->vcpus.asked_usec;
	return true;
}

bool hvp_session_read_registers(HvpSession *self, GError **error)
{
	gint64 start = g_get_monotonic_time();

	if (!hvp_vcpus_read_all(&self->vcpus, error) || !hvp_session_check_guest(self, error))
		return false;
	self->registers_usec = g_get_monotonic_time() - start;
	return true;
}

/* Whether something of ours is in the guest, or somebody waits for its registers. */
static bool is_at_stake(const HvpSession *self)
{
	return self->frames.frame_count > 0 || self->sites.count > 0 ||
	       self->vcpus.planted_count > 0;
}

HvpGuestMarkVerdict hvp_session_judge_guest(HvpSession *self)
{
	bool was_known = self->mark.is_known;

	if (self->qmp != NULL || self->range_count == 0)
		return HVP_GUEST_MARK_SAME;
	if (!hvp_vcpus_read_all(&self->vcpus, NULL))
		return HVP_GUEST_MARK_UNSURE;
	if (!was_known)
		hvp_guest_mark_take(&self->mark, &self->vcpus);
	if (!is_at_stake(self))
		return HVP_GUEST_MARK_SAME;
	if (!was_known)
		return self->mark.is_known ? HVP_GUEST_MARK_SAME : HVP_GUEST_MARK_UNSURE;
	return hvp_guest_mark_judge(&self->mark, &self->vcpus);
}

bool hvp_session_check_guest(HvpSession *self, GError **error)
{
	switch (hvp_session_judge_guest(self)) {
	case HVP_GUEST_MARK_SAME:
		return true;
	case HVP_GUEST_MARK_RESET:
		return hvp_error_set(error, HVP_ERROR_CONFLICT, "the VM was reset");
	case HVP_GUEST_MARK_UNSURE:
		break;
	}
	return hvp_session_resume(self, error) &&
	       hvp_error_set(error, HVP_ERROR_BUSY, "no vCPU is in the guest's own kernel");
}

bool hvp_session_check_mark(const HvpSession *self, GError **error)
{
	return self->qmp != NULL || self->mark.is_known ||
	       hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "nothing would tell of the guest's reset: no vCPU has an interrupt "
			     "table of a kernel's, and there is no monitor");
}

void hvp_session_begin(HvpSession *self)
{
	self->mark.is_known = false;
	if (self->qmp != NULL)
		self->resets = hvp_qmp_get_event_count(self->qmp, HVP_QMP_EVENT_RESET);
}

bool hvp_session_resume(HvpSession *self, GError **error)
{
	hvp_frames_starts(&self->frames);
	if (!hvp_vcpus_resume(&self->vcpus, error))
		return false;
	self->budget_runs = false;
	self->last_look = hvp_deadline_in(LAST_LOOK_LIMIT_USEC);
	return true;
}

static void set_look(HvpSession *self, gint64 usec)
{
	self->look_usec = MIN(usec, LAST_LOOK_USEC);
	self->look = hvp_deadline_in(self->look_usec);
	if (self->pending == HVP_SESSION_PENDING_WAIT)
		self->look = hvp_deadline_min(self->look, self->pending_deadline);
}

void hvp_session_look_soon(HvpSession *self)
{
	set_look(self, FIRST_LOOK_USEC);
}

void hvp_session_look_later(HvpSession *self)
{
	set_look(self, 2 * self->look_usec);
}

bool hvp_session_is_spinning(const HvpSession *self)
{
	return self->vcpus.backend != NULL && !self->vcpus.stopped &&
	       hvp_vcpus_uses_spins(&self->vcpus) && self->vcpus.planted_count > 0;
}

/* At a moment at which the vCPUs could be stopped it would have set out. */
static bool waits_to_set_out(const HvpSession *self)
{
	return self->going_home && !self->has_set_out && self->vcpus.backend != NULL &&
	       !self->vcpus.stopped;
}

bool hvp_session_must_look(const HvpSession *self)
{
	return waits_to_set_out(self) ||
	       (hvp_session_is_spinning(self) &&
		(self->going_home || self->pending == HVP_SESSION_PENDING_WAIT));
}

void hvp_session_set_ended(HvpSession *self, HvpErrorCode code, const char *message)
{
	g_clear_error(&self->ended);
	hvp_error_set(&self->ended, code, "%s", message);
}
