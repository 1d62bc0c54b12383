/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/looks.h"

#include <string.h>

#include "daemon/problem.h"
#include "daemon/run.h"

#define DEADLINE_USEC (120 * G_USEC_PER_SEC)
/* One would do but for guests that are slow or hostile, which keep their place until the end. */
#define MAX_AT_WORK 4U

typedef struct {
	HvpLooks *looks; /* whose it is */
	char *uuid;
	char *name;
	HvpWorker *worker; /* NULL: it waits */
} Look;

struct HvpLooks {
	const HvpConfig *config;
	const HvpLooksHandlers *handlers;
	gpointer data;
	GQueue waiting;	    /* Look, one a domain */
	GPtrArray *at_work; /* likewise */
	guint next;	    /* source; 0: none */
};

static void plan(HvpLooks *self);

static void look_free(gpointer data)
{
	Look *look = data;

	if (look == NULL)
		return;
	hvp_worker_free(look->worker);
	g_free(look->uuid);
	g_free(look->name);
	g_free(look);
}

static bool find_at_work(const HvpLooks *self, const char *uuid, guint *ret_index)
{
	for (guint i = 0; i < self->at_work->len; i++) {
		const Look *look = g_ptr_array_index(self->at_work, i);

		if (strcmp(look->uuid, uuid) != 0)
			continue;
		*ret_index = i;
		return true;
	}
	return false;
}

/* The first whose domain nobody looks at; NULL: there is none, or enough are at work. */
static GList *find_due(const HvpLooks *self)
{
	guint ignored;

	if (self->at_work->len >= MAX_AT_WORK)
		return NULL;
	for (GList *link = self->waiting.head; link != NULL; link = link->next)
		if (!find_at_work(self, ((const Look *)link->data)->uuid, &ignored))
			return link;
	return NULL;
}

static void on_progress(JsonObject *progress, gpointer data)
{
	(void)progress;
	(void)data;
}

static void on_ended(const HvpWorkerEnd *end, gpointer data)
{
	Look *look = data;
	HvpLooks *self = look->looks;
	bool good = end->outcome == HVP_WORKER_DONE && end->code == NULL && end->result != NULL;

	if (end->outcome != HVP_WORKER_DONE)
		self->handlers->crashed(self->data);
	self->handlers->seen(look->uuid, good ? end->result : NULL,
			     end->code ? end->code : "INTERNAL",
			     end->message ? end->message : "the worker saw nothing", self->data);
	g_ptr_array_remove_fast(self->at_work, look);
	plan(self);
}

/* Takes @look. */
static void start(HvpLooks *self, Look *look)
{
	static const HvpWorkerHandlers handlers = { on_progress, on_ended };
	g_autofree char *job = hvp_run_make_job(self->config, look->uuid, look->name, "look", NULL,
						NULL);
	g_autoptr(GError) error = NULL;

	look->worker = hvp_worker_start(job, -1, DEADLINE_USEC, &handlers, look, &error);
	if (look->worker != NULL) {
		g_ptr_array_add(self->at_work, look);
		return;
	}
	self->handlers->seen(look->uuid, NULL, hvp_problem_code(error), error->message, self->data);
	look_free(look);
}

static gboolean on_next(gpointer data)
{
	HvpLooks *self = data;
	GList *due = find_due(self);
	Look *look;

	self->next = 0;
	if (due == NULL)
		return G_SOURCE_REMOVE;
	look = due->data;
	g_queue_delete_link(&self->waiting, due);
	start(self, look);
	plan(self);
	return G_SOURCE_REMOVE;
}

static void plan(HvpLooks *self)
{
	if (self->next == 0 && find_due(self) != NULL)
		self->next = g_idle_add_full(G_PRIORITY_LOW, on_next, self, NULL);
}

HvpLooks *hvp_looks_new(const HvpConfig *config, const HvpLooksHandlers *handlers, gpointer data)
{
	HvpLooks *self = g_new0(HvpLooks, 1);

	self->config = config;
	self->handlers = handlers;
	self->data = data;
	self->at_work = g_ptr_array_new_with_free_func(look_free);
	g_queue_init(&self->waiting);
	return self;
}

void hvp_looks_free(HvpLooks *self)
{
	if (self == NULL)
		return;
	if (self->next != 0)
		g_source_remove(self->next);
	g_ptr_array_unref(self->at_work);
	g_queue_clear_full(&self->waiting, look_free);
	g_free(self);
}

static gint compare_uuid(gconstpointer look, gconstpointer uuid)
{
	return strcmp(((const Look *)look)->uuid, uuid);
}

bool hvp_looks_are_at(const HvpLooks *self, const char *uuid)
{
	guint ignored;

	return find_at_work(self, uuid, &ignored);
}

bool hvp_looks_are_wanted(const HvpLooks *self, const char *uuid)
{
	return hvp_looks_are_at(self, uuid) ||
	       g_queue_find_custom((GQueue *)&self->waiting, uuid, compare_uuid) != NULL;
}

void hvp_looks_drop(HvpLooks *self, const char *uuid)
{
	GList *waiting = g_queue_find_custom(&self->waiting, uuid, compare_uuid);
	guint index;

	if (waiting != NULL) {
		look_free(waiting->data);
		g_queue_delete_link(&self->waiting, waiting);
	}
	if (!find_at_work(self, uuid, &index))
		return;
	g_ptr_array_remove_index_fast(self->at_work, index);
	plan(self);
}

void hvp_looks_want(HvpLooks *self, const char *uuid, const char *name)
{
	Look *look;

	if (g_queue_find_custom(&self->waiting, uuid, compare_uuid) != NULL)
		return;
	look = g_new0(Look, 1);
	look->looks = self;
	look->uuid = g_strdup(uuid);
	look->name = g_strdup(name);
	g_queue_push_tail(&self->waiting, look);
	plan(self);
}
