/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/guide.h"

#include <string.h>

#define WATCH "guest-hvpatch-watch-kthreads"
#define EVENT "HVPATCH_KTHREADS"
#define INTERVAL_MSEC 10
#define CONNECT_USEC (2 * G_USEC_PER_SEC)
#define ANSWER_USEC (2 * G_USEC_PER_SEC)
/* An agent that is asked to stop need not be waited for. */
#define END_USEC (50 * 1000)
/* Hints that led to nothing come apart more and more, so that no agent can make us hurry. */
#define FIRST_APART_USEC (2 * 1000)
#define LAST_APART_USEC (200 * 1000)
/*
 * Without a hint for about so long, try all the same: the agent may not see what has changed. Not
 * for exactly so long: a thread that does its work at a rhythm could be met at it each time.
 */
#define FIRST_PATIENCE_USEC G_USEC_PER_SEC
#define LAST_PATIENCE_USEC (4 * G_USEC_PER_SEC)
#define MAX_FAILURES 3U
/* More than the agent takes as patterns are not watched. */
#define MAX_THREADS 16U

struct HvpGuide {
	HvpTarget *target;
	HvpTasks *reader;
	HvpAgent *agent;
	guint failures;
	GArray *threads; /* HvpGuideThread: waited for last */
	HvpClaims *claims;
	bool was_boot_checked;
	bool is_watching;
	HvpTask doubtful; /* pid 0: none */
	gint64 apart_usec, patience_usec;
	HvpComparison false_claim; /* pid 0: none */
};

HvpGuide *hvp_guide_new(HvpTarget *target, GError **error)
{
	g_autoptr(HvpGuide) self = g_new0(HvpGuide, 1);

	self->target = target;
	self->threads = g_array_new(FALSE, TRUE, sizeof(HvpGuideThread));
	self->apart_usec = FIRST_APART_USEC;
	self->patience_usec = FIRST_PATIENCE_USEC;
	self->reader = hvp_tasks_new(target->kernel, error);
	return self->reader ? g_steal_pointer(&self) : NULL;
}

static void drop_agent(HvpGuide *self)
{
	g_clear_pointer(&self->agent, hvp_agent_free);
	g_clear_pointer(&self->claims, hvp_claims_free);
	self->is_watching = false;
	g_array_set_size(self->threads, 0);
}

/* What the agent did was of no use; *@reason is taken. */
static void note_failure(HvpGuide *self, GError **reason)
{
	bool is_final = !g_error_matches(*reason, HVP_ERROR, HVP_ERROR_TIMED_OUT) &&
			!g_error_matches(*reason, HVP_ERROR, HVP_ERROR_BAD_DATA);

	g_debug("no hint: %s", (*reason)->message);
	g_clear_error(reason);
	if (is_final || ++self->failures >= MAX_FAILURES || self->agent == NULL) {
		self->failures = MAX_FAILURES;
		drop_agent(self);
	}
	self->is_watching = false;
}

static bool connect_agent(HvpGuide *self, HvpDeadline deadline, GError **error)
{
	if (self->agent != NULL)
		return true;
	self->agent = hvp_agent_connect(self->target->agent_path,
					hvp_deadline_min(deadline, hvp_deadline_in(CONNECT_USEC)),
					error);
	return self->agent != NULL;
}

/* A thread's name as a pattern: what patterns have a meaning for becomes "any character". */
static char *pattern_of(const HvpTask *task)
{
	char *pattern = g_strdup_printf("%s*", task->comm);

	for (gsize i = 0; pattern[i + 1] != 0; i++)
		if (!g_ascii_isalnum(pattern[i]) && strchr("/_:-.", pattern[i]) == NULL)
			pattern[i] = '?';
	return pattern;
}

static bool watch(HvpGuide *self, bool enable, HvpDeadline deadline, GError **error)
{
	g_autoptr(JsonObject) arguments = json_object_new();
	g_autoptr(JsonNode) answer = NULL;
	JsonArray *patterns = json_array_new();

	json_object_set_boolean_member(arguments, "enable", enable);
	for (guint i = 0; enable && i < self->threads->len; i++) {
		g_autofree char *pattern = pattern_of(
			&g_array_index(self->threads, HvpGuideThread, i).task);

		json_array_add_string_element(patterns, pattern);
	}
	if (enable) {
		json_object_set_int_member(arguments, "interval_ms", INTERVAL_MSEC);
		json_object_set_array_member(arguments, "match", patterns);
	} else {
		json_array_unref(patterns);
	}
	self->is_watching = false;
	answer = hvp_agent_execute(self->agent, WATCH, arguments, deadline, error);
	self->is_watching = enable && answer != NULL;
	return answer != NULL;
}

void hvp_guide_free(HvpGuide *self)
{
	if (self == NULL)
		return;
	if (self->is_watching && !watch(self, false, hvp_deadline_in(END_USEC), NULL))
		g_debug("the guest's agent did not confirm the end of its watch");
	if (self->false_claim.claim.pid != 0)
		hvp_compare_log(&self->false_claim);
	drop_agent(self);
	hvp_tasks_free(self->reader);
	g_array_unref(self->threads);
	g_free(self);
}

static bool are_watched(const HvpGuide *self, const GArray *threads)
{
	if (!self->is_watching || self->threads->len != threads->len)
		return false;
	for (guint i = 0; i < threads->len; i++)
		if (g_array_index(self->threads, HvpGuideThread, i).task.pid !=
		    g_array_index(threads, HvpGuideThread, i).task.pid)
			return false;
	return true;
}

/* A watch begins with telling all that match, so that nothing is known of before. */
static bool watch_threads(HvpGuide *self, const GArray *threads, HvpDeadline deadline,
			  GError **error)
{
	bool watched = are_watched(self, threads);

	g_array_set_size(self->threads, 0);
	g_array_append_vals(self->threads, threads->data, threads->len);
	if (watched)
		return true;
	hvp_claims_free(self->claims);
	self->claims = hvp_claims_new();
	return watch(self, true, hvp_deadline_min(deadline, hvp_deadline_in(ANSWER_USEC)), error);
}

static bool has_switched(const HvpClaim *claim, const HvpTask *task)
{
	return claim->voluntary >= task->switches &&
	       claim->involuntary >= task->switches_involuntary &&
	       (claim->voluntary > task->switches ||
		claim->involuntary > task->switches_involuntary);
}

/* Whether it is claimed to be where an attempt is worth it. */
static bool has_moved_on(const HvpGuideThread *thread, const HvpClaim *claim)
{
	if (claim == NULL)
		return false;
	switch (claim->state) {
	case HVP_CLAIM_GONE:
		return true;
	case HVP_CLAIM_PARKED:
	case HVP_CLAIM_IDLE_WORKER:
		return thread->must_rest || has_switched(claim, &thread->task);
	case HVP_CLAIM_RUNNING:
		return false;
	default:
		return !thread->must_rest && claim->voluntary > thread->task.switches &&
		       has_switched(claim, &thread->task);
	}
}

static bool have_all_moved_on(const HvpGuide *self)
{
	for (guint i = 0; i < self->threads->len; i++) {
		const HvpGuideThread *thread = &g_array_index(self->threads, HvpGuideThread, i);

		if (!has_moved_on(thread, hvp_claims_find(self->claims, thread->task.pid)))
			return false;
	}
	return true;
}

/* Takes in events until all have moved on and @earliest has come; true without a hint as well. */
static bool take_events(HvpGuide *self, HvpDeadline earliest, HvpDeadline latest, GError **error)
{
	while (!hvp_deadline_passed(latest)) {
		bool moved_on = have_all_moved_on(self);
		GError *reason = NULL;
		JsonNode *data;
		bool ok;

		if (moved_on && hvp_deadline_passed(earliest))
			return true;
		data = hvp_agent_wait_event(self->agent, EVENT,
					    moved_on ? hvp_deadline_min(earliest, latest) : latest,
					    &reason);
		if (data == NULL && g_error_matches(reason, HVP_ERROR, HVP_ERROR_TIMED_OUT)) {
			g_clear_error(&reason);
			continue;
		}
		if (data == NULL) {
			g_propagate_error(error, reason);
			return false;
		}
		ok = hvp_claims_add(self->claims, data, error);
		json_node_unref(data);
		if (!ok)
			return false;
	}
	return true;
}

/* Two looks with a question in between tell what one look could not. */
static bool settle_doubt(HvpGuide *self, HvpDeadline deadline, GError **error)
{
	HvpComparison comparison;
	g_autoptr(GError) reason = NULL;
	HvpTask task = self->doubtful;

	self->doubtful.pid = 0;
	if (task.pid == 0)
		return true;
	if (!hvp_compare_ask(self->target->kernel, self->reader, self->agent, &task,
			     hvp_deadline_min(deadline, hvp_deadline_in(ANSWER_USEC)), &comparison,
			     &reason)) {
		note_failure(self, &reason);
		return true;
	}
	if (comparison.verdict != HVP_COMPARE_FALSE)
		return true;
	self->false_claim = comparison;
	return hvp_compare_refuse(&comparison, error);
}

static bool check_boot(HvpGuide *self, GError **error)
{
	if (self->was_boot_checked || hvp_claims_count(self->claims) == 0)
		return true;
	self->was_boot_checked = true;
	return hvp_compare_boot(self->target->kernel, hvp_claims_get_boot_id(self->claims), error);
}

static bool is_usable(const HvpGuide *self, const GArray *threads)
{
	return self->target->agent_path != NULL && self->failures < MAX_FAILURES &&
	       threads->len > 0 && threads->len <= MAX_THREADS;
}

bool hvp_guide_wait(HvpGuide *self, const GArray *threads, HvpDeadline deadline, bool *ret_waited,
		    GError **error)
{
	gint64 patience_usec = g_random_int_range((gint32)self->patience_usec / 2,
						  (gint32)self->patience_usec + 1);
	HvpDeadline earliest = hvp_deadline_in(self->apart_usec);
	HvpDeadline latest = hvp_deadline_min(deadline, hvp_deadline_in(patience_usec));
	GError *reason = NULL;

	*ret_waited = false;
	if (!is_usable(self, threads))
		return true;
	if (self->agent != NULL && !settle_doubt(self, deadline, error))
		return false;
	if (self->failures >= MAX_FAILURES)
		return true;
	if (!connect_agent(self, latest, &reason) ||
	    !watch_threads(self, threads, latest, &reason) ||
	    !take_events(self, earliest, latest, &reason)) {
		note_failure(self, &reason);
		return true;
	}
	if (!check_boot(self, error))
		return false;
	*ret_waited = true;
	self->apart_usec = MIN(self->apart_usec * 2, LAST_APART_USEC);
	if (!have_all_moved_on(self))
		self->patience_usec = MIN(self->patience_usec * 2, LAST_PATIENCE_USEC);
	return true;
}

/* Claims that it rests, with switches that it has, and it runs: that may have been so just now. */
static bool is_doubtful(const HvpClaim *claim, const HvpTask *now)
{
	return claim->state != HVP_CLAIM_RUNNING && claim->voluntary == now->switches &&
	       claim->involuntary == now->switches_involuntary && !hvp_task_is_asleep(now);
}

bool hvp_guide_check(HvpGuide *self, GError **error)
{
	HvpKernel *kernel = self->target->kernel;

	for (guint i = 0; i < self->threads->len; i++) {
		const HvpTask *before = &g_array_index(self->threads, HvpGuideThread, i).task;
		const HvpClaim *claim = hvp_claims_find(self->claims, before->pid);
		HvpComparison now = { 0 };

		if (claim == NULL ||
		    !hvp_compare_look(kernel, self->reader, before->address, &now.task, &now.state))
			continue;
		now.claim = *claim;
		now.verdict = hvp_compare(claim, HVP_COMPARE_TOLD, before, &now.task, now.state);
		if (now.verdict == HVP_COMPARE_FALSE) {
			self->false_claim = now;
			return hvp_compare_refuse(&now, error);
		}
		if (is_doubtful(claim, &now.task))
			self->doubtful = now.task;
	}
	return true;
}
