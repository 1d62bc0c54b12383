/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/looks.h"

#include <string.h>

#include "daemon/problem.h"
#include "daemon/run.h"

#define DEADLINE_USEC (120 * G_USEC_PER_SEC)

typedef struct {
	char *uuid;
	char *name;
} Wanted;

struct HvpLooks {
	const HvpConfig *config;
	const HvpLooksHandlers *handlers;
	gpointer data;
	GQueue queue; /* Wanted */
	Wanted *now;  /* NULL: none is at work */
	HvpWorker *worker;
	guint next; /* source; 0: none */
};

static void plan(HvpLooks *self);

static void wanted_free(gpointer data)
{
	Wanted *wanted = data;

	if (wanted == NULL)
		return;
	g_free(wanted->uuid);
	g_free(wanted->name);
	g_free(wanted);
}

static void on_progress(JsonObject *progress, gpointer data)
{
	(void)progress;
	(void)data;
}

static void on_ended(const HvpWorkerEnd *end, gpointer data)
{
	HvpLooks *self = data;
	HvpWorker *worker = g_steal_pointer(&self->worker);
	Wanted *seen = g_steal_pointer(&self->now);
	bool good = end->outcome == HVP_WORKER_DONE && end->code == NULL && end->result != NULL;

	if (end->outcome != HVP_WORKER_DONE)
		self->handlers->crashed(self->data);
	self->handlers->seen(seen->uuid, good ? end->result : NULL,
			     end->code ? end->code : "INTERNAL",
			     end->message ? end->message : "the worker saw nothing", self->data);
	hvp_worker_free(worker);
	wanted_free(seen);
	plan(self);
}

static gboolean on_next(gpointer data)
{
	static const HvpWorkerHandlers handlers = { on_progress, on_ended };
	HvpLooks *self = data;
	g_autofree char *job = NULL;
	g_autoptr(GError) error = NULL;

	self->next = 0;
	self->now = g_queue_pop_head(&self->queue);
	job = hvp_run_make_job(self->config, self->now->uuid, self->now->name, "look", NULL, NULL);
	self->worker = hvp_worker_start(job, -1, DEADLINE_USEC, &handlers, self, &error);
	if (self->worker != NULL)
		return G_SOURCE_REMOVE;
	self->handlers->seen(self->now->uuid, NULL, hvp_problem_code(error), error->message,
			     self->data);
	g_clear_pointer(&self->now, wanted_free);
	plan(self);
	return G_SOURCE_REMOVE;
}

static void plan(HvpLooks *self)
{
	if (self->next == 0 && self->now == NULL && !g_queue_is_empty(&self->queue))
		self->next = g_idle_add_full(G_PRIORITY_LOW, on_next, self, NULL);
}

HvpLooks *hvp_looks_new(const HvpConfig *config, const HvpLooksHandlers *handlers, gpointer data)
{
	HvpLooks *self = g_new0(HvpLooks, 1);

	self->config = config;
	self->handlers = handlers;
	self->data = data;
	g_queue_init(&self->queue);
	return self;
}

void hvp_looks_free(HvpLooks *self)
{
	if (self == NULL)
		return;
	if (self->next != 0)
		g_source_remove(self->next);
	hvp_worker_free(self->worker);
	wanted_free(self->now);
	g_queue_clear_full(&self->queue, wanted_free);
	g_free(self);
}

static gint compare_uuid(gconstpointer wanted, gconstpointer uuid)
{
	return strcmp(((const Wanted *)wanted)->uuid, uuid);
}

static void drop_waiting(HvpLooks *self, const char *uuid)
{
	GList *link = g_queue_find_custom(&self->queue, uuid, compare_uuid);

	if (link == NULL)
		return;
	wanted_free(link->data);
	g_queue_delete_link(&self->queue, link);
	if (self->next == 0 || !g_queue_is_empty(&self->queue))
		return;
	g_source_remove(self->next);
	self->next = 0;
}

void hvp_looks_drop(HvpLooks *self, const char *uuid)
{
	drop_waiting(self, uuid);
	if (self->now == NULL || strcmp(self->now->uuid, uuid) != 0)
		return;
	g_clear_pointer(&self->worker, hvp_worker_free);
	g_clear_pointer(&self->now, wanted_free);
	plan(self);
}

void hvp_looks_want(HvpLooks *self, const char *uuid, const char *name)
{
	Wanted *wanted;

	if (g_queue_find_custom(&self->queue, uuid, compare_uuid) != NULL)
		return;
	wanted = g_new0(Wanted, 1);
	wanted->uuid = g_strdup(uuid);
	wanted->name = g_strdup(name);
	g_queue_push_tail(&self->queue, wanted);
	plan(self);
}
