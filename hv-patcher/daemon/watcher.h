/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happens to domains, told in the main loop. A thread that lives as long as the process keeps
 * the connection that tells it. There can be one only.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "vm/domain-event.h"

typedef struct {
	/* Whether there are events at all; told once, before which nobody else may use libvirt. */
	void (*started)(bool has_events, gpointer data);
	/* @uuid in lower case. */
	void (*happened)(HvpDomainEvent event, const char *uuid, gpointer data);
	/* The connection came or went. */
	void (*connection)(bool is_there, gpointer data);
} HvpWatcherHandlers;

/* @uri NULL: libvirt's default. @handlers and @data have to live as long as the main loop. */
void hvp_watcher_start(const char *uri, const HvpWatcherHandlers *handlers, gpointer data);
