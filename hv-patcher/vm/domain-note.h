/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a libvirt domain's metadata say about its patches: a note for people, of what is applied
 * and of what is installed, that is, to be applied whenever it has started. The truth is in the
 * guest; this is the text alone, without libvirt and without a guest.
 *
 *   <patches>                      libvirt puts it into the namespace urn:hvpatch:domain:1
 *     <applied name= sha256= at= by= uid= sudo_user= pause_usec= cves= state= />*
 *     <installed name= sha256= at= by= uid= sudo_user= cves= />*
 *   </patches>
 *
 * Only name is always there. docs/libvirt-life.md tells what each attribute means. Names come from
 * guests and files, the element from whoever may edit the domain: all is escaped and capped on
 * its way in, and what is not understood is dropped.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"

#define HVP_DOMAIN_NOTE_URI "urn:hvpatch:domain:1"
#define HVP_DOMAIN_NOTE_KEY "hvpatch"
/* As many as may be applied; of more, the first ones. */
#define HVP_DOMAIN_NOTE_MAX_PATCHES 128U
#define HVP_DOMAIN_NOTE_MAX_CVES 64U
#define HVP_DOMAIN_NOTE_MAX_XML_BYTES (512U << 10)

typedef struct {
	char *name;	   /* printable ASCII, as are all texts here */
	char *sha256;	   /* of the file, lower-case hex; NULL: not known */
	gint64 at;	   /* Unix time in seconds; 0: not known */
	char *by;	   /* the user's name; NULL: not known */
	gint64 uid;	   /* -1: not known */
	char *sudo_user;   /* whom sudo says that it ran for; NULL */
	gint64 pause_usec; /* of the switch; -1: not known */
	char *state;	   /* NULL: in force, as it should be; else such as "tampered" */
	GPtrArray *cves;   /* char * */
} HvpDomainNotePatch;

/* All else is not known yet. @sha256 that is none counts as not known. */
HvpDomainNotePatch *hvp_domain_note_patch_new(const char *name, const char *sha256, gint64 at);
HvpDomainNotePatch *hvp_domain_note_patch_copy(const HvpDomainNotePatch *self);
void hvp_domain_note_patch_free(HvpDomainNotePatch *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpDomainNotePatch, hvp_domain_note_patch_free)

/* Adds each CVE number that stands in @text (may be NULL) and is not there yet. */
void hvp_domain_note_patch_add_cves(HvpDomainNotePatch *self, const char *text);

/* Sets by, uid and sudo_user to who runs this process. */
void hvp_domain_note_patch_set_user(HvpDomainNotePatch *self);

typedef struct {
	GPtrArray *applied;   /* HvpDomainNotePatch */
	GPtrArray *installed; /* likewise */
} HvpDomainNote;

/* Nothing is applied and nothing installed. */
HvpDomainNote *hvp_domain_note_new(void);
void hvp_domain_note_free(HvpDomainNote *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpDomainNote, hvp_domain_note_free)

/*
 * Reads the element, with or without a prefix at its names; NULL is an empty note. BAD_DATA: no
 * XML, another element, or too long.
 */
HvpDomainNote *hvp_domain_note_parse(const char *xml, GError **error);

/* The element for libvirt, the caller's; NULL: there is nothing to say, remove it. */
char *hvp_domain_note_to_xml(const HvpDomainNote *self);

/*
 * Makes @facts, HvpDomainNotePatch as the guest has them, what is applied. What only the note
 * knew of the same patch (by whom, pause, CVEs) stays; of @news (NULL: none), which was applied
 * just now, that counts instead. Copies.
 */
void hvp_domain_note_set_applied(HvpDomainNote *self, const GPtrArray *facts,
				 const HvpDomainNotePatch *news);

/* Adds a copy of @patch to what is installed, in place of one of that name. */
void hvp_domain_note_install(HvpDomainNote *self, const HvpDomainNotePatch *patch);

/* Whether there was one of that name. */
bool hvp_domain_note_uninstall(HvpDomainNote *self, const char *name);
