/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/kthread-view.h"

#define AGENT_USEC (5 * G_USEC_PER_SEC)
#define CONNECT_USEC (2 * G_USEC_PER_SEC)

typedef struct {
	HvpTarget *target;
	HvpTasks *reader;
	HvpAgent *agent;
	HvpClaims *claims;
	HvpDeadline deadline;
} Viewer;

static void viewer_clear(Viewer *self)
{
	hvp_claims_free(self->claims);
	hvp_agent_free(self->agent);
	hvp_tasks_free(self->reader);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Viewer, viewer_clear)

/* Claims of all threads, or none. */
static void ask_all(Viewer *self)
{
	g_autoptr(GError) reason = NULL;

	if (self->target->agent_path == NULL)
		return;
	self->agent = hvp_agent_connect(self->target->agent_path, hvp_deadline_in(CONNECT_USEC),
					&reason);
	if (self->agent != NULL &&
	    hvp_claims_ask_all(self->claims, self->agent, self->deadline, &reason))
		return;
	g_message("no claims of the guest's agent: %s", reason->message);
	/* Half of them would look as if the others were not there. */
	hvp_claims_free(self->claims);
	self->claims = hvp_claims_new();
}

static void note_false(const HvpComparison *comparison, GError **ret_false)
{
	hvp_compare_log(comparison);
	if (*ret_false == NULL)
		(void)hvp_compare_refuse(comparison, ret_false);
}

/* Settles by another question what one cannot tell; an agent that fails leaves it open. */
static void settle(Viewer *self, HvpComparison *comparison)
{
	HvpComparison again;

	if (comparison->verdict == HVP_COMPARE_DOUBTFUL &&
	    hvp_compare_ask(self->target->kernel, self->reader, self->agent, &comparison->task,
			    self->deadline, &again, NULL) &&
	    again.claim.pid != 0)
		*comparison = again;
}

static void view(Viewer *self, const HvpTask *before, HvpKthreadView *ret_view, GError **ret_false)
{
	const HvpClaim *claim = hvp_claims_find(self->claims, before->pid);
	HvpComparison comparison = { 0 };

	if (!hvp_compare_look(self->target->kernel, self->reader, before->address, &comparison.task,
			      &comparison.state)) {
		ret_view->state = HVP_KTHREAD_UNKNOWN;
		return;
	}
	ret_view->state = comparison.state;
	if (claim == NULL || before->is_idle)
		return;
	comparison.claim = *claim;
	comparison.verdict = hvp_compare(claim, HVP_COMPARE_ASKED, before, &comparison.task,
					 comparison.state);
	hvp_kthread_read_cpus(self->target->kernel, &comparison.task, comparison.cpus);
	if ((comparison.verdict == HVP_COMPARE_AGREES || comparison.verdict == HVP_COMPARE_STALE) &&
	    !hvp_compare_cpus(claim, &comparison.task, comparison.cpus))
		comparison.verdict = HVP_COMPARE_DOUBTFUL;
	settle(self, &comparison);
	if (comparison.verdict == HVP_COMPARE_FALSE)
		note_false(&comparison, ret_false);
	*ret_view = (HvpKthreadView){ comparison.state, true, comparison.claim,
				      comparison.verdict };
}

GArray *hvp_kthread_view_read(HvpTarget *target, const HvpSweep *sweep, GError **ret_false,
			      GError **error)
{
	g_autoptr(GArray) views = g_array_new(FALSE, TRUE, sizeof(HvpKthreadView));
	g_auto(Viewer) viewer = { .target = target,
				  .claims = hvp_claims_new(),
				  .deadline = hvp_deadline_in(AGENT_USEC) };

	viewer.reader = hvp_tasks_new(target->kernel, error);
	if (viewer.reader == NULL)
		return NULL;
	ask_all(&viewer);
	if (hvp_claims_count(viewer.claims) > 0 &&
	    !hvp_compare_boot(target->kernel, hvp_claims_get_boot_id(viewer.claims), ret_false))
		g_message("the guest's agent speaks of another boot");
	hvp_address_space_forget(hvp_kernel_get_space(target->kernel));
	g_array_set_size(views, hvp_sweep_count(sweep));
	for (guint i = 0; i < views->len; i++) {
		const HvpTask *task = &hvp_sweep_get(sweep, i)->task;

		if (hvp_task_is_kthread(task))
			view(&viewer, task, &g_array_index(views, HvpKthreadView, i), ret_false);
	}
	return g_steal_pointer(&views);
}
