/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/requests.h"

#include <string.h>

#include "base/bytes.h"
#include "keeper/home.h"
#include "keeper/journal.h"
#include "keeper/reach.h"
#include "vm/ram-jobs.h"

#define ASK_USEC (3 * G_USEC_PER_SEC)

static bool require(bool condition, const char *what, GError **error)
{
	return condition || hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s", what);
}

static bool require_stopped(HvpSession *self, GError **error)
{
	return require(self->vcpus.backend != NULL && self->vcpus.stopped, "the VM is not stopped",
		       error);
}

static bool require_attached(HvpSession *self, GError **error)
{
	return require(self->vcpus.backend != NULL, "not attached", error);
}

static bool require_budget(gint64 usec, GError **error)
{
	return require(usec > 0 && usec <= HVP_WIRE_MAX_BUDGET_USEC,
		       "the budget is not between 1 us and 60 s", error);
}

static bool done(HvpSession *self)
{
	hvp_session_answer_ok(self, NULL, 0);
	return true;
}

static bool on_attach(HvpSession *self, GError **error)
{
	HvpBackend *backend;

	if (!require(self->vcpus.backend == NULL, "attached already", error) ||
	    !hvp_journal_append(self->journal_fd, HVP_JOURNAL_ATTACH, NULL, 0, error))
		return false;
	backend = hvp_reach_running(self, error);
	if (backend == NULL)
		return false;
	hvp_vcpus_begin(&self->vcpus, backend, false);
	self->reattached = false;
	hvp_session_begin(self);
	return done(self);
}

static bool on_place(HvpSession *self, const guint8 *bytes, gsize length_bytes, GError **error)
{
	HvpCursor cursor = hvp_cursor(bytes, length_bytes);
	const guint8 *start = hvp_cursor_take(&cursor, sizeof(HvpWirePlace));
	gsize rest_bytes = length_bytes - cursor.offset_bytes;
	HvpWirePlace place;
	HvpRamRange ranges[HVP_RAM_MAX_RANGES];

	if (!require(self->vcpus.backend == NULL, "attached already", error) ||
	    !require(start != NULL && rest_bytes % sizeof *ranges == 0 &&
			     rest_bytes <= sizeof ranges,
		     "malformed request", error))
		return false;
	memcpy(&place, start, sizeof place);
	memcpy(ranges, start + sizeof place, rest_bytes);
	return hvp_reach_set_place(self, &place, ranges, rest_bytes / sizeof *ranges, error) &&
	       done(self);
}

/* Takes the parts of ADOPT apart, into frames and sites. */
static bool load_adopted(HvpSession *self, const HvpWireAdopt *head, HvpCursor *cursor,
			 GError **error)
{
	static HvpKeeperWrite writes[HVP_KEEPER_MAX_WRITES];
	static HvpKeeperSpin spins[HVP_KEEPER_MAX_SPINS];
	const void *frames, *hooks, *sites, *bytes;

	if (!require(head->frame_count <= HVP_KEEPER_MAX_FRAMES &&
			     head->hook_count <= HVP_KEEPER_MAX_TRAPS &&
			     head->spin_count <= HVP_KEEPER_MAX_SPINS &&
			     head->write_count <= HVP_KEEPER_MAX_WRITES,
		     "too many frames, hooks, spin traps or writes", error))
		return false;
	frames = hvp_cursor_take(cursor, head->frame_count * sizeof(HvpKeeperFrame));
	hooks = hvp_cursor_take(cursor, head->hook_count * sizeof(HvpKeeperHook));
	sites = hvp_cursor_take(cursor, head->spin_count * sizeof(HvpKeeperSpin));
	bytes = hvp_cursor_take(cursor, head->write_count * sizeof(HvpKeeperWrite));
	if (!require(!cursor->failed && cursor->offset_bytes == cursor->length_bytes,
		     "malformed request", error))
		return false;
	memcpy(self->frames.frames, frames, head->frame_count * sizeof(HvpKeeperFrame));
	memcpy(self->frames.hooks, hooks, head->hook_count * sizeof(HvpKeeperHook));
	memcpy(spins, sites, head->spin_count * sizeof(HvpKeeperSpin));
	memcpy(writes, bytes, head->write_count * sizeof(HvpKeeperWrite));
	/* Where their records stand is not known. */
	for (gsize i = 0; i < head->frame_count; i++)
		self->frames.journal_at[i] = -1;
	self->frames.frame_count = head->frame_count;
	self->frames.hook_count = head->hook_count;
	self->frames.started = true;
	return hvp_spins_set(&self->vcpus.spins, spins, head->spin_count, error) &&
	       hvp_sites_adopt(&self->sites, writes, head->write_count, error);
}

static void forget_adopted(HvpSession *self)
{
	self->frames.frame_count = 0;
	self->frames.hook_count = 0;
	self->vcpus.spins.count = 0;
	self->sites.count = 0;
}

static bool adopt_attached(HvpSession *self, const HvpWireAdopt *head, GError **error)
{
	bool stopped;
	HvpBackend *backend = hvp_reach_leftover(self, &stopped, error);

	if (backend == NULL) {
		forget_adopted(self);
		return false;
	}
	hvp_vcpus_begin(&self->vcpus, backend, stopped);
	self->reattached = false;
	hvp_session_begin(self);
	for (gsize i = 0; i < self->frames.frame_count; i++) {
		if (hvp_frames_check_frame(&self->frames, &self->frames.frames[i], NULL))
			continue;
		self->frames.frame_count = 0;
		return hvp_error_set(error, HVP_ERROR_INCONSISTENT,
				     "the journal's frames do not fit this VM");
	}
	return !head->roll_forward || hvp_sites_roll_forward(&self->sites, backend, error);
}

static bool on_adopt(HvpSession *self, const guint8 *bytes, gsize length_bytes, GError **error)
{
	HvpCursor cursor = hvp_cursor(bytes, length_bytes);
	const guint8 *start = hvp_cursor_take(&cursor, sizeof(HvpWireAdopt));
	HvpWireAdopt head;

	if (!require(self->vcpus.backend == NULL, "attached already", error) ||
	    !require(start != NULL, "malformed request", error))
		return false;
	memcpy(&head, start, sizeof head);
	self->has_adopted = true;
	if (!load_adopted(self, &head, &cursor, error)) {
		forget_adopted(self);
		return false;
	}
	if (!adopt_attached(self, &head, error)) {
		/* What cannot be verified as done is not undone either. */
		self->sites.count = head.roll_forward ? 0 : self->sites.count;
		return false;
	}
	self->pending = HVP_SESSION_PENDING_ADOPT;
	self->pending_deadline = (HvpDeadline){ head.deadline_at_usec };
	self->stays_attached = true;
	hvp_home_go(self);
	return true;
}

static bool on_detach(HvpSession *self, GError **error)
{
	return require_attached(self, error) &&
	       require(!hvp_home_is_needed(self), "a call is under way or writes are not committed",
		       error) &&
	       hvp_home_leave(self, error) && done(self);
}

/* Without a monitor the tool has others to ask. */
static bool on_jobs(HvpSession *self, GError **error)
{
	g_autofree char *job = NULL;

	if (!require_attached(self, error) ||
	    !require(!self->vcpus.stopped && self->vcpus.planted_count == 0,
		     "the VM is stopped, or has traps", error))
		return false;
	if (self->qmp != NULL &&
	    !hvp_ram_jobs_ask(self->qmp, self->by_kvm ? self->place.pid : 0,
				     hvp_deadline_in(ASK_USEC), &job, error))
		return false;
	if (job == NULL)
		return done(self);
	return hvp_error_set(error, HVP_ERROR_BUSY, "%s: it would take a trap along", job);
}

static bool on_stop(HvpSession *self, const HvpWireStop *request, GError **error)
{
	if (!require_attached(self, error) || !require_budget(request->budget_usec, error) ||
	    !hvp_session_stop(self, error))
		return false;
	hvp_session_start_budget(self, request->budget_usec);
	if (!hvp_session_read_registers(self, error))
		return false;
	hvp_session_answer_stop(self);
	return true;
}

static bool on_resume(HvpSession *self, GError **error)
{
	gint64 start = g_get_monotonic_time();

	if (!require_stopped(self, error) || !hvp_session_resume(self, error))
		return false;
	start = g_get_monotonic_time() - start;
	hvp_session_answer_ok(self, &start, sizeof start);
	return true;
}

/* While stopped: answers WAIT when some vCPU stands where it is the tool's business. */
bool hvp_requests_answer_wait(HvpSession *self, bool *ret_answered, GError **error)
{
	guint index;

	*ret_answered = false;
	if (!hvp_frames_pass_bystanders(&self->frames, error))
		return false;
	if (hvp_frames_find(&self->frames, &index) < HVP_FRAMES_TRAP)
		return true;
	if (!hvp_session_read_registers(self, error))
		return false;
	hvp_session_start_budget(self, self->budget_usec);
	self->pending = HVP_SESSION_PENDING_NOTHING;
	*ret_answered = true;
	hvp_session_answer_stop(self);
	return true;
}

static bool on_wait(HvpSession *self, const HvpWireWait *request, GError **error)
{
	bool answered;

	if (!require_attached(self, error) || !require_budget(request->budget_usec, error))
		return false;
	self->budget_usec = request->budget_usec;
	self->stop_usec = 0;
	if (self->vcpus.stopped) {
		if (!hvp_vcpus_read_all(&self->vcpus, error) ||
		    !hvp_requests_answer_wait(self, &answered, error))
			return false;
		if (answered)
			return true;
	}
	self->pending = HVP_SESSION_PENDING_WAIT;
	self->pending_deadline = (HvpDeadline){ request->deadline_at_usec };
	hvp_session_look_soon(self);
	return hvp_session_resume(self, error);
}

/* Whether after @error everything is as it was before the request. */
static bool is_refusal(const HvpSession *self, const GError *error)
{
	HvpWireType type = hvp_wire_get_type(&self->request);

	if (self->vcpus.backend == NULL)
		return type != HVP_WIRE_DETACH;
	if (hvp_backend_has_failed(self->vcpus.backend))
		return false;
	if (type == HVP_WIRE_WRITE && error->code != HVP_ERROR_INVALID_ARGUMENT)
		return (error->code == HVP_ERROR_CONFLICT && self->sites.foreign) ||
		       (error->code == HVP_ERROR_BUSY && self->sites.cold);
	return type != HVP_WIRE_ADOPT &&
	       (error->code == HVP_ERROR_INVALID_ARGUMENT || error->code == HVP_ERROR_BUSY);
}

/* @change is made while stopped; a VM that ran runs again, also where that is refused. */
static bool while_stopped(HvpSession *self, bool (*change)(HvpSession *self, GError **error),
			  GError **error)
{
	bool ran = !self->vcpus.stopped, ok;

	if (!require_attached(self, error) || !hvp_session_stop(self, error))
		return false;
	ok = hvp_session_check_guest(self, error) && hvp_session_check_mark(self, error) &&
	     change(self, error);
	if (ran && (ok || is_refusal(self, *error)) &&
	    !hvp_session_resume(self, ok ? error : NULL))
		return false;
	return ok && done(self);
}

static bool change_traps(HvpSession *self, GError **error)
{
	HvpGva pcs[HVP_KEEPER_MAX_TRAPS];
	gsize length_bytes;
	const guint8 *bytes = hvp_wire_get_payload(&self->request, &length_bytes);

	memcpy(pcs, bytes, MIN(length_bytes, sizeof pcs));
	return hvp_frames_set_traps(&self->frames, pcs, length_bytes / sizeof(HvpGva), error);
}

static bool change_hooks(HvpSession *self, GError **error)
{
	HvpKeeperHook hooks[HVP_KEEPER_MAX_TRAPS];
	gsize length_bytes;
	const guint8 *bytes = hvp_wire_get_payload(&self->request, &length_bytes);

	memcpy(hooks, bytes, MIN(length_bytes, sizeof hooks));
	return hvp_frames_set_hooks(&self->frames, hooks, length_bytes / sizeof(HvpKeeperHook),
				    error);
}

static bool on_spins(HvpSession *self, const guint8 *bytes, gsize length_bytes, GError **error)
{
	static HvpKeeperSpin sites[HVP_KEEPER_MAX_SPINS];

	memcpy(sites, bytes, MIN(length_bytes, sizeof sites));
	return require_attached(self, error) &&
	       hvp_frames_set_spins(&self->frames, sites, length_bytes / sizeof *sites, error) &&
	       done(self);
}

static bool on_divert(HvpSession *self, const HvpWireDivert *request, GError **error)
{
	return require_stopped(self, error) &&
	       hvp_frames_divert(&self->frames, &request->frame, &request->registers, error) &&
	       done(self);
}

static bool on_redirect(HvpSession *self, const HvpWireRedirect *request, GError **error)
{
	return require_stopped(self, error) &&
	       hvp_frames_redirect(&self->frames, request->vcpu_index, hvp_gva(request->pc),
				   request->argument, error) &&
	       done(self);
}

static bool on_vcpu(HvpSession *self, HvpWireType type, const HvpWireVcpu *request, GError **error)
{
	guint index = request->vcpu_index;

	if (!require_stopped(self, error))
		return false;
	switch (type) {
	case HVP_WIRE_PASS:
		return hvp_frames_pass(&self->frames, index, error) && done(self);
	case HVP_WIRE_HOME:
		return hvp_frames_come_home(&self->frames, index, error) && done(self);
	default:
		return hvp_frames_answer(&self->frames, index, request->value, error) && done(self);
	}
}

/* QEMU does not see what is written by kvm: whoever recovers may have to write it once more. */
static bool note_data(HvpSession *self, guint64 gpa, gsize length_bytes, GError **error)
{
	HvpJournalData data = { .gpa = hvp_gpa(gpa), .length_bytes = length_bytes };

	return !self->by_kvm ||
	       hvp_journal_append(self->journal_fd, HVP_JOURNAL_DATA, &data, sizeof data, error);
}

static bool on_data(HvpSession *self, const guint8 *bytes, gsize length_bytes, GError **error)
{
	guint64 gpa;

	if (!require_stopped(self, error) ||
	    !require(length_bytes > sizeof gpa, "malformed request", error))
		return false;
	memcpy(&gpa, bytes, sizeof gpa);
	return note_data(self, gpa, length_bytes - sizeof gpa, error) &&
	       hvp_backend_write_physical(self->vcpus.backend, hvp_gpa(gpa), bytes + sizeof gpa,
					  length_bytes - sizeof gpa, error) &&
	       done(self);
}

static bool on_write(HvpSession *self, const guint8 *bytes, gsize length_bytes, GError **error)
{
	static HvpKeeperWrite writes[HVP_KEEPER_MAX_WRITES];

	if (!require_stopped(self, error) ||
	    !require(length_bytes <= sizeof writes, "too many writes", error))
		return false;
	memcpy(writes, bytes, length_bytes);
	return hvp_sites_write(&self->sites, self->vcpus.backend, writes,
			       length_bytes / sizeof *writes, error) &&
	       done(self);
}

/* The payload of each request: a struct, or a number of them (count_max > 1). */
static bool size_fits(HvpWireType type, gsize length_bytes)
{
	switch (type) {
	case HVP_WIRE_ATTACH:
	case HVP_WIRE_DETACH:
	case HVP_WIRE_JOBS:
	case HVP_WIRE_RESUME:
	case HVP_WIRE_COMMIT:
		return length_bytes == 0;
	case HVP_WIRE_STOP:
		return length_bytes == sizeof(HvpWireStop);
	case HVP_WIRE_WAIT:
		return length_bytes == sizeof(HvpWireWait);
	case HVP_WIRE_DIVERT:
		return length_bytes == sizeof(HvpWireDivert);
	case HVP_WIRE_REDIRECT:
		return length_bytes == sizeof(HvpWireRedirect);
	case HVP_WIRE_PASS:
	case HVP_WIRE_HOME:
	case HVP_WIRE_ANSWER:
		return length_bytes == sizeof(HvpWireVcpu);
	case HVP_WIRE_TRAPS:
		return length_bytes % sizeof(HvpGva) == 0;
	case HVP_WIRE_HOOKS:
		return length_bytes % sizeof(HvpKeeperHook) == 0;
	case HVP_WIRE_WRITE:
		return length_bytes % sizeof(HvpKeeperWrite) == 0;
	case HVP_WIRE_SPINS:
		return length_bytes % sizeof(HvpKeeperSpin) == 0;
	default:
		return true;
	}
}

static bool dispatch(HvpSession *self, GError **error)
{
	union {
		HvpWireStop stop;
		HvpWireWait wait;
		HvpWireDivert divert;
		HvpWireRedirect redirect;
		HvpWireVcpu vcpu;
	} fixed = { 0 };
	gsize length_bytes;
	const guint8 *bytes = hvp_wire_get_payload(&self->request, &length_bytes);
	HvpWireType type = hvp_wire_get_type(&self->request);

	if (!require(size_fits(type, length_bytes), "malformed request", error))
		return false;
	memcpy(&fixed, bytes, MIN(length_bytes, sizeof fixed));
	switch (type) {
	case HVP_WIRE_ATTACH:
		return on_attach(self, error);
	case HVP_WIRE_PLACE:
		return on_place(self, bytes, length_bytes, error);
	case HVP_WIRE_ADOPT:
		return on_adopt(self, bytes, length_bytes, error);
	case HVP_WIRE_DETACH:
		return on_detach(self, error);
	case HVP_WIRE_JOBS:
		return on_jobs(self, error);
	case HVP_WIRE_STOP:
		return on_stop(self, &fixed.stop, error);
	case HVP_WIRE_WAIT:
		return on_wait(self, &fixed.wait, error);
	case HVP_WIRE_RESUME:
		return on_resume(self, error);
	case HVP_WIRE_TRAPS:
		return while_stopped(self, change_traps, error);
	case HVP_WIRE_HOOKS:
		return while_stopped(self, change_hooks, error);
	case HVP_WIRE_SPINS:
		return on_spins(self, bytes, length_bytes, error);
	case HVP_WIRE_DIVERT:
		return on_divert(self, &fixed.divert, error);
	case HVP_WIRE_REDIRECT:
		return on_redirect(self, &fixed.redirect, error);
	case HVP_WIRE_PASS:
	case HVP_WIRE_HOME:
	case HVP_WIRE_ANSWER:
		return on_vcpu(self, type, &fixed.vcpu, error);
	case HVP_WIRE_DATA:
		return on_data(self, bytes, length_bytes, error);
	case HVP_WIRE_WRITE:
		return on_write(self, bytes, length_bytes, error);
	case HVP_WIRE_COMMIT:
		return require_stopped(self, error) &&
		       hvp_sites_commit(&self->sites, self->vcpus.backend, error) && done(self);
	default:
		return require(false, "unknown request", error);
	}
}

void hvp_requests_handle(HvpSession *self)
{
	g_autoptr(GError) error = NULL;

	if (self->ended != NULL) {
		hvp_session_answer_error(self, self->ended);
		return;
	}
	if (self->going_home) {
		hvp_error_set(&error, HVP_ERROR_BUSY, "a call is still under way");
		hvp_session_answer_error(self, error);
		return;
	}
	if (dispatch(self, &error))
		return;
	if (self->ended == NULL && is_refusal(self, error)) {
		hvp_session_answer_error(self, error);
		return;
	}
	self->pending = HVP_SESSION_PENDING_NOTHING;
	if (self->ended == NULL)
		hvp_home_end(self, hvp_home_as_undone(error));
	hvp_session_answer_error(self, self->ended);
}
