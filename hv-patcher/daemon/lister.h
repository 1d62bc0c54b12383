/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asks libvirt which domains there are, in a thread of its own: its calls block for as long as its
 * daemon likes. A thread that hangs is waited for in vain no longer than a deadline; another is not
 * started before it is back.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/error.h"

typedef struct HvpLister HvpLister;

typedef struct {
	char *uuid;
	char *name;	   /* escaped */
	const char *state; /* libvirt's word; static */
	int id;		   /* -1: it does not run */
} HvpListed;

/* @listed: HvpListed, borrowed; NULL: @error says why. In the main loop. */
typedef void (*HvpListerReady)(const GPtrArray *listed, const GError *error, gpointer data);

/* @uri NULL: libvirt's default. */
HvpLister *hvp_lister_new(const char *uri, HvpListerReady ready, gpointer data);
void hvp_lister_free(HvpLister *self);

/* Tells @ready a little later; once, however often it is asked meanwhile. */
void hvp_lister_ask(HvpLister *self);
