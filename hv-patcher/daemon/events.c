/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/events.h"

#include <string.h>

#include "daemon/files.h"
#include "daemon/fields.h"

#define FILE_NAME "events.json"
#define MEMBER "next"
/* One write to the disk for so many numbers. */
#define RESERVED 4096U

struct HvpEvents {
	char *path;
	GQueue ring; /* HvpEvent, oldest first */
	gsize held_bytes;
	guint64 newest;
	guint64 reserved; /* numbers up to here are not used by the next start */
	HvpEventsListener listener;
	gpointer listener_data;
};

static const char *type_name(HvpEventType type)
{
	static const char *const names[] = { [HVP_EVENT_OPERATION] = "operation",
					     [HVP_EVENT_DOMAIN] = "domain",
					     [HVP_EVENT_PATCH] = "patch",
					     [HVP_EVENT_DAEMON] = "daemon" };

	return names[type];
}

static void event_free(gpointer data)
{
	HvpEvent *event = data;

	g_free(event->domain_uuid);
	g_free(event->domain_name);
	g_free(event->text);
	g_free(event);
}

static bool reserve(HvpEvents *self, GError **error)
{
	g_autoptr(JsonNode) node = NULL;
	JsonObject *object = json_object_new();

	self->reserved = self->newest + RESERVED;
	json_object_set_int_member(object, MEMBER, (gint64)self->reserved);
	node = hvp_fields_node(object);
	return hvp_files_write_json(self->path, node, error);
}

HvpEvents *hvp_events_new(const char *folder, GError **error)
{
	g_autoptr(HvpEvents) self = g_new0(HvpEvents, 1);
	g_autoptr(GError) reason = NULL;
	g_autoptr(JsonNode) node = NULL;

	g_queue_init(&self->ring);
	self->path = g_build_filename(folder, FILE_NAME, NULL);
	node = hvp_files_read_json(self->path, &reason);
	if (node != NULL) {
		JsonObject *object = json_node_get_object(node);

		self->newest = (guint64)MAX(0, hvp_fields_get_integer(object, MEMBER, 0));
	} else if (!g_error_matches(reason, HVP_ERROR, HVP_ERROR_NOT_FOUND)) {
		g_propagate_error(error, g_steal_pointer(&reason));
		return NULL;
	}
	return reserve(self, error) ? g_steal_pointer(&self) : NULL;
}

void hvp_events_free(HvpEvents *self)
{
	if (self == NULL)
		return;
	g_queue_clear_full(&self->ring, event_free);
	g_free(self->path);
	g_free(self);
}

void hvp_events_set_listener(HvpEvents *self, HvpEventsListener listener, gpointer data)
{
	self->listener = listener;
	self->listener_data = data;
}

static char *make_text(guint64 seq, HvpEventType type, const char *id, JsonNode *document)
{
	JsonObject *object = json_object_new();
	g_autoptr(JsonNode) node = hvp_fields_node(object);

	json_object_set_int_member(object, "seq", (gint64)seq);
	hvp_fields_set_time(object, "at", g_get_real_time());
	json_object_set_string_member(object, "type", type_name(type));
	json_object_set_string_member(object, "id", id);
	hvp_fields_set_node(object, "document", document);
	return hvp_fields_to_text(node);
}

static void drop_oldest(HvpEvents *self)
{
	while (self->ring.length > HVP_EVENTS_MAX ||
	       (self->held_bytes > HVP_EVENTS_MAX_BYTES && self->ring.length > 1)) {
		HvpEvent *oldest = g_queue_pop_head(&self->ring);

		self->held_bytes -= strlen(oldest->text);
		event_free(oldest);
	}
}

void hvp_events_add(HvpEvents *self, HvpEventType type, const char *id, const char *uuid,
		    const char *name, JsonNode *document)
{
	HvpEvent *event = g_new0(HvpEvent, 1);
	g_autoptr(GError) error = NULL;

	event->seq = ++self->newest;
	event->type = type;
	event->domain_uuid = g_strdup(uuid);
	event->domain_name = g_strdup(name);
	event->text = make_text(event->seq, type, id, document);
	g_queue_push_tail(&self->ring, event);
	self->held_bytes += strlen(event->text);
	drop_oldest(self);
	/* Where the disk does not keep it, numbers may come twice: after a restart only. */
	if (self->newest >= self->reserved && !reserve(self, &error))
		g_warning("events: %s", error->message);
	if (self->listener != NULL)
		self->listener(event, self->listener_data);
}

guint64 hvp_events_get_oldest(const HvpEvents *self)
{
	const HvpEvent *oldest = g_queue_peek_head((GQueue *)&self->ring);

	return oldest ? oldest->seq : self->newest + 1;
}

guint64 hvp_events_get_newest(const HvpEvents *self)
{
	return self->newest;
}

/* The first one behind @since; numbers in the ring have no gaps. */
static GList *find_first(const HvpEvents *self, guint64 since)
{
	guint64 oldest = hvp_events_get_oldest(self);
	guint64 skipped = since >= oldest ? since - oldest + 1 : 0;

	if (skipped >= self->ring.length)
		return NULL;
	return g_queue_peek_nth_link((GQueue *)&self->ring, (guint)skipped);
}

char *hvp_events_read(const HvpEvents *self, guint64 since, guint limit,
		      bool (*may_view)(const HvpEvent *event, gpointer data), gpointer data)
{
	GString *text = g_string_new("[");
	guint count = 0;

	limit = MIN(limit, HVP_EVENTS_MAX_READ);
	for (GList *link = find_first(self, since); link != NULL && count < limit;
	     link = link->next) {
		const HvpEvent *event = link->data;

		if (!may_view(event, data))
			continue;
		if (count++ > 0)
			g_string_append_c(text, ',');
		g_string_append(text, event->text);
	}
	g_string_append_c(text, ']');
	return g_string_free(text, FALSE);
}
