/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/recover-worker.h"

#include <string.h>

#include "base/json-text.h"
#include "errand/worker.h"

/* As the daemon has it. */
#define DEADLINE_USEC (120 * G_USEC_PER_SEC)
/* Behind it, for one that cannot even be killed at once. */
#define BURIAL_USEC (5 * G_USEC_PER_SEC)
#define MAX_LOST 2U
/*
 * A keeper may still be at it, or a call that has to come to its end. Not for long: the core, which
 * waits for us to start, tries again itself, and for longer.
 */
#define RETRY_USEC (2 * G_USEC_PER_SEC)
#define MAX_RETRIES 3U
#define MAX_DONE_BYTES 1024U

struct HvpRecoverWorker {
	char *name;
	char *job;
	HvpDeadline deadline;
	HvpWorker *worker;   /* NULL: none is at work */
	guint retry, burial; /* sources; 0: none */
	guint lost, retries;
	HvpRecoverWorkerEnd end;
	char *done;
	GError *error;
};

static void start(HvpRecoverWorker *self);

/* --- the job --- */

static JsonObject *make_options(const HvpCli *cli)
{
	g_autofree char *oracle = hvp_cli_find_oracle(cli);
	JsonObject *options = json_object_new();

	json_object_set_string_member(options, "backend", hvp_target_backend_names[cli->backend]);
	json_object_set_string_member(options, "trap",
				      cli->trap_kind == HVP_KEEPER_SPINS ? "spin" : "auto");
	if (oracle != NULL)
		json_object_set_string_member(options, "oracle", oracle);
	if (cli->agent_path != NULL)
		json_object_set_string_member(options, "agent", cli->agent_path);
	return options;
}

static char *make_job(const HvpCli *cli, const char *uri, const char *uuid, const char *name)
{
	JsonObject *job = json_object_new(), *domain = json_object_new();
	g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), job);

	json_object_set_string_member(domain, "uri", uri);
	json_object_set_string_member(domain, "uuid", uuid);
	json_object_set_string_member(domain, "name", name);
	json_object_set_string_member(job, "verb", "recover");
	json_object_set_object_member(job, "domain", domain);
	json_object_set_object_member(job, "options", make_options(cli));
	json_object_unref(job);
	return json_to_string(node, FALSE);
}

/* --- the end --- */

/* What it says may be the words of a guest that has taken it over. */
static void take_result(HvpRecoverWorker *self, const HvpWorkerEnd *end)
{
	JsonNode *done = end->result != NULL && end->code == NULL
				 ? hvp_json_text_typed_member(json_node_get_object(end->result),
							      "done", G_TYPE_STRING)
				 : NULL;
	const char *text = done ? json_node_get_string(done) : NULL;

	if (end->code != NULL) {
		hvp_error_set(&self->error, hvp_error_code_by_name(end->code), "%s", end->message);
	} else if (text == NULL || strlen(text) > MAX_DONE_BYTES) {
		hvp_error_set(&self->error, HVP_ERROR_BAD_DATA,
			      "the worker does not say what it did");
	} else {
		self->done = g_strdup(text);
		self->end = HVP_RECOVER_WORKER_DONE;
	}
}

static void set_lost(HvpRecoverWorker *self, const char *why)
{
	hvp_error_set(&self->error, HVP_ERROR_INCONSISTENT,
		      "%s; hvpatch --direct --domain %s recover does without one", why, self->name);
}

/* Of the first alone: a guest may have seen to it that there is a second. */
static void set_unbegun(HvpRecoverWorker *self, HvpErrorCode code, const char *why)
{
	if (self->lost + self->retries > 0) {
		set_lost(self, why);
		return;
	}
	self->end = HVP_RECOVER_WORKER_UNBEGUN;
	hvp_error_set(&self->error, code, "%s", why);
}

static void on_progress(JsonObject *progress, gpointer data)
{
	(void)progress;
	(void)data;
}

static gboolean on_retry(gpointer data)
{
	HvpRecoverWorker *self = data;

	self->retry = 0;
	start(self);
	return G_SOURCE_REMOVE;
}

/* Whether it may be possible in a moment; then it is tried again. */
static bool is_for_later(HvpRecoverWorker *self, const HvpWorkerEnd *end)
{
	HvpErrorCode code;

	if (end->outcome != HVP_WORKER_DONE || end->code == NULL || self->retries == MAX_RETRIES ||
	    hvp_deadline_left_usec(self->deadline) <= RETRY_USEC)
		return false;
	code = hvp_error_code_by_name(end->code);
	if (code != HVP_ERROR_BUSY && code != HVP_ERROR_TIMED_OUT)
		return false;
	self->retries++;
	self->retry = g_timeout_add(RETRY_USEC / 1000, on_retry, self);
	return true;
}

static void on_ended(const HvpWorkerEnd *end, gpointer data)
{
	HvpRecoverWorker *self = data;
	HvpWorker *worker = g_steal_pointer(&self->worker);

	if (self->error != NULL)
		g_debug("%s: told too late: %s", self->name, end->message);
	else if (is_for_later(self, end))
		g_debug("%s: %s: once more", self->name, end->message);
	else if (end->is_unbegun)
		set_unbegun(self, HVP_ERROR_INTERNAL, end->message);
	else if (end->outcome == HVP_WORKER_DONE)
		take_result(self, end);
	else if (++self->lost < MAX_LOST && end->outcome != HVP_WORKER_TIMED_OUT)
		start(self);
	else
		set_lost(self, end->message);
	/* The end's words are its own. */
	hvp_worker_free(worker);
}

/* --- the beginning --- */

static void start(HvpRecoverWorker *self)
{
	static const HvpWorkerHandlers handlers = { on_progress, on_ended };
	g_autoptr(GError) reason = NULL;

	self->worker = hvp_worker_start(self->job, -1, hvp_deadline_left_usec(self->deadline),
					&handlers, self, &reason);
	if (self->worker == NULL)
		set_unbegun(self, (HvpErrorCode)reason->code, reason->message);
}

/* It was killed, and sleeps in the kernel: whoever waits is not to wait for that. */
static gboolean on_burial(gpointer data)
{
	HvpRecoverWorker *self = data;

	self->burial = 0;
	if (self->worker != NULL)
		set_lost(self, "the worker did not come to an end, killed or not");
	return G_SOURCE_REMOVE;
}

HvpRecoverWorker *hvp_recover_worker_new(const HvpCli *cli, const char *uri, const char *uuid,
					 const char *name, HvpDeadline deadline)
{
	HvpRecoverWorker *self = g_new0(HvpRecoverWorker, 1);

	self->name = g_strdup(name);
	self->job = make_job(cli, uri, uuid, name);
	self->deadline = hvp_deadline_min(deadline, hvp_deadline_in(DEADLINE_USEC));
	self->end = HVP_RECOVER_WORKER_FAILED;
	self->burial = g_timeout_add(
		(guint)((hvp_deadline_left_usec(self->deadline) + BURIAL_USEC) / 1000), on_burial,
		self);
	start(self);
	return self;
}

void hvp_recover_worker_free(HvpRecoverWorker *self)
{
	if (self == NULL)
		return;
	hvp_worker_free(self->worker);
	g_clear_handle_id(&self->retry, g_source_remove);
	g_clear_handle_id(&self->burial, g_source_remove);
	g_clear_error(&self->error);
	g_free(self->done);
	g_free(self->job);
	g_free(self->name);
	g_free(self);
}

bool hvp_recover_worker_is_over(const HvpRecoverWorker *self)
{
	return self->error != NULL || (self->worker == NULL && self->retry == 0);
}

HvpRecoverWorkerEnd hvp_recover_worker_take(HvpRecoverWorker *self, char **ret_done, GError **error)
{
	if (self->error != NULL)
		g_propagate_error(error, g_steal_pointer(&self->error));
	else
		*ret_done = g_steal_pointer(&self->done);
	return self->end;
}
