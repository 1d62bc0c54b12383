/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Follows the domains of a libvirt connection through their lives: tells what becomes of their
 * patches, and has those that are installed applied again.
 *
 *   event (vm/libvirt-events.h) -> rule (follow/rule.h) -> finding
 *                                      |
 *                                      +-> hvpatch status, until the guest can be read
 *                                            +-> hvpatch apply FILE, until it is in force or never
 *
 * Each look and each application is a process of its own (follow/child.h), a few at a time and one
 * a domain. They correct the domain's metadata; nothing here writes anything.
 */
#pragma once

#include "vm/libvirt.h"

#define HVP_FOLLOW_DEFAULT_CHILDREN 2U
#define HVP_FOLLOW_MAX_CHILDREN 64U

/* One thing to tell. All is foreign text. */
typedef struct {
	const char *uuid; /* NULL: of the connection */
	const char *name;
	const char *event;	  /* a word: of follow/rule.c, or patches, applied, failed, gave-up,
				     disconnected, connected */
	const GPtrArray *patches; /* char *: those that are in force, gone or concerned; NULL */
	const char *message;	  /* for people, may be empty */
} HvpFinding;

typedef struct {
	const char *uri;	  /* NULL as for hvp_libvirt_connect */
	const char *only_uuid;	  /* NULL: all domains */
	bool reapply;		  /* have what is installed applied */
	const char *backend;	  /* for the option --backend; NULL: without */
	guint max_children;	  /* at a time */
	const char *store_folder; /* what is installed, see patch/store.h */
	/* False: nobody wants to hear more. */
	bool (*tell)(gpointer data, const HvpFinding *finding);
	gpointer data;
} HvpFollowOptions;

/*
 * Goes on until options->tell is false. Errors of hvp_libvirt_events_new where there is no
 * connection to begin with; a later loss is a finding. INTERNAL: libvirt's loop failed.
 */
bool hvp_follow_run(const HvpFollowOptions *options, GError **error) G_GNUC_WARN_UNUSED_RESULT;
