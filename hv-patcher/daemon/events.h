/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happened, numbered: a ring in memory, bounded in number and bytes. Whoever reads too slowly
 * finds the oldest gone; nothing is held for him. Numbers go up across restarts, where the disk
 * keeps one from which to go on; those in between are skipped.
 *
 * An event is {"seq", "at", "type", "id", "document"}.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "base/error.h"

#define HVP_EVENTS_MAX 4096U
#define HVP_EVENTS_MAX_BYTES (16U << 20)
#define HVP_EVENTS_MAX_READ 1000U

typedef enum {
	HVP_EVENT_OPERATION,
	HVP_EVENT_DOMAIN,
	HVP_EVENT_PATCH,
	HVP_EVENT_DAEMON,
} HvpEventType;

typedef struct {
	guint64 seq;
	HvpEventType type;
	char *domain_uuid; /* who may view this domain may view it; NULL: it is of none */
	char *domain_name;
	char *text; /* the document */
} HvpEvent;

typedef struct HvpEvents HvpEvents;

/* Told of each event; @event is borrowed. */
typedef void (*HvpEventsListener)(const HvpEvent *event, gpointer data);

/* @folder: where the number is kept. FAULT, BAD_DATA. */
HvpEvents *hvp_events_new(const char *folder, GError **error);
void hvp_events_free(HvpEvents *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpEvents, hvp_events_free)

void hvp_events_set_listener(HvpEvents *self, HvpEventsListener listener, gpointer data);

/* @document: what @id is from now on; NULL: it is gone. @uuid and @name: of the domain, or NULL. */
void hvp_events_add(HvpEvents *self, HvpEventType type, const char *id, const char *uuid,
		    const char *name, JsonNode *document);

/* The number of the oldest that is held (one past the newest, if none is) and of the newest. */
guint64 hvp_events_get_oldest(const HvpEvents *self);
guint64 hvp_events_get_newest(const HvpEvents *self);

/*
 * An array of the events behind @since that @may_view lets pass, at most @limit; the caller's.
 */
char *hvp_events_read(const HvpEvents *self, guint64 since, guint limit,
		      bool (*may_view)(const HvpEvent *event, gpointer data), gpointer data);
