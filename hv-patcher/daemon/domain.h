/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One domain: what libvirt says of it, and what a worker has seen in it. */
#pragma once

#include <json-glib/json-glib.h>

#include "daemon/lister.h"

typedef struct {
	char *uuid;
	char *name;
	const char *state; /* libvirt's word, or "unknown"; static */
	int id;
	char *operation;  /* that is at it; NULL: none */
	gint64 seen_usec; /* 0: not looked at since it was started */
	JsonNode *kernel;
	char *backend;
	int patchable; /* -1: not known */
	JsonNode *reasons;
	JsonNode *error;   /* of the last look, a problem document; NULL: none */
	guint failures;	   /* looks in vain, one after the other */
	gint64 again_usec; /* monotonic: when it is looked at again after them */
	gint64 looked_usec;	/* monotonic: when the last look ended; 0: none has */
	bool is_refresh_wanted; /* somebody wants another, in its time */
	JsonNode *patches; /* NULL: not known */
	char *text;	   /* the document, as long as nothing changes; NULL */
} HvpDomain;

HvpDomain *hvp_domain_new(const HvpListed *listed);
void hvp_domain_free(HvpDomain *self);

/* Whether there is something to look at. */
bool hvp_domain_is_running(const HvpDomain *self);
guint hvp_domain_count_patches(const HvpDomain *self);

/* Whether something is another than before; @ret_restarted: it is not the same machine any more. */
bool hvp_domain_update(HvpDomain *self, const HvpListed *listed, bool *ret_restarted);

/* Forgets what was seen. */
void hvp_domain_forget(HvpDomain *self);

/*
 * Takes what a worker saw: {"info", "status"}. @find_cves gives an array of the CVEs of the patch
 * with that SHA-256, borrowed, or NULL.
 */
void hvp_domain_set_look(HvpDomain *self, JsonNode *look,
			 JsonArray *(*find_cves)(const char *sha256, gpointer data), gpointer data);

/*
 * It could not be looked at: @code is an error's name. One that boots has no kernel yet, so that
 * it is looked at again soon, and ever later.
 */
void hvp_domain_set_no_look(HvpDomain *self, const char *code, const char *why);

/* Whether that is due. */
bool hvp_domain_wants_look(const HvpDomain *self);

void hvp_domain_set_operation(HvpDomain *self, const char *id);

JsonNode *hvp_domain_to_document(const HvpDomain *self);
/* As text; borrowed, until something changes. */
const char *hvp_domain_get_text(HvpDomain *self);
