/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a caller may do something: by the configuration's roles, and for those who call for
 * themselves by being root, or by polkit's word. No answer is no.
 */
#pragma once

#include "daemon/callers.h"
#include "daemon/roles.h"

typedef struct HvpAuthority HvpAuthority;

typedef enum {
	HVP_AUTHORITY_WITHOUT_POLKIT, /* on another bus than polkit's names are of another */
	HVP_AUTHORITY_WITH_POLKIT,
} HvpAuthorityKind;

/* @roles are borrowed. */
HvpAuthority *hvp_authority_new(const GPtrArray *roles, HvpAuthorityKind kind);
/* From now on; likewise. */
void hvp_authority_set_roles(HvpAuthority *self, const GPtrArray *roles);
void hvp_authority_free(HvpAuthority *self);

/*
 * @changed is called when polkit may answer otherwise than it has: its rules are others, or it has
 * been away. Not before it was asked for the first time.
 */
void hvp_authority_set_listener(HvpAuthority *self, void (*changed)(gpointer data), gpointer data);

typedef enum {
	HVP_AUTHORITY_NO,
	HVP_AUTHORITY_YES,
	HVP_AUTHORITY_SILENT, /* polkit does not answer, which is no */
} HvpAuthorityVerdict;

/* May be called from within hvp_authority_ask. */
typedef void (*HvpAuthorityAnswer)(HvpAuthorityVerdict verdict, gpointer data);

/* Whether @caller may do @verb to @domain (NULL: where none matters). @caller is not kept. */
void hvp_authority_ask(HvpAuthority *self, const HvpCaller *caller, HvpVerb verb,
		       const HvpRolesDomain *domain, HvpAuthorityAnswer answer, gpointer data);

/* Whether he may view all domains there are. */
void hvp_authority_ask_view_all(HvpAuthority *self, const HvpCaller *caller,
				HvpAuthorityAnswer answer, gpointer data);

/* Whether his roles alone let him view @domain; NULL: any. */
bool hvp_authority_roles_let_view(const HvpAuthority *self, const HvpCaller *caller,
				  const HvpRolesDomain *domain);
