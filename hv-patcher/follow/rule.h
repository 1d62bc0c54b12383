/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What follows from what happens to a domain: pure, all of the watch's decisions.
 *
 *   event -> what to tell, whether the patches are gone, whether to look into the guest,
 *            whether its installed patches are to be in force again
 *   exit status of hvpatch -> done, again after a while, or never
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "vm/domain-event.h"

typedef struct {
	const char *word; /* what to tell; NULL: nothing */
	bool echo;	  /* nothing new behind another event that was told */
	bool gone;	  /* the guest's memory is, and the patches with it */
	bool look;	  /* into the guest, and correct the metadata */
	bool hurry;	  /* a look that is waited for can be had now */
	bool apply;	  /* what is installed, behind the look */
	bool forget;	  /* there is nothing to look into */
} HvpRule;

/* Static, never NULL. */
const HvpRule *hvp_rule_of(HvpDomainEvent event);

typedef enum { HVP_RULE_DONE, HVP_RULE_AGAIN, HVP_RULE_NEVER } HvpRuleNext;

/* Of an exit status: it was killed, or did not end in time. */
#define HVP_RULE_KILLED (-1)

/* After so long nothing is tried again. */
#define HVP_RULE_LIMIT_USEC (10 * 60 * G_USEC_PER_SEC)
/* So long after its start a guest may refuse for no better reason than that it still boots. */
#define HVP_RULE_BOOT_USEC (90 * G_USEC_PER_SEC)

/* @elapsed_usec: since the event that made it necessary. */
HvpRuleNext hvp_rule_after_look(int exit_status, gint64 elapsed_usec);
HvpRuleNext hvp_rule_after_apply(int exit_status, gint64 elapsed_usec);

/* How long to wait behind the @failures-th failure (1, ...): 1 s, 2 s, ... 30 s. */
gint64 hvp_rule_back_off_usec(guint failures);
