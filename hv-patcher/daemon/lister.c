/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/lister.h"

#include <gio/gio.h>

#include "base/text.h"
#include "vm/libvirt.h"

#define DEADLINE_SECONDS 30
/* Events come in swarms. */
#define GATHER_MSEC 100
#define MAX_NAME_BYTES 255

struct HvpLister {
	char *uri;
	HvpListerReady ready;
	gpointer data;
	guint gather, deadline; /* sources; 0: none */
	bool is_asking;		/* a thread is at it */
	bool is_late;		/* and was given up */
	bool is_wanted;		/* again, when it is back */
	bool is_dead;		/* freed, but for the thread */
};

static void listed_free(gpointer data)
{
	HvpListed *listed = data;

	g_free(listed->uuid);
	g_free(listed->name);
	g_free(listed);
}

/* --- the thread --- */

/* NULL: it is gone by now. */
static HvpListed *read_domain(const HvpLibvirtDomain *domain)
{
	const char *state = NULL;
	HvpListed *listed;

	if (!hvp_libvirt_domain_read_state(domain, &state, NULL))
		return NULL;
	listed = g_new0(HvpListed, 1);
	listed->uuid = g_ascii_strdown(hvp_libvirt_domain_get_uuid(domain), -1);
	listed->name = hvp_text_escape(hvp_libvirt_domain_get_name(domain), HVP_TEXT_TERMINATED,
				       MAX_NAME_BYTES);
	listed->state = state;
	listed->id = hvp_libvirt_domain_get_id(domain);
	return listed;
}

static GPtrArray *list(const char *uri, GError **error)
{
	g_autoptr(HvpLibvirt) libvirt = hvp_libvirt_connect(uri, error);
	g_autoptr(GPtrArray) domains = libvirt ? hvp_libvirt_list(libvirt, error) : NULL;
	GPtrArray *listed;

	if (domains == NULL)
		return NULL;
	listed = g_ptr_array_new_with_free_func(listed_free);
	for (guint i = 0; i < domains->len; i++) {
		HvpListed *one = read_domain(g_ptr_array_index(domains, i));

		if (one != NULL)
			g_ptr_array_add(listed, one);
	}
	/* Before the connection that they belong to. */
	g_clear_pointer(&domains, g_ptr_array_unref);
	return listed;
}

static void run(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
	GError *error = NULL;
	GPtrArray *listed = list(data, &error);

	(void)source;
	(void)cancellable;
	if (listed != NULL)
		g_task_return_pointer(task, listed, (GDestroyNotify)g_ptr_array_unref);
	else
		g_task_return_error(task, error);
}

/* --- the main loop --- */

static void begin(HvpLister *self);

static void on_listed(GObject *source, GAsyncResult *result, gpointer data)
{
	HvpLister *self = data;
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) listed = g_task_propagate_pointer(G_TASK(result), &error);
	bool was_late = self->is_late;

	(void)source;
	self->is_asking = self->is_late = false;
	if (self->is_dead) {
		hvp_lister_free(self);
		return;
	}
	if (self->deadline != 0)
		g_source_remove(self->deadline);
	self->deadline = 0;
	if (self->is_wanted || was_late)
		begin(self);
	if (!was_late)
		self->ready(listed, error, self->data);
}

static gboolean on_deadline(gpointer data)
{
	HvpLister *self = data;
	g_autoptr(GError) error = NULL;

	self->deadline = 0;
	self->is_late = true;
	hvp_error_set(&error, HVP_ERROR_TIMED_OUT, "libvirt does not answer");
	self->ready(NULL, error, self->data);
	return G_SOURCE_REMOVE;
}

static void begin(HvpLister *self)
{
	g_autoptr(GTask) task = g_task_new(NULL, NULL, on_listed, self);

	self->is_asking = true;
	self->is_wanted = false;
	self->deadline = g_timeout_add_seconds(DEADLINE_SECONDS, on_deadline, self);
	g_task_set_task_data(task, g_strdup(self->uri), g_free);
	g_task_run_in_thread(task, run);
}

static gboolean on_gathered(gpointer data)
{
	HvpLister *self = data;

	self->gather = 0;
	if (self->is_asking)
		self->is_wanted = true;
	else
		begin(self);
	return G_SOURCE_REMOVE;
}

HvpLister *hvp_lister_new(const char *uri, HvpListerReady ready, gpointer data)
{
	HvpLister *self = g_new0(HvpLister, 1);

	self->uri = g_strdup(uri);
	self->ready = ready;
	self->data = data;
	return self;
}

void hvp_lister_free(HvpLister *self)
{
	if (self == NULL)
		return;
	if (self->gather != 0)
		g_source_remove(self->gather);
	if (self->deadline != 0)
		g_source_remove(self->deadline);
	self->gather = self->deadline = 0;
	self->is_dead = true;
	if (self->is_asking)
		return;
	g_free(self->uri);
	g_free(self);
}

void hvp_lister_ask(HvpLister *self)
{
	if (self->gather == 0)
		self->gather = g_timeout_add(GATHER_MSEC, on_gathered, self);
}
