/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The domains of the host, as a cache: listed by libvirt when something happens and now and then,
 * looked into by workers when they have started and after each operation. What is asked for is
 * answered from here at once.
 */
#pragma once

#include "daemon/domain.h"
#include "daemon/events.h"
#include "daemon/looks.h"
#include "daemon/metrics.h"
#include "daemon/patch-store.h"

typedef struct HvpDomains HvpDomains;

typedef struct {
	const HvpConfig *config;
	const HvpPatchStore *patches;
	HvpEvents *events;
	HvpMetrics *metrics;
	/* libvirt has told which there are, for the first time. */
	void (*ready)(gpointer data);
	gpointer data;
} HvpDomainsSetup;

/* Begins. One a process. What @setup points to has to live as long as the main loop. */
HvpDomains *hvp_domains_new(const HvpDomainsSetup *setup);

/* Ends the looks at work; from then on nothing is done. */
void hvp_domains_stop(HvpDomains *self);

bool hvp_domains_are_ready(const HvpDomains *self);

/* NULL: there is none, or @uuid is not one in lower case. Borrowed. */
HvpDomain *hvp_domains_find(const HvpDomains *self, const char *uuid);

/* By name, then UUID; borrowed, the array is the caller's. */
GPtrArray *hvp_domains_list(const HvpDomains *self);

/*
 * Has libvirt asked again and the guest looked at: at once, unless the last look is under way or
 * has ended just now; then in its time, once for all who want it.
 */
void hvp_domains_refresh(HvpDomains *self, const char *uuid);

/* What is at it: @id, or NULL: nothing any more, and it is looked at. */
void hvp_domains_set_operation(HvpDomains *self, const char *uuid, const char *id);

/* What somebody else's worker has seen in it. */
void hvp_domains_set_look(HvpDomains *self, const char *uuid, JsonNode *look);
