/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/switch.h"

#include "engine/guide.h"
#include "engine/prod.h"
#include "guest/ftrace.h"
#include "guest/text-sites.h"

#include <string.h>

#define MAX_BLOCKERS 64U
/* The keeper's own budget: far above --max-pause, which is kept by giving up before writing. */
#define KEEPER_BUDGET_USEC G_USEC_PER_SEC
#define FIRST_BACKOFF_USEC (5 * 1000)
#define LAST_BACKOFF_USEC (500 * 1000)
/* A moment that is merely inconvenient (a held lock) passes quickly. */
#define QUICK_RETRY_USEC 500
#define MAX_FAILED_SWEEPS 3U
#define LOOK_USEC (3 * G_USEC_PER_SEC)
#define QUICK_LOOKS 20U
#define LOOK_RETRY_USEC (5 * 1000)
/* Who is only passing through has left by then; from then on at twice as many each time. */
#define BLOCKED_BEFORE_PROD 3U
#define MAX_BLOCKED_BEFORE_PROD 24U

typedef struct {
	const HvpSwitch *job;
	HvpSweep *sweep;
	GArray *writes; /* HvpKeeperWrite */
	HvpResult *result;
	gint64 stopped_at;
	guint failed_sweeps;
	guint blocked; /* attempts, since the last prodding */
	guint blocked_before_prod;
	gint64 stands_since_usec; /* the guest, for the next attempt; 0: it runs */
	HvpGuide *guide;
	GError *not_quiescent; /* why the last attempt was no moment to judge */
} Attempt;

typedef enum { OUTCOME_DONE, OUTCOME_BLOCKED, OUTCOME_NOT_QUIESCENT, OUTCOME_FAILED } Outcome;

static gint64 since(gint64 start)
{
	return g_get_monotonic_time() - start;
}

static bool check_text(const HvpSwitch *job, const HvpTextChange *change, GError **error)
{
	HvpKernel *kernel = job->target->kernel;
	HvpGvaRange written = { hvp_gva(change->site.site.value - HVP_FTRACE_SLOT_BYTES + 1),
				hvp_gva_add(change->site.site, change->site.length_bytes) };
	guint64 flags;

	if (!hvp_text_sites_check_kprobes(kernel, written, error))
		return false;
	if (change->slot_record.value == 0)
		return true;
	return hvp_ftrace_read_flags(kernel, change->slot_record, &flags, error) &&
	       hvp_ftrace_check_flags(kernel, flags, "a function of the patch", error);
}

/* What the guest may have changed since the plan was made. */
static bool check_plan(const HvpSwitch *job, GError **error)
{
	if (!hvp_changes_check_modules(job->changes, job->target->modules, error))
		return false;
	for (guint i = 0; i < job->changes->text->len; i++)
		if (!check_text(job, &g_array_index(job->changes->text, HvpTextChange, i), error))
			return false;
	return job->check_stopped == NULL || job->check_stopped(job->user_data, error);
}

static bool over_budget(const Attempt *attempt)
{
	return since(attempt->stopped_at) > attempt->job->options->max_pause_usec;
}

/* BUSY of a recheck is no verdict; any other error ends the operation. */
static Outcome sort_error(Attempt *attempt, GError *reason, GError **error)
{
	if (g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY) ||
	    g_error_matches(reason, HVP_ERROR, HVP_ERROR_FAULT)) {
		g_clear_error(&attempt->not_quiescent);
		attempt->not_quiescent = reason;
		return OUTCOME_NOT_QUIESCENT;
	}
	g_propagate_error(error, reason);
	return OUTCOME_FAILED;
}

/* While the guest stands still: judge and, if nobody is in the way, write. */
static Outcome judge_and_write(Attempt *attempt, const HvpKeeperStop *stop, GError **error)
{
	const HvpSwitch *job = attempt->job;
	HvpPauseTimes *times = &attempt->result->pause;
	gint64 started = g_get_monotonic_time();
	GError *reason = NULL;

	if (!hvp_sweep_recheck(attempt->sweep, stop->registers, stop->vcpu_count,
			       &attempt->result->rechecked, &reason) ||
	    !check_plan(job, &reason) || !hvp_guide_check(attempt->guide, &reason))
		return sort_error(attempt, reason, error);
	times->sweep_usec = since(started);
	attempt->result->tasks = hvp_sweep_count(attempt->sweep);
	started = g_get_monotonic_time();
	if (!hvp_prove_changed(attempt->sweep, job->forbidden, job->forbidden_count) ||
	    hvp_kthread_rule_is_broken(job->rule, attempt->sweep))
		return OUTCOME_BLOCKED;
	times->rewalk_usec = since(started);
	if (over_budget(attempt)) {
		reason = g_error_new(HVP_ERROR, HVP_ERROR_BUSY,
				     "looking took longer than the pause may");
		return sort_error(attempt, reason, error);
	}
	if (!hvp_oracle_switch(job->oracle, error))
		return OUTCOME_FAILED;
	started = g_get_monotonic_time();
	if (!hvp_keeper_write(job->keeper, (const HvpKeeperWrite *)(void *)attempt->writes->data,
			      attempt->writes->len, &reason))
		return sort_error(attempt, reason, error);
	if (!hvp_keeper_commit(job->keeper, error))
		return OUTCOME_FAILED;
	times->switch_usec = since(started);
	return OUTCOME_DONE;
}

static Outcome stop_and_try(Attempt *attempt, GError **error)
{
	HvpResult *result = attempt->result;
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) reason = NULL;
	Outcome outcome;

	attempt->stopped_at = attempt->stands_since_usec ? attempt->stands_since_usec
							 : g_get_monotonic_time();
	attempt->stands_since_usec = 0;
	if (!hvp_keeper_stop(attempt->job->keeper, KEEPER_BUDGET_USEC, &stop, &reason))
		return sort_error(attempt, g_steal_pointer(&reason), error);
	result->stops++;
	result->pause.stop_usec = stop.stop_usec;
	result->pause.registers_usec = stop.registers_usec;
	outcome = judge_and_write(attempt, &stop, &reason);
	if (!hvp_keeper_resume(attempt->job->keeper, &result->pause.resume_usec,
			       reason ? NULL : &reason))
		outcome = outcome == OUTCOME_DONE ? OUTCOME_DONE : OUTCOME_FAILED;
	result->pause_usec = since(attempt->stopped_at);
	result->longest_pause_usec = MAX(result->longest_pause_usec, result->pause_usec);
	if (outcome == OUTCOME_FAILED)
		g_propagate_error(error, g_steal_pointer(&reason));
	return outcome;
}

/* One attempt; the guest is not stopped at all where the sweep already shows a blocker. */
static Outcome try_once(Attempt *attempt, GError **error)
{
	GError *reason = NULL;

	/* All who were in the way are held outside; the last sweep is made true of this moment. */
	if (attempt->stands_since_usec != 0)
		return stop_and_try(attempt, error);
	if (!hvp_sweep_run(attempt->sweep, &reason)) {
		/* Lists that never hold still while it runs (a fork storm) are read when it stands.
		 */
		if (sort_error(attempt, reason, error) == OUTCOME_FAILED)
			return OUTCOME_FAILED;
		return ++attempt->failed_sweeps % MAX_FAILED_SWEEPS == 0
			       ? stop_and_try(attempt, error)
			       : OUTCOME_NOT_QUIESCENT;
	}
	attempt->result->tasks = hvp_sweep_count(attempt->sweep);
	if (!hvp_guide_check(attempt->guide, error) ||
	    (attempt->job->rule != NULL && !hvp_kthread_rule_refresh(attempt->job->rule, error)))
		return OUTCOME_FAILED;
	if (hvp_prove_is_blocked(attempt->sweep, attempt->job->forbidden,
				 attempt->job->forbidden_count) ||
	    hvp_kthread_rule_is_broken(attempt->job->rule, attempt->sweep)) {
		g_debug("blocked by the sweep of the running guest");
		return OUTCOME_BLOCKED;
	}
	return stop_and_try(attempt, error);
}

static void take_blockers(Attempt *attempt)
{
	g_ptr_array_unref(attempt->result->blockers);
	attempt->result->blockers = hvp_prove_blockers(attempt->sweep, attempt->job->forbidden,
						       attempt->job->forbidden_count,
						       attempt->job->target, MAX_BLOCKERS);
	hvp_kthread_rule_add_blockers(attempt->job->rule, attempt->sweep, attempt->result->blockers,
				      MAX_BLOCKERS);
}

static void log_blockers(const GPtrArray *blockers)
{
	for (guint i = 0; i < blockers->len; i++) {
		const HvpBlocker *blocker = g_ptr_array_index(blockers, i);

		g_debug("in the way: %s (pid %d): %s", blocker->comm, blocker->pid,
			blocker->function);
		for (guint j = 0; j < blocker->stack->len; j++)
			g_debug("    %s", (const char *)g_ptr_array_index(blocker->stack, j));
	}
}

/* A kernel thread never leaves what kthread() called for it: waiting and waking are no help. */
static bool is_in_main_function(const HvpBlocker *blocker)
{
	gsize length = strlen(blocker->function);

	for (guint i = 0; blocker->is_kthread && i + 1 < blocker->stack->len; i++) {
		const char *frame = g_ptr_array_index(blocker->stack, i);

		if (strncmp(frame, blocker->function, length) == 0 && frame[length] == '+')
			return g_str_has_prefix(g_ptr_array_index(blocker->stack, i + 1),
						"kthread+");
	}
	return false;
}

static bool give_up(Attempt *attempt, Outcome outcome, GError **error)
{
	if (outcome == OUTCOME_BLOCKED) {
		HvpBlocker *first;

		take_blockers(attempt);
		if (attempt->result->blockers->len == 0)
			return hvp_error_set(error, HVP_ERROR_BUSY, "tasks were in the way");
		first = g_ptr_array_index(attempt->result->blockers, 0);
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "%u task%s in the way, first %s (pid %d): %s%s",
				     attempt->result->blockers->len,
				     attempt->result->blockers->len == 1 ? " is" : "s are",
				     first->comm, first->pid, first->function,
				     is_in_main_function(first) ? ", its main function" : "");
	}
	return hvp_error_set(error, HVP_ERROR_BUSY,
			     "the guest never stood still at a good moment: %s",
			     attempt->not_quiescent->message);
}

/* How long to wait before the next attempt, growing with each that was blocked. */
static gint64 next_wait(Outcome outcome, gint64 *backoff_usec)
{
	gint64 wait = QUICK_RETRY_USEC;

	if (outcome == OUTCOME_BLOCKED) {
		wait = *backoff_usec + g_random_int_range(0, (gint32)*backoff_usec / 4 + 1);
		*backoff_usec = MIN(*backoff_usec * 2, LAST_BACKOFF_USEC);
	}
	return wait;
}

/* Sends sleeping tasks out, now and then; *@ret_prodded when the next attempt is not to wait. */
static bool prod(Attempt *attempt, HvpDeadline deadline, bool *ret_prodded, GError **error)
{
	const HvpSwitch *job = attempt->job;
	g_autoptr(GArray) tasks = NULL;
	HvpProdRound round;

	*ret_prodded = false;
	if (job->options->no_prod || ++attempt->blocked < attempt->blocked_before_prod)
		return true;
	tasks = hvp_prove_active(attempt->sweep, job->forbidden, job->forbidden_count);
	if (!hvp_prod_is_of_use(tasks))
		return true;
	hvp_options_progress(job->options, "sending tasks out", attempt->result->attempts,
			     tasks->len);
	attempt->blocked = 0;
	attempt->blocked_before_prod = MIN(attempt->blocked_before_prod * 2,
					   MAX_BLOCKED_BEFORE_PROD);
	if (!hvp_prod_run(job->target, job->keeper, tasks, deadline, &round, error))
		return false;
	attempt->result->longest_pause_usec = MAX(attempt->result->longest_pause_usec,
						  round.longest_hold_usec);
	attempt->stands_since_usec = round.stopped_at_usec;
	*ret_prodded = round.woken > 0;
	return true;
}

/* Adds @task if it is in the way; false when it is, and is no kernel thread. */
static bool add_thread(const HvpSwitch *job, const HvpSweep *sweep, const HvpSweepTask *task,
		       GArray *threads)
{
	HvpGuideThread thread = { .task = task->task };
	const char *standing;
	HvpKthreadState state;

	if (task->verdict == HVP_UNWIND_NOT_SEEN)
		return true;
	if (job->rule != NULL &&
	    hvp_kthread_rule_is_broken_by(job->rule, sweep, task, &standing, &state))
		thread.must_rest = standing == NULL;
	else if (!hvp_prove_is_in_the_way(sweep, task, job->forbidden, job->forbidden_count))
		return true;
	g_array_append_val(threads, thread);
	return (task->task.flags & HVP_TASK_PF_KTHREAD) != 0;
}

/* Before the next attempt: until the agent has news of who was in the way, or for some time. */
static bool wait_for_next(Attempt *attempt, Outcome outcome, HvpDeadline deadline,
			  gint64 *backoff_usec, GError **error)
{
	g_autoptr(GArray) threads = g_array_new(FALSE, TRUE, sizeof(HvpGuideThread));
	bool only_kthreads = outcome == OUTCOME_BLOCKED, waited = false;

	for (guint i = 0; only_kthreads && i < hvp_sweep_count(attempt->sweep); i++)
		only_kthreads = add_thread(attempt->job, attempt->sweep,
					   hvp_sweep_get(attempt->sweep, i), threads);
	if (only_kthreads && !hvp_guide_wait(attempt->guide, threads, deadline, &waited, error))
		return false;
	if (!waited)
		g_usleep((gulong)MIN(next_wait(outcome, backoff_usec),
				     hvp_deadline_left_usec(deadline) + 1));
	return true;
}

static bool run_attempts(Attempt *attempt, HvpDeadline deadline, GError **error)
{
	const HvpOptions *options = attempt->job->options;
	gint64 backoff = FIRST_BACKOFF_USEC;

	for (;;) {
		bool prodded = false;
		Outcome outcome;

		if (!hvp_options_check_wanted(options, error))
			return false;
		attempt->result->attempts++;
		outcome = try_once(attempt, error);
		if (outcome == OUTCOME_DONE || outcome == OUTCOME_FAILED)
			return outcome == OUTCOME_DONE;
		if (hvp_deadline_passed(deadline))
			return give_up(attempt, outcome, error);
		if (outcome == OUTCOME_BLOCKED) {
			take_blockers(attempt);
			log_blockers(attempt->result->blockers);
			hvp_options_progress(options, "waiting for tasks to leave",
					     attempt->result->attempts,
					     attempt->result->blockers->len);
			if (!prod(attempt, deadline, &prodded, error))
				return false;
		} else {
			hvp_options_progress(options, attempt->not_quiescent->message,
					     attempt->result->attempts, 0);
		}
		if (prodded) {
			backoff = FIRST_BACKOFF_USEC;
			continue;
		}
		if (!wait_for_next(attempt, outcome, deadline, &backoff, error))
			return false;
	}
}

static bool plan_writes(const HvpSwitch *self, GArray *writes, GError **error)
{
	HvpAddressSpace *space = hvp_kernel_get_space(self->target->kernel);

	for (guint i = 0; i < self->changes->text->len; i++)
		if (!hvp_plan_writes(space,
				     &g_array_index(self->changes->text, HvpTextChange, i).site,
				     writes, error))
			return false;
	for (guint i = 0; i < self->changes->data->len; i++)
		if (!hvp_plan_writes(space, &g_array_index(self->changes->data, HvpSite, i), writes,
				     error))
			return false;
	return true;
}

bool hvp_switch_run(const HvpSwitch *self, HvpDeadline deadline, HvpResult *result, GError **error)
{
	g_autoptr(GArray) writes = g_array_new(FALSE, TRUE, sizeof(HvpKeeperWrite));
	g_autoptr(HvpSweep) sweep = hvp_sweep_new(self->target, error);
	g_autoptr(HvpGuide) guide = sweep ? hvp_guide_new(self->target, error) : NULL;
	Attempt attempt = { .job = self,
			    .sweep = sweep,
			    .guide = guide,
			    .writes = writes,
			    .result = result,
			    .blocked_before_prod = BLOCKED_BEFORE_PROD };
	bool done;

	if (guide == NULL || !plan_writes(self, writes, error))
		return false;
	done = run_attempts(&attempt, deadline, error);
	if (done) {
		GPtrArray *met = result->blockers;

		g_ptr_array_set_size(result->met, 0);
		result->blockers = result->met;
		result->met = met;
		hvp_oracle_decide(self->oracle, HVP_PLUGIN_CONFIRM);
	}
	g_clear_error(&attempt.not_quiescent);
	return done;
}

static bool look_while_stopped(HvpSweep *sweep, HvpKeeper *keeper, GError **error)
{
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) reason = NULL;
	guint rechecked;
	bool ok;

	if (!hvp_keeper_stop(keeper, KEEPER_BUDGET_USEC, &stop, error))
		return false;
	ok = hvp_sweep_recheck(sweep, stop.registers, stop.vcpu_count, &rechecked, &reason);
	if (!hvp_keeper_resume(keeper, NULL, ok ? error : NULL))
		ok = false;
	if (reason != NULL)
		g_propagate_error(error, g_steal_pointer(&reason));
	return ok;
}

/* Nothing will change in a dump or a paused VM: what cannot be judged now never can. */
static HvpSweep *look_at_rest(HvpTarget *target, GError **error)
{
	g_autoptr(HvpSweep) sweep = hvp_sweep_new(target, error);
	g_autoptr(GError) reason = NULL;
	guint rechecked;

	if (sweep == NULL || !hvp_sweep_run(sweep, error))
		return NULL;
	if (hvp_sweep_recheck(sweep, target->registers, target->vcpu_count, &rechecked, &reason))
		return g_steal_pointer(&sweep);
	if (!g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY)) {
		g_propagate_error(error, g_steal_pointer(&reason));
		return NULL;
	}
	g_debug("not a moment to judge: %s", reason->message);
	return hvp_sweep_settle(sweep, error) ? g_steal_pointer(&sweep) : NULL;
}

HvpSweep *hvp_switch_look(HvpTarget *target, HvpKeeper *keeper, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(LOOK_USEC);
	g_autoptr(HvpSweep) sweep = NULL;
	g_autoptr(GError) reason = NULL;

	if (keeper == NULL)
		return look_at_rest(target, error);
	sweep = hvp_sweep_new(target, error);
	if (sweep == NULL)
		return NULL;
	for (guint i = 0; reason == NULL || !hvp_deadline_passed(deadline); i++) {
		g_clear_error(&reason);
		if (hvp_sweep_run(sweep, &reason) && look_while_stopped(sweep, keeper, &reason))
			return g_steal_pointer(&sweep);
		if (!g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY))
			break;
		/* Most locks are let go of at once; changing text takes longer. */
		g_usleep(i < QUICK_LOOKS ? QUICK_RETRY_USEC : LOOK_RETRY_USEC);
	}
	g_propagate_error(error, g_steal_pointer(&reason));
	return NULL;
}
