/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/run.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "daemon/fields.h"
#include "daemon/problem.h"

/* What a worker has beyond the time that its operation may wait; tests have less patience. */
#define GRACE_USEC (120 * G_USEC_PER_SEC)
#define GRACE_VARIABLE "HVPATCH_GRACE_MSEC"
/* Before an operator is called, those that put things in order are tried again: */
#define MAX_LOST 2U
/* and where a keeper is still at it, until it must have given up. */
#define MAX_BUSY 40U
#define BUSY_SECONDS 2
/* A guest can have more tasks in the way than anybody reads. */
#define MAX_RESULT_BYTES (256U << 10)
#define MAX_RESULT_ELEMENTS 50U
#define MAX_STEP_BYTES 256U
#define MAX_BLOCKERS 1000000
#define MAX_DETAIL_BYTES 2048U

struct HvpRun {
	HvpOperation *operation;
	const HvpConfig *config;
	HvpPatchStore *patches;
	const HvpRunHandlers *handlers;
	gpointer data;
	HvpPhase phase;
	guint lost, busy; /* how often, in this phase */
	bool recovered;
	bool is_opening; /* the patch: the run is kept until that is over */
	bool is_dead;	 /* freed meanwhile */
	guint next;	 /* source; 0: none */
	JsonNode *manifest;
	HvpWorker *worker;
};

static void start_worker(HvpRun *self, int patch_fd);

/* --- jobs --- */

static JsonObject *make_options(const HvpOperationRequest *request)
{
	JsonObject *options = json_object_new();
	JsonObjectIter iter;
	const char *name;
	JsonNode *value;

	if (request != NULL) {
		json_object_iter_init(&iter, json_node_get_object(request->options));
		while (json_object_iter_next(&iter, &name, &value))
			hvp_fields_set_node(options, name, value);
	}
	return options;
}

static void add_request(JsonObject *job, const HvpOperationRequest *request, JsonNode *manifest)
{
	hvp_fields_set_text(job, "patch", request->patch);
	hvp_fields_set_text(job, "name", request->name);
	hvp_fields_set_node(job, "manifest", manifest);
}

char *hvp_run_make_job(const HvpConfig *config, const char *uuid, const char *name,
		       const char *verb, const HvpOperationRequest *request, JsonNode *manifest)
{
	JsonObject *job = json_object_new();
	JsonObject *domain = json_object_new();
	g_autoptr(JsonNode) node = hvp_fields_node(job);

	json_object_set_string_member(domain, "uuid", uuid);
	json_object_set_string_member(domain, "name", name);
	hvp_fields_set_text(domain, "uri", config->uri);
	json_object_set_string_member(job, "verb", verb);
	json_object_set_object_member(job, "domain", domain);
	json_object_set_object_member(job, "options", make_options(request));
	if (request != NULL)
		add_request(job, request, manifest);
	return hvp_fields_to_text(node);
}

static char *make_job(const HvpRun *self)
{
	const HvpOperation *operation = self->operation;
	const HvpOperationRequest *request = operation->request;

	switch (self->phase) {
	case HVP_PHASE_RECOVER:
		return hvp_run_make_job(self->config, operation->domain, operation->domain_name,
					"recover", NULL, NULL);
	case HVP_PHASE_LOOK:
		return hvp_run_make_job(self->config, operation->domain, operation->domain_name,
					"look", NULL, NULL);
	default:
		return hvp_run_make_job(self->config, operation->domain, operation->domain_name,
					hvp_roles_verb_name(request->verb), request,
					self->manifest);
	}
}

static gint64 grace(void)
{
	const char *text = secure_getenv(GRACE_VARIABLE);
	guint64 msec;

	if (text == NULL || !g_ascii_string_to_unsigned(text, 10, 1, G_MAXINT, &msec, NULL))
		return GRACE_USEC;
	return (gint64)msec * 1000;
}

static gint64 deadline_of(const HvpRun *self)
{
	JsonObject *options = json_node_get_object(self->operation->request->options);
	double seconds = json_object_get_double_member_with_default(options, "timeout", 0);

	if (self->phase != HVP_PHASE_WORK)
		seconds = 0;
	return (gint64)(seconds * G_USEC_PER_SEC) + grace();
}

/* --- the end --- */

static void set_problem(HvpOperation *operation, const char *code, const char *detail)
{
	g_autofree char *instance = g_strdup_printf("/v1/operations/%s", operation->id);
	g_autofree char *text = hvp_text_escape(detail ? detail : "", HVP_TEXT_TERMINATED,
						MAX_DETAIL_BYTES);

	g_clear_pointer(&operation->error, json_node_unref);
	if (code != NULL)
		operation->error = hvp_problem_make(code, text, instance, NULL);
}

static void set_step(HvpOperation *operation, const char *step)
{
	g_free(operation->step);
	operation->step = g_strdup(step);
}

static void finish(HvpRun *self, const HvpOutcome *outcome)
{
	HvpOperation *operation = self->operation;

	operation->state = outcome->state;
	operation->is_settling = false;
	operation->blockers = 0;
	operation->ended_usec = g_get_real_time();
	set_problem(operation, outcome->code, outcome->detail);
	if (outcome->state == HVP_OPERATION_CANCELLED)
		g_clear_pointer(&operation->result, json_node_unref);
	set_step(operation, hvp_operation_state_name(outcome->state));
	self->handlers->ended(operation, self->data);
}

static void finish_with(HvpRun *self, HvpOperationState state, const GError *error)
{
	HvpOutcome outcome = { .is_over = true,
			       .state = state,
			       .code = error ? hvp_problem_code(error) : NULL,
			       .detail = error ? error->message : NULL };

	finish(self, &outcome);
}

static JsonNode *shorten_array(JsonNode *node)
{
	JsonArray *array = json_node_get_array(node);
	JsonArray *shorter = json_array_new();
	JsonNode *made = json_node_new(JSON_NODE_ARRAY);

	for (guint i = 0; i < MIN(json_array_get_length(array), MAX_RESULT_ELEMENTS); i++)
		json_array_add_element(shorter, json_node_ref(json_array_get_element(array, i)));
	json_node_take_array(made, shorter);
	return made;
}

/* The same with its lists cut off, and "shortened". */
static JsonNode *shorten(JsonNode *result)
{
	JsonObject *object = json_node_get_object(result);
	JsonObject *shorter = json_object_new();
	g_autoptr(GList) members = json_object_get_members(object);

	for (GList *member = members; member != NULL; member = member->next) {
		JsonNode *node = json_object_get_member(object, member->data);

		json_object_set_member(shorter, member->data,
				       JSON_NODE_HOLDS_ARRAY(node) ? shorten_array(node)
								   : json_node_ref(node));
	}
	json_object_set_boolean_member(shorter, "shortened", TRUE);
	return hvp_fields_node(shorter);
}

/* What is still too long has no business to be. */
static JsonNode *fit_result(JsonNode *result)
{
	g_autofree char *text = hvp_fields_to_text(result);
	g_autofree char *again = NULL;
	g_autoptr(JsonNode) shorter = NULL;

	if (strlen(text) <= MAX_RESULT_BYTES)
		return json_node_ref(result);
	shorter = shorten(result);
	again = hvp_fields_to_text(shorter);
	return strlen(again) <= MAX_RESULT_BYTES ? g_steal_pointer(&shorter) : NULL;
}

static void keep_result(HvpRun *self, JsonNode *result)
{
	if (self->phase == HVP_PHASE_LOOK || result == NULL)
		return;
	g_clear_pointer(&self->operation->result, json_node_unref);
	self->operation->result = fit_result(result);
}

static void begin_phase(HvpRun *self)
{
	self->handlers->changed(self->operation, self->data);
	start_worker(self, -1);
}

static void enter(HvpRun *self, HvpPhase phase)
{
	self->lost = self->busy = 0;
	self->phase = phase;
	self->operation->is_settling = phase != HVP_PHASE_WORK;
	if (phase == HVP_PHASE_RECOVER)
		set_step(self->operation, "the worker was lost: finishing what it left");
	else if (phase == HVP_PHASE_LOOK)
		set_step(self->operation, "looking at what is in force");
	begin_phase(self);
}

static gboolean on_again(gpointer data)
{
	HvpRun *self = data;

	self->next = 0;
	begin_phase(self);
	return G_SOURCE_REMOVE;
}

static bool is_for_later(const HvpWorkerEnd *end)
{
	return g_strcmp0(end->code, "BUSY") == 0 || g_strcmp0(end->code, "TIMED_OUT") == 0;
}

static bool try_again(HvpRun *self, const HvpWorkerEnd *end)
{
	if (self->phase == HVP_PHASE_WORK)
		return false;
	if (end->outcome != HVP_WORKER_DONE && ++self->lost < MAX_LOST) {
		begin_phase(self);
		return true;
	}
	if (end->outcome != HVP_WORKER_DONE || !is_for_later(end) || ++self->busy >= MAX_BUSY)
		return false;
	self->next = g_timeout_add_seconds(BUSY_SECONDS, on_again, self);
	return true;
}

static void note_end(HvpRun *self, const HvpWorkerEnd *end)
{
	if (end->outcome != HVP_WORKER_DONE)
		self->handlers->crashed(self->data);
	if (self->phase == HVP_PHASE_LOOK && end->result != NULL && end->code == NULL)
		self->handlers->looked(self->operation, end->result, self->data);
	if (end->code == NULL && hvp_outcome_has_recovered(end->result)) {
		self->recovered = true;
		self->handlers->recovered(self->data);
	}
	keep_result(self, end->result);
}

static void on_ended(const HvpWorkerEnd *end, gpointer data)
{
	HvpRun *self = data;
	HvpWorker *worker = g_steal_pointer(&self->worker);
	HvpOutcome outcome = hvp_outcome_of(self->operation, self->phase, end, self->recovered);

	note_end(self, end);
	if (!try_again(self, end)) {
		if (outcome.is_over)
			finish(self, &outcome);
		else
			enter(self, outcome.next);
	}
	/* What the outcome says may be the worker's words. */
	hvp_worker_free(worker);
}

/* --- progress --- */

static guint count_of(JsonObject *progress, const char *name)
{
	return (guint)CLAMP(hvp_fields_get_integer(progress, name, 0), 0, MAX_BLOCKERS);
}

static void on_progress(JsonObject *progress, gpointer data)
{
	HvpRun *self = data;
	HvpOperation *operation = self->operation;
	const char *state = hvp_fields_get_text(progress, "state");
	const char *step = hvp_fields_get_text(progress, "step");
	HvpOperationState next;

	if (self->phase != HVP_PHASE_WORK)
		return;
	/* The end is the daemon's to say. */
	if (state != NULL && hvp_operation_find_state(state, &next) &&
	    hvp_operation_may_follow(operation->state, next) && !hvp_operation_is_end(next))
		operation->state = next;
	if (step != NULL) {
		g_free(operation->step);
		operation->step = hvp_text_escape(step, HVP_TEXT_TERMINATED, MAX_STEP_BYTES);
	}
	operation->attempt = count_of(progress, "attempt");
	operation->blockers = count_of(progress, "blockers");
	self->handlers->changed(operation, self->data);
}

/* --- the beginning --- */

static const HvpWorkerHandlers worker_handlers = { on_progress, on_ended };

static gboolean on_not_started(gpointer data)
{
	HvpRun *self = data;
	g_autoptr(GError) error = NULL;

	self->next = 0;
	hvp_error_set(&error, HVP_ERROR_INTERNAL, "the worker could not be started");
	/* What an earlier one left is still there. */
	finish_with(self,
		    self->phase == HVP_PHASE_WORK ? HVP_OPERATION_FAILED
						  : HVP_OPERATION_NEEDS_OPERATOR,
		    error);
	return G_SOURCE_REMOVE;
}

static void start_worker(HvpRun *self, int patch_fd)
{
	g_autofree char *job = make_job(self);
	g_autoptr(GError) error = NULL;

	self->worker = hvp_worker_start(job, patch_fd, deadline_of(self), &worker_handlers, self,
					&error);
	if (self->worker != NULL)
		return;
	g_warning("operation %s: %s", self->operation->id, error->message);
	self->next = g_idle_add(on_not_started, self);
}

static void on_patch_open(GObject *source, GAsyncResult *result, gpointer data)
{
	HvpRun *self = data;
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpSealed) sealed = hvp_patch_store_open_finish(self->patches, result, &error);

	(void)source;
	self->is_opening = false;
	if (self->is_dead)
		hvp_run_free(self);
	else if (self->operation->cancel_wanted)
		finish_with(self, HVP_OPERATION_CANCELLED, NULL);
	else if (sealed == NULL)
		finish_with(self, HVP_OPERATION_FAILED, error);
	else
		start_worker(self, sealed->fd);
}

static void open_patch(HvpRun *self)
{
	const HvpOperationRequest *request = self->operation->request;
	const HvpStoredPatch *patch;
	g_autoptr(GError) error = NULL;

	patch = hvp_patch_store_find(self->patches, request->patch, &error);
	if (patch == NULL || !hvp_patch_store_check_serial(self->patches, patch, &error)) {
		finish_with(self, HVP_OPERATION_FAILED, error);
		return;
	}
	self->manifest = patch->manifest ? json_node_ref(patch->manifest) : NULL;
	self->is_opening = true;
	hvp_patch_store_open(self->patches, patch, on_patch_open, self);
}

static gboolean on_begin(gpointer data)
{
	HvpRun *self = data;
	const HvpOperationRequest *request = self->operation->request;

	self->next = 0;
	if (self->phase == HVP_PHASE_RECOVER)
		enter(self, HVP_PHASE_RECOVER);
	else if (self->operation->cancel_wanted)
		finish_with(self, HVP_OPERATION_CANCELLED, NULL);
	else if (request->patch == NULL || request->verb == HVP_VERB_REVERT)
		start_worker(self, -1);
	else
		open_patch(self);
	return G_SOURCE_REMOVE;
}

HvpRun *hvp_run_start(HvpOperation *operation, HvpPhase phase, const HvpConfig *config,
		      HvpPatchStore *patches, const HvpRunHandlers *handlers, gpointer data)
{
	HvpRun *self = g_new0(HvpRun, 1);

	self->operation = operation;
	self->phase = phase;
	self->config = config;
	self->patches = patches;
	self->handlers = handlers;
	self->data = data;
	self->next = g_idle_add(on_begin, self);
	return self;
}

void hvp_run_cancel(HvpRun *self)
{
	if (self->worker != NULL && self->phase == HVP_PHASE_WORK)
		hvp_worker_cancel(self->worker);
}

void hvp_run_free(HvpRun *self)
{
	if (self == NULL)
		return;
	self->is_dead = true;
	if (self->next != 0)
		g_source_remove(self->next);
	self->next = 0;
	g_clear_pointer(&self->worker, hvp_worker_free);
	if (self->is_opening)
		return;
	g_clear_pointer(&self->manifest, json_node_unref);
	g_free(self);
}
