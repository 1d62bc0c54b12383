/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/home.h"

#include "keeper/journal.h"
#include "keeper/reach.h"

/* Nothing is attached any more, or nothing can be done about it. */
static void let_go(HvpSession *self)
{
	g_clear_pointer(&self->vcpus.backend, hvp_backend_free);
	self->vcpus.stopped = false;
	self->vcpus.spins.count = 0;
	self->budget_runs = false;
	self->going_home = false;
	self->has_set_out = false;
	self->stays_attached = false;
}

/* Leaves nothing of ours in the backend; stops the VM only where there is something. */
static bool clean_up(HvpSession *self, GError **error)
{
	self->frames.trap_count = 0;
	self->frames.hook_count = 0;
	if (self->vcpus.planted_count == 0 &&
	    !hvp_backend_needs_restore(self->vcpus.backend))
		return true;
	return hvp_session_stop(self, error) &&
	       hvp_frames_set_traps(&self->frames, NULL, 0, error) &&
	       hvp_backend_restore(self->vcpus.backend, error);
}

bool hvp_home_leave(HvpSession *self, GError **error)
{
	HvpBackend *backend = self->vcpus.backend;
	bool run = !self->vcpus.owner_paused;

	if (!clean_up(self, error) || !hvp_session_resume(self, error))
		return false;
	self->vcpus.backend = NULL;
	let_go(self);
	if (!hvp_reach_leave(self, backend, run, error))
		return false;
	/* Without it, recover looks for what is not there any more. */
	(void)!hvp_journal_append(self->journal_fd, HVP_JOURNAL_DETACH, NULL, 0, NULL);
	return true;
}

/* Only ADOPT ends well here. */
static void answer_pending(HvpSession *self)
{
	HvpSessionPending pending = self->pending;

	self->pending = HVP_SESSION_PENDING_NOTHING;
	if (pending == HVP_SESSION_PENDING_NOTHING)
		return;
	if (self->ended != NULL)
		hvp_session_answer_error(self, self->ended);
	else
		hvp_session_answer_ok(self, NULL, 0);
}

static bool arrive(HvpSession *self, GError **error)
{
	if (!self->stays_attached || self->ended != NULL) {
		if (!hvp_home_leave(self, error))
			return false;
	} else if (!hvp_session_resume(self, error)) {
		return false;
	}
	/* All of them are removed. */
	self->vcpus.spins.count = 0;
	self->going_home = false;
	self->has_set_out = false;
	self->stays_attached = false;
	answer_pending(self);
	return true;
}

static void forget_frames(HvpSession *self)
{
	if (!hvp_frames_forget_frames(&self->frames, NULL))
		self->frames.frame_count = 0;
}

/*
 * Without a monitor: whether it is sure whose registers these are. After a reset they are
 * nobody's that we know.
 */
static bool is_sure(HvpSession *self)
{
	HvpGuestMarkVerdict verdict = hvp_session_judge_guest(self);

	if (verdict == HVP_GUEST_MARK_RESET)
		forget_frames(self);
	return verdict != HVP_GUEST_MARK_UNSURE;
}

/* Nobody gets registers now: it sets out again at another moment. */
static bool wait_until_sure(HvpSession *self, GError **error)
{
	self->has_set_out = false;
	hvp_session_look_later(self);
	return hvp_session_resume(self, error);
}

/* While stopped: all that can be done without the guest; then waits for the rest. */
static bool advance_home(HvpSession *self, GError **error)
{
	if (!is_sure(self))
		return wait_until_sure(self, error);
	if (!hvp_vcpus_read_all(&self->vcpus, error) || !hvp_frames_go_home(&self->frames, error))
		return false;
	if (self->frames.frame_count == 0)
		return arrive(self, error);
	hvp_session_look_later(self);
	return hvp_session_resume(self, error);
}

static bool undo(HvpSession *self, GError **error)
{
	GError *local = NULL;

	if (hvp_sites_undo(&self->sites, self->vcpus.backend, &local))
		return true;
	if (!g_error_matches(local, HVP_ERROR, HVP_ERROR_INCONSISTENT)) {
		g_propagate_error(error, local);
		return false;
	}
	/* Nothing more can be done about those bytes; the threads still go home. */
	hvp_session_set_ended(self, HVP_ERROR_INCONSISTENT, local->message);
	g_error_free(local);
	return true;
}

/*
 * The monitor is not listened to while the VM stands. Whose registers the reset changed is
 * no thread of ours: it must not get those of before.
 */
static void notice_reset(HvpSession *self)
{
	guint64 resets;

	if (self->qmp == NULL)
		return;
	if (!self->monitor_lost && !hvp_qmp_drain_events(self->qmp, NULL))
		self->monitor_lost = true;
	resets = hvp_qmp_get_event_count(self->qmp, HVP_QMP_EVENT_RESET);
	if (resets == self->resets)
		return;
	self->resets = resets;
	forget_frames(self);
}

/* It may be its owner who has just stopped it. */
static bool stand(HvpSession *self, GError **error)
{
	GError *local = NULL;

	if (hvp_session_stop(self, &local))
		return true;
	if (!self->vcpus.owner_paused || !self->vcpus.stopped) {
		g_propagate_error(error, local);
		return false;
	}
	g_error_free(local);
	return true;
}

/* Nothing of ours is in the guest, and it runs: it need not be stopped to leave it. */
static bool has_nothing_there(const HvpSession *self)
{
	return hvp_backend_runs_when_let_go(self->vcpus.backend) && !self->vcpus.stopped &&
	       !hvp_home_is_needed(self) && self->vcpus.spins.count == 0;
}

/*
 * Whether @reason is but a moment, however long (its owner paused it), at which vCPUs that run
 * by themselves could not be stopped: their VM is none of ours to resume, and it is tried again.
 */
static bool may_wait(const HvpSession *self, const GError *reason)
{
	return hvp_backend_runs_when_let_go(self->vcpus.backend) && !self->vcpus.stopped &&
	       (g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY) ||
		g_error_matches(reason, HVP_ERROR, HVP_ERROR_TIMED_OUT));
}

static bool take_back(HvpSession *self, GError **error)
{
	bool sure;

	notice_reset(self);
	sure = is_sure(self);
	if (!hvp_vcpus_find_planted(&self->vcpus, error) || !undo(self, error))
		return false;
	if (!sure)
		return wait_until_sure(self, error);
	if (!hvp_vcpus_read_all(&self->vcpus, error) ||
	    !hvp_frames_take_back(&self->frames, error))
		return false;
	self->has_set_out = true;
	return advance_home(self, error);
}

static bool set_out(HvpSession *self, GError **error)
{
	GError *local = NULL;

	if (!self->going_home)
		hvp_session_look_soon(self);
	self->going_home = true;
	self->has_set_out = false;
	self->budget_runs = false;
	if (has_nothing_there(self))
		return arrive(self, error);
	if (stand(self, &local))
		return take_back(self, error);
	if (!may_wait(self, local)) {
		g_propagate_error(error, local);
		return false;
	}
	g_error_free(local);
	return true;
}

/* The connection to the backend is of no use: takes it down and makes another, once. */
static bool reattach(HvpSession *self, GError **error)
{
	HvpBackend *backend;
	bool stopped;

	if (self->reattached)
		return hvp_error_set(error, HVP_ERROR_INCONSISTENT, "it failed twice");
	self->reattached = true;
	/* Whoever was given registers has run with them, or not: he is not to get others. */
	if (hvp_backend_runs_when_let_go(self->vcpus.backend))
		hvp_frames_starts(&self->frames);
	g_clear_pointer(&self->vcpus.backend, hvp_backend_free);
	backend = hvp_reach_leftover(self, &stopped, error);
	if (backend == NULL)
		return false;
	hvp_vcpus_begin(&self->vcpus, backend, stopped);
	return set_out(self, error);
}

bool hvp_home_is_needed(const HvpSession *self)
{
	return self->frames.frame_count > 0 || self->sites.count > 0;
}

/*
 * Without our traps a thread that is out would run into nowhere, and at a spin trap that could not
 * be removed threads would stand: then it stays paused.
 */
static void resume_by_monitor(HvpSession *self)
{
	if (self->monitor_lost || !self->vcpus.stopped || self->vcpus.owner_paused ||
	    self->frames.frame_count > 0 ||
	    (hvp_vcpus_uses_spins(&self->vcpus) && self->vcpus.planted_count > 0))
		return;
	if (!hvp_reach_ensure_running(self, NULL))
		self->monitor_lost = true;
}

/* Going home failed for @why (taken). */
static void give_up(HvpSession *self, GError *why)
{
	bool harmless = !hvp_home_is_needed(self) && self->vcpus.planted_count == 0;
	g_autofree char *message = NULL;

	if (g_error_matches(why, HVP_ERROR, HVP_ERROR_VM_GONE) ||
	    (harmless && g_error_matches(why, HVP_ERROR, HVP_ERROR_CONFLICT))) {
		hvp_session_set_ended(self, (HvpErrorCode)why->code, why->message);
		resume_by_monitor(self);
	} else {
		message = g_strdup_printf("%s; going home failed: %s",
					  self->ended ? self->ended->message : "recovery",
					  why->message);
		hvp_session_set_ended(self, HVP_ERROR_INCONSISTENT, message);
		resume_by_monitor(self);
	}
	let_go(self);
	answer_pending(self);
	g_error_free(why);
}

/* A stub may be gone without its VM; a process that is gone is gone. */
static bool is_over(const HvpSession *self, const GError *why)
{
	return self->by_kvm && g_error_matches(why, HVP_ERROR, HVP_ERROR_VM_GONE);
}

void hvp_home_go_anew(HvpSession *self, GError *why)
{
	GError *error = NULL;

	if (self->vcpus.backend != NULL && !self->monitor_lost && !is_over(self, why) &&
	    reattach(self, &error)) {
		/* Somebody closed only our connection. */
		if (g_error_matches(self->ended, HVP_ERROR, HVP_ERROR_VM_GONE))
			self->ended->code = HVP_ERROR_CONFLICT;
		g_error_free(why);
		return;
	}
	if (error != NULL) {
		g_error_free(why);
		why = error;
	}
	give_up(self, why);
}

void hvp_home_go(HvpSession *self)
{
	GError *error = NULL;

	if (self->vcpus.backend == NULL)
		return;
	if (!(self->has_set_out ? advance_home(self, &error) : set_out(self, &error)))
		hvp_home_go_anew(self, error);
}

void hvp_home_end(HvpSession *self, GError *why)
{
	self->stays_attached = false;
	if (self->ended == NULL)
		self->ended = g_error_copy(why);
	if (self->vcpus.backend != NULL && hvp_backend_has_failed(self->vcpus.backend))
		hvp_home_go_anew(self, g_error_copy(why));
	else if (!self->going_home)
		hvp_home_go(self);
	g_error_free(why);
	answer_pending(self);
}

void hvp_home_end_with(HvpSession *self, HvpErrorCode code, const char *message)
{
	GError *why = NULL;

	hvp_error_set(&why, code, "%s", message);
	hvp_home_end(self, why);
}

GError *hvp_home_as_undone(const GError *error)
{
	GError *undone = NULL;

	if (g_error_matches(error, HVP_ERROR, HVP_ERROR_VM_GONE) ||
	    g_error_matches(error, HVP_ERROR, HVP_ERROR_CONFLICT) ||
	    g_error_matches(error, HVP_ERROR, HVP_ERROR_INCONSISTENT))
		return g_error_copy(error);
	hvp_error_set(&undone, HVP_ERROR_UNDONE, "%s; rolled back and resumed", error->message);
	return undone;
}

void hvp_home_end_reset(HvpSession *self)
{
	bool under_way = self->going_home;
	GError *error = NULL;

	/* A journal that cannot be written says more than is left to do. */
	forget_frames(self);
	hvp_home_end_with(self, HVP_ERROR_CONFLICT, "the VM was reset");
	if (under_way && self->vcpus.backend != NULL && !set_out(self, &error))
		hvp_home_go_anew(self, error);
}
