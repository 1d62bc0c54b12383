/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/loop.h"

#include <poll.h>
#include <sched.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "keeper/home.h"
#include "keeper/journal.h"
#include "keeper/requests.h"

#define STATUS_USEC G_USEC_PER_SEC
/* Of the journal, for going home; and for a recovery, of one that has nearly all. */
#define SPARE_BYTES (2U << 20)
/* While the guest stands, the tool's next request is here before somebody asleep were woken. */
#define SPIN_USEC 100

static void on_tool(HvpSession *self)
{
	switch (hvp_wire_read(&self->request, self->tool_fd)) {
	case HVP_WIRE_READ_MORE:
		return;
	case HVP_WIRE_READ_DONE:
		if (self->pending == HVP_SESSION_PENDING_NOTHING) {
			self->frames.tool_waits = true;
			hvp_requests_handle(self);
			hvp_wire_clear(&self->request);
			return;
		}
		break;
	case HVP_WIRE_READ_CLOSED:
	case HVP_WIRE_READ_GARBAGE:
		break;
	}
	hvp_session_drop_tool(self);
}

/* A stop that nobody waits for: traps are passed, the borrowed thread is held. */
static bool hold(HvpSession *self, GError **error)
{
	guint index = 0;
	HvpFramesPlace place;

	if (!hvp_frames_pass_bystanders(&self->frames, error))
		return false;
	while ((place = hvp_frames_find(&self->frames, &index)) == HVP_FRAMES_TRAP)
		if (!hvp_frames_pass(&self->frames, index, error))
			return false;
	if (place <= HVP_FRAMES_BYSTANDER)
		return hvp_session_resume(self, error);
	hvp_session_start_budget(self, self->budget_usec);
	return true;
}

static bool handle_stop(HvpSession *self, GError **error)
{
	gint vcpu;
	bool answered;

	if (!hvp_vcpus_take_stop(&self->vcpus, &vcpu, error))
		return false;
	if (self->going_home)
		return true;
	if (vcpu >= 0 ? !hvp_vcpus_read(&self->vcpus, (guint)vcpu, error)
		      : !hvp_vcpus_read_all(&self->vcpus, error))
		return false;
	if (self->pending != HVP_SESSION_PENDING_WAIT)
		return hold(self, error);
	return hvp_requests_answer_wait(self, &answered, error) &&
	       (answered || hvp_session_resume(self, error));
}

static void on_failed_stop(HvpSession *self, GError *error)
{
	GError *why = hvp_home_as_undone(error);

	if (!self->going_home) {
		hvp_home_end(self, why);
	} else if (self->vcpus.owner_paused) {
		/* Its owner paused it on the way: we wait until that is over. */
		g_error_free(why);
		hvp_home_go(self);
	} else {
		hvp_home_go_anew(self, why);
	}
	g_error_free(error);
}

static void on_stub(HvpSession *self)
{
	GError *error = NULL;

	if (self->vcpus.stopped) {
		if (!hvp_backend_check_stopped(self->vcpus.backend, &error))
			on_failed_stop(self, error);
	} else if (!handle_stop(self, &error)) {
		on_failed_stop(self, error);
	} else if (self->going_home) {
		hvp_home_go(self);
	}
}

static void on_monitor(HvpSession *self)
{
	GError *error = NULL;

	if (hvp_qmp_drain_events(self->qmp, &error))
		return;
	self->monitor_lost = true;
	hvp_home_end(self, error);
}

/* The answer to a question of ours may have come behind the event. */
static void take_resets(HvpSession *self)
{
	guint64 resets;

	if (self->qmp == NULL || self->vcpus.backend == NULL || self->vcpus.stopped)
		return;
	resets = hvp_qmp_get_event_count(self->qmp, HVP_QMP_EVENT_RESET);
	if (resets == self->resets)
		return;
	self->resets = resets;
	hvp_home_end_reset(self);
}

static void on_signal(HvpSession *self)
{
	struct signalfd_siginfo info;

	if (read(self->signal_fd, &info, sizeof info) != sizeof info)
		return;
	self->terminated = true;
	hvp_home_end_with(self, HVP_ERROR_UNDONE,
			  "the keeper was told to end; rolled back and resumed");
}

static void on_budget(HvpSession *self)
{
	g_autofree char *message =
		g_strdup_printf("the pause outlived its budget of %" G_GINT64_FORMAT
				" ms; rolled back and resumed",
				self->budget_usec / 1000);

	hvp_home_end_with(self, HVP_ERROR_UNDONE, message);
}

/* Its owner has paused it: whether that is over only the monitor tells. */
static bool is_still_paused(HvpSession *self)
{
	bool running = false;

	/* Without a monitor whoever can be stopped runs. */
	if ((self->monitor_lost || self->qmp == NULL) &&
	    hvp_backend_runs_when_let_go(self->vcpus.backend))
		self->vcpus.owner_paused = false;
	if (!self->vcpus.owner_paused || self->monitor_lost || self->qmp == NULL)
		return self->vcpus.owner_paused;
	self->vcpus.owner_paused = !hvp_qmp_query_status(self->qmp, hvp_deadline_in(STATUS_USEC),
							 &running, NULL, NULL) ||
				   !running;
	return self->vcpus.owner_paused;
}

/* The vCPUs could not be stopped: where none runs, they are not tried again and again. */
static void note_pause(HvpSession *self)
{
	bool running = true;

	if (hvp_backend_runs_when_let_go(self->vcpus.backend) && !self->monitor_lost &&
	    self->qmp != NULL &&
	    hvp_qmp_query_status(self->qmp, hvp_deadline_in(STATUS_USEC), &running, NULL, NULL))
		self->vcpus.owner_paused = !running;
}

static void note_whether_tool_waits(HvpSession *self)
{
	self->frames.tool_waits = self->pending != HVP_SESSION_PENDING_NOTHING;
}

/* Who stands at a spin trap? */
static bool look(HvpSession *self, GError **error)
{
	bool answered;

	note_whether_tool_waits(self);
	if (!hvp_session_stop(self, error))
		return false;
	if (self->going_home) {
		hvp_home_go(self);
		return true;
	}
	hvp_session_look_later(self);
	return hvp_vcpus_read_all(&self->vcpus, error) &&
	       hvp_session_check_guest(self, error) &&
	       hvp_requests_answer_wait(self, &answered, error) &&
	       (answered || hvp_session_resume(self, error));
}

static void on_look(HvpSession *self)
{
	GError *error = NULL;

	if (is_still_paused(self)) {
		hvp_session_look_later(self);
	} else if (!look(self, &error)) {
		/* A moment at which the vCPUs could not be stopped; they run. */
		if (!self->vcpus.stopped && !hvp_backend_has_failed(self->vcpus.backend) &&
		    (g_error_matches(error, HVP_ERROR, HVP_ERROR_BUSY) ||
		     g_error_matches(error, HVP_ERROR, HVP_ERROR_TIMED_OUT))) {
			note_pause(self);
			hvp_session_look_later(self);
			g_error_free(error);
		} else {
			on_failed_stop(self, error);
		}
	}
}

static void on_last_look(HvpSession *self)
{
	hvp_home_end_with(self, HVP_ERROR_UNDONE,
			  "nobody looked after the spin traps for 2 s; rolled back and resumed");
}

/* The tool is told that it has waited long enough; what was begun goes on. */
static void on_pending_deadline(HvpSession *self)
{
	g_autoptr(GError) error = NULL;

	hvp_error_set(&error, HVP_ERROR_TIMED_OUT,
		      self->pending == HVP_SESSION_PENDING_ADOPT ? "a call is still under way"
								 : "no vCPU came by a trap");
	self->pending = HVP_SESSION_PENDING_NOTHING;
	hvp_session_answer_error(self, error);
}

/*
 * What a recovery cannot read leaves the guest to an operator, and the folder is the whole host's:
 * long before, all is taken back.
 */
static void check_journal(HvpSession *self)
{
	gint64 most_bytes = self->has_adopted ? HVP_JOURNAL_MAX_BYTES + SPARE_BYTES
					      : HVP_JOURNAL_MAX_BYTES - SPARE_BYTES;

	if (self->ended == NULL && hvp_journal_get_size(self->journal_fd) > most_bytes)
		hvp_home_end_with(self, HVP_ERROR_UNDONE,
				  "the journal is full; rolled back and resumed");
}

static int next_timeout_msec(const HvpSession *self)
{
	HvpDeadline deadline = hvp_deadline_in((gint64)3600 * G_USEC_PER_SEC);

	if (self->budget_runs)
		deadline = hvp_deadline_min(deadline, self->budget);
	if (self->pending != HVP_SESSION_PENDING_NOTHING)
		deadline = hvp_deadline_min(deadline, self->pending_deadline);
	if (hvp_session_must_look(self))
		deadline = hvp_deadline_min(deadline, self->look);
	else if (hvp_session_is_spinning(self))
		deadline = hvp_deadline_min(deadline, self->last_look);
	return hvp_deadline_left_msec(deadline);
}

static void handle_deadlines(HvpSession *self)
{
	if (self->budget_runs && hvp_deadline_passed(self->budget))
		on_budget(self);
	if (hvp_session_must_look(self)) {
		if (hvp_deadline_passed(self->look))
			on_look(self);
	} else if (hvp_session_is_spinning(self) && hvp_deadline_passed(self->last_look)) {
		on_last_look(self);
	}
	if (self->pending != HVP_SESSION_PENDING_NOTHING &&
	    hvp_deadline_passed(self->pending_deadline))
		on_pending_deadline(self);
}

/* As poll(), which it tries again and again at first if the guest stands. */
static int wait_for_any(const HvpSession *self, struct pollfd *descriptors, nfds_t count,
			int timeout_msec)
{
	HvpDeadline spin = hvp_deadline_in(self->vcpus.stopped ? SPIN_USEC : 0);

	for (;;) {
		bool is_over = hvp_deadline_passed(spin);
		int ready = poll(descriptors, count, is_over ? timeout_msec : 0);

		if (is_over || ready != 0 || timeout_msec == 0)
			return ready;
		/* To the tool, should it have no other CPU. */
		sched_yield();
	}
}

/* Events of the monitor are JSON: looked at only while the guest runs. */
static void wait_and_handle(HvpSession *self)
{
	bool attached = self->vcpus.backend != NULL;
	bool listens = attached && self->qmp != NULL && !self->vcpus.stopped &&
		       !self->monitor_lost;
	bool buffered = attached && hvp_backend_has_input(self->vcpus.backend);
	struct pollfd descriptors[] = {
		{ self->signal_fd, POLLIN, 0 },
		{ self->tool_fd, POLLIN, 0 },
		{ listens ? hvp_qmp_get_fd(self->qmp) : -1, POLLIN, 0 },
		{ attached ? hvp_backend_get_fd(self->vcpus.backend) : -1, POLLIN, 0 },
	};

	if (wait_for_any(self, descriptors, G_N_ELEMENTS(descriptors),
			 buffered ? 0 : next_timeout_msec(self)) < 0)
		return;
	note_whether_tool_waits(self);
	/*
	 * One at a time, as each may change what the others mean; the backend last, as a
	 * busy trap would not let the others have their turn.
	 */
	if (descriptors[0].revents != 0)
		on_signal(self);
	else if (descriptors[1].revents != 0)
		on_tool(self);
	else if (descriptors[2].revents != 0)
		on_monitor(self);
	else if (buffered || descriptors[3].revents != 0)
		on_stub(self);
	note_whether_tool_waits(self);
	take_resets(self);
	handle_deadlines(self);
	check_journal(self);
}

static bool has_more_to_do(HvpSession *self)
{
	bool wanted = self->tool_fd >= 0 && !self->terminated;

	if (!wanted && self->vcpus.backend != NULL && !self->going_home)
		hvp_home_go(self);
	/* Adopted, and then left by its tool on the way. */
	if (!wanted)
		self->stays_attached = false;
	return wanted || self->vcpus.backend != NULL;
}

static void say_hello(HvpSession *self)
{
	HvpWireHello hello = { .pid = (gint32)getpid() };

	hvp_wire_begin(&self->answer, HVP_WIRE_HELLO);
	if (hvp_wire_append(&self->answer, &hello, sizeof hello))
		hvp_session_send_answer(self);
}

int hvp_loop_run(int tool_fd, int qmp_fd, int journal_fd, int signal_fd)
{
	HvpSession *self = g_new0(HvpSession, 1);
	int status;

	self->tool_fd = tool_fd;
	self->journal_fd = journal_fd;
	self->signal_fd = signal_fd;
	self->qmp = qmp_fd >= 0 ? hvp_qmp_new_from_fd(qmp_fd) : NULL;
	self->frames.vcpus = &self->vcpus;
	self->frames.journal_fd = journal_fd;
	self->sites.journal_fd = journal_fd;
	self->budget_usec = G_USEC_PER_SEC;
	say_hello(self);
	while (has_more_to_do(self))
		wait_and_handle(self);
	/* In place of the answer to a request that will not be served any more. */
	if (self->terminated && self->ended != NULL)
		hvp_session_answer_error(self, self->ended);
	status = hvp_home_is_needed(self) ? 1 : 0;
	hvp_session_drop_tool(self);
	close(self->dropped_fd);
	hvp_qmp_free(self->qmp);
	g_clear_error(&self->ended);
	g_free(self);
	return status;
}
