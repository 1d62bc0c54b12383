/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "worker/work.h"

#include <string.h>

#include "document/check-document.h"
#include "document/info.h"
#include "document/patch-document.h"
#include "document/recovery-document.h"
#include "document/result-document.h"
#include "document/status-document.h"
#include "engine/applied.h"
#include "engine/apply.h"
#include "engine/open.h"
#include "engine/revert.h"
#include "engine/transaction.h"
#include "vm/helper.h"

typedef struct {
	const HvpJob *job;
	HvpPlace *place;
	int patch_fd;
	HvpChannel *channel;
	HvpOptions options;
	const char *state;
	bool switched;
	HvpPatch *patch;
	HvpTarget *target;
	/* What came of it. */
	JsonNode *document;
	int exit_status;
	GError *failure;
} Work;

static void work_clear(Work *self)
{
	hvp_target_free(self->target);
	hvp_patch_free(self->patch);
	if (self->document != NULL)
		json_node_unref(self->document);
	g_clear_error(&self->failure);
}

/* --- while it goes on --- */

/* The state of the operation that @step belongs to; NULL: as before. */
static const char *state_of(const char *step, guint attempt)
{
	static const struct {
		const char *step;
		const char *state;
	} states[] = {
		{ "checking", "checking" },
		{ "finishing an interrupted operation", "checking" },
		{ "waiting for a guest thread", "loading" },
		{ "loading the module", "loading" },
		{ "waiting for the guest's livepatch core", "loading" },
		{ "switching", "switching" },
		{ "switching back", "switching" },
	};

	if (attempt > 0)
		return "waiting";
	for (guint i = 0; i < G_N_ELEMENTS(states); i++)
		if (strcmp(step, states[i].step) == 0)
			return states[i].state;
	return NULL;
}

static void on_progress(const char *step, guint attempt, guint blockers, void *user_data)
{
	Work *self = user_data;
	const char *state = state_of(step, attempt);
	HvpChannelProgress progress = { .step = step, .attempt = attempt, .blockers = blockers };

	self->switched = self->switched || strcmp(step, HVP_STEP_SWITCHED) == 0;
	if (self->switched)
		self->state = "verifying";
	else if (state != NULL)
		self->state = state;
	progress.state = self->state;
	progress.cancellable = !self->switched && self->job->verb != HVP_JOB_RECOVER;
	hvp_channel_send_progress(self->channel, &progress);
}

static bool is_cancelled(void *user_data)
{
	return hvp_channel_is_cancelled(((Work *)user_data)->channel);
}

/* --- the VM --- */

static bool check_no_job(gpointer data, GError **error)
{
	(void)data;
	return hvp_helper_ask(HVP_HELPER_NO_JOB, 0, NULL, NULL, error);
}

static char *describe_jobs(gpointer data, GError **error)
{
	guint64 jobs;

	(void)data;
	return hvp_helper_read(HVP_HELPER_JOBS, 0, &jobs, error)
		       ? g_strdup_printf("%" G_GUINT64_FORMAT, jobs)
		       : NULL;
}

/* Its connections come from the other half. */
static HvpMonitor *find_monitor(gpointer data)
{
	return g_steal_pointer(&((HvpPlace *)data)->monitor);
}

static HvpTarget *open_place(const Work *self, GError **error)
{
	HvpPlace *place = self->place;
	HvpTarget *target;

	if (place->by_monitor)
		return hvp_target_open_monitor(g_steal_pointer(&place->monitor), self->job->name,
					       error);
	target = hvp_target_open_process(place->pid, self->job->name, error);
	if (target != NULL)
		target->owner = (HvpTargetOwner){ .check_no_job = check_no_job,
						  .describe_jobs = describe_jobs,
						  .find_monitor = find_monitor,
						  .taint = HVP_LIBVIRT_TAINT,
						  .data = place };
	return target;
}

static bool open_target(Work *self, GError **error)
{
	HvpOpenWay way = { .backend = self->job->backend,
			   .trap_kind = self->job->trap_kind,
			   .oracle_path = self->job->oracle_path };
	bool by_monitor = self->place->by_monitor;

	if (!hvp_options_check_wanted(&self->options, error))
		return false;
	self->target = hvp_open_set_up(&way, open_place(self, error), error);
	if (self->target == NULL)
		return false;
	self->target->agent_path = g_strdup(self->place->agent_path);
	if (by_monitor && self->place->uuid != NULL)
		self->target->taint = HVP_LIBVIRT_TAINT;
	return true;
}

static bool open_patch(Work *self, GError **error)
{
	if (self->patch_fd < 0)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "the job has no patch attached");
	self->patch = hvp_patch_open_fd(self->patch_fd, "patch", error);
	if (self->patch == NULL)
		return false;
	return self->job->sha256 == NULL ||
	       strcmp(self->job->sha256, self->patch->sha256) == 0 ||
	       hvp_error_set(error, HVP_ERROR_BAD_DATA,
			     "the attached patch is not the one that the job names");
}

/* --- verbs --- */

static bool look(Work *self, GError **error)
{
	g_autoptr(GPtrArray) patches = NULL;
	JsonBuilder *json;
	HvpInfo info;

	if (!open_target(self, error))
		return false;
	patches = hvp_applied_read_all(self->target, error);
	if (patches == NULL || !hvp_info_read(self->target, &info, error))
		return false;
	json = hvp_json_new();
	json_builder_set_member_name(json, "info");
	json_builder_add_value(json, hvp_info_to_json(&info));
	json_builder_set_member_name(json, "status");
	json_builder_add_value(json, hvp_status_document_new(self->target, patches));
	self->document = hvp_json_end(json);
	self->exit_status = hvp_status_document_exit_status(patches);
	hvp_info_clear(&info);
	return true;
}

/* That a patch is not applicable is what was to be found out: no failure. */
static bool check(Work *self, GError **error)
{
	g_autoptr(HvpCheck) checked = NULL;
	g_autoptr(GError) verdict = NULL;

	if (!open_patch(self, error) || !open_target(self, error))
		return false;
	hvp_options_progress(&self->options, "checking", 0, 0);
	checked = hvp_check_run(self->target, self->patch, &self->options, error);
	if (checked == NULL)
		return false;
	if (!hvp_check_verdict(checked, &verdict))
		self->exit_status = hvp_error_exit_status(verdict);
	self->document = hvp_check_document_new(self->patch, checked, verdict);
	return true;
}

/* What the daemon keeps of a patch, so that it need not open it itself. */
static bool inspect(Work *self, GError **error)
{
	if (!open_patch(self, error))
		return false;
	self->document = hvp_patch_document_new(self->patch, error);
	return self->document != NULL;
}

static bool recover(Work *self, GError **error)
{
	g_autoptr(HvpRecovery) recovery = NULL;
	g_autofree char *done = NULL;

	if (!open_target(self, error) ||
	    !hvp_transaction_recover(self->target, &self->options, &recovery, error))
		return false;
	done = recovery ? hvp_recovery_describe(recovery) : g_strdup("");
	self->document = hvp_recovery_document_new(done);
	return true;
}

static const char *operation_of(HvpJobVerb verb)
{
	return verb == HVP_JOB_REVERT ? "revert" : "apply";
}

/* The document of a failure in it, too, is the result. */
static void keep_result(Work *self, const HvpResult *result, const GError *reason)
{
	self->document = hvp_result_document_new(operation_of(self->job->verb), self->job->name,
						 self->target, result, reason);
}

static bool pass_on(GError *reason, GError **error)
{
	g_propagate_error(error, reason);
	return false;
}

static bool apply(Work *self, GError **error)
{
	g_autoptr(HvpResult) result = NULL;
	GError *reason = NULL;

	if (open_patch(self, &reason) && open_target(self, &reason))
		result = hvp_apply(self->target, self->patch, &self->options, &reason);
	keep_result(self, result, reason);
	return reason == NULL || pass_on(reason, error);
}

static bool revert(Work *self, GError **error)
{
	g_autoptr(HvpResult) result = NULL;
	GError *reason = NULL;

	if (open_target(self, &reason))
		result = hvp_revert(self->target, self->job->patch_name, self->job->sha256,
				    &self->options, &reason);
	keep_result(self, result, reason);
	return reason == NULL || pass_on(reason, error);
}

static bool run(Work *self, GError **error)
{
	switch (self->job->verb) {
	case HVP_JOB_LOOK:
		return look(self, error);
	case HVP_JOB_CHECK:
		return check(self, error);
	case HVP_JOB_APPLY:
	case HVP_JOB_REPLACE:
		return apply(self, error);
	case HVP_JOB_REVERT:
		return revert(self, error);
	case HVP_JOB_RECOVER:
		return recover(self, error);
	case HVP_JOB_INSPECT:
		return inspect(self, error);
	}
	return hvp_error_set(error, HVP_ERROR_INTERNAL, "a verb that is not known");
}

/* What commands without a document of their own say of a failure. */
static JsonNode *failure_document_new(const GError *reason)
{
	JsonBuilder *json = hvp_json_new();

	hvp_json_error(json, reason);
	return hvp_json_end(json);
}

bool hvp_work_run(const HvpJob *job, HvpPlace *place, int patch_fd, HvpChannel *channel)
{
	Work work = { .job = job,
		      .place = place,
		      .patch_fd = patch_fd,
		      .channel = channel,
		      .options = job->options,
		      .state = "checking" };
	bool sent;

	work.options.progress = on_progress;
	work.options.progress_data = &work;
	work.options.is_cancelled = is_cancelled;
	work.options.cancel_data = &work;
	if (!run(&work, &work.failure))
		work.exit_status = hvp_error_exit_status(work.failure);
	if (work.document == NULL)
		work.document = failure_document_new(work.failure);
	/* Without the other half nothing could be put right: that is for the daemon to see to. */
	sent = !hvp_helper_is_lost() &&
	       hvp_channel_send_result(channel, work.document, work.exit_status, work.failure);
	work_clear(&work);
	return sent;
}

static bool has_result_document(const HvpJob *job)
{
	return job->verb == HVP_JOB_APPLY || job->verb == HVP_JOB_REPLACE ||
	       job->verb == HVP_JOB_REVERT;
}

bool hvp_work_fail(const HvpJob *job, HvpChannel *channel, const GError *reason)
{
	g_autoptr(JsonNode) document = NULL;

	if (job != NULL && has_result_document(job))
		document = hvp_result_document_new(operation_of(job->verb), job->name, NULL, NULL,
						   reason);
	else
		document = failure_document_new(reason);
	return hvp_channel_send_result(channel, document, hvp_error_exit_status(reason), reason);
}
