/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/watcher.h"

#include "vm/libvirt-events.h"

#define MEND_USEC G_USEC_PER_SEC
#define RETRY_USEC (5 * G_USEC_PER_SEC)

typedef struct {
	char *uri;
	const HvpWatcherHandlers *handlers;
	gpointer data;
	bool has_told; /* whether it has started */
} Watcher;

typedef enum { STARTED, HAPPENED, CONNECTION } Kind;

/* One thing on its way to the main loop. */
typedef struct {
	const Watcher *watcher;
	Kind kind;
	bool yes; /* of STARTED and CONNECTION */
	HvpDomainEvent event;
	char *uuid;
} News;

static gboolean deliver(gpointer data)
{
	News *news = data;
	const Watcher *watcher = news->watcher;

	switch (news->kind) {
	case STARTED:
		watcher->handlers->started(news->yes, watcher->data);
		break;
	case HAPPENED:
		watcher->handlers->happened(news->event, news->uuid, watcher->data);
		break;
	case CONNECTION:
		watcher->handlers->connection(news->yes, watcher->data);
		break;
	}
	g_free(news->uuid);
	g_free(news);
	return G_SOURCE_REMOVE;
}

static News *news_new(const Watcher *watcher, Kind kind)
{
	News *news = g_new0(News, 1);

	news->watcher = watcher;
	news->kind = kind;
	return news;
}

static void on_happened(gpointer data, HvpDomainEvent event, const char *uuid, const char *name)
{
	News *news = news_new(data, HAPPENED);

	(void)name;
	news->event = event;
	news->uuid = g_ascii_strdown(uuid, -1);
	g_idle_add(deliver, news);
}

static void on_connection(gpointer data, const GError *reason)
{
	News *news = news_new(data, CONNECTION);

	news->yes = reason == NULL;
	g_idle_add(deliver, news);
}

static void tell_started(Watcher *self, bool has_events)
{
	News *news = news_new(self, STARTED);

	if (!self->has_told) {
		news->yes = has_events;
		g_idle_add(deliver, news);
	} else {
		g_free(news);
		if (has_events)
			on_connection(self, NULL);
	}
	self->has_told = true;
}

/*
 * The daemon of libvirt may come later than ours. What a failed beginning leaves in libvirt's loop
 * is a timer that is never due.
 */
static HvpLibvirtEvents *begin(Watcher *self)
{
	static const HvpLibvirtEventsHandlers handlers = { on_happened, on_connection };

	for (;;) {
		g_autoptr(GError) error = NULL;
		HvpLibvirtEvents *events = hvp_libvirt_events_new(self->uri, &handlers, self,
								  &error);

		tell_started(self, events != NULL);
		if (events != NULL || g_error_matches(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED))
			return events;
		g_usleep(RETRY_USEC);
	}
}

/* Events come by way of the main loop; what blocks, connecting, is done here. */
static gpointer run(gpointer data)
{
	HvpLibvirtEvents *events = begin(data);

	while (events != NULL) {
		g_usleep(MEND_USEC);
		hvp_libvirt_events_mend(events);
	}
	return NULL;
}

void hvp_watcher_start(const char *uri, const HvpWatcherHandlers *handlers, gpointer data)
{
	Watcher *self = g_new0(Watcher, 1);

	self->uri = g_strdup(uri);
	self->handlers = handlers;
	self->data = data;
	g_thread_unref(g_thread_new("libvirt-events", run, self));
}
