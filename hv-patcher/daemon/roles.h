/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who may do what to which domain, as the configuration's roles say: pure functions of the roles
 * and the question. What no role allows is not allowed.
 *
 * A principal is "uid:NUMBER" or "cert:COMMON-NAME", and compared as it is, never as a pattern.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/error.h"

#define HVP_ROLES_MAX_PRINCIPAL_BYTES 256U

typedef enum {
	HVP_VERB_VIEW,
	HVP_VERB_CHECK,
	HVP_VERB_APPLY,
	HVP_VERB_REVERT,
	HVP_VERB_REPLACE,
	HVP_VERB_RECOVER,
	HVP_VERB_UPLOAD,
	HVP_VERB_CANCEL,
	HVP_VERB_DELETE,
	HVP_VERB_METRICS,
	HVP_VERB_COUNT,
} HvpVerb;

typedef struct {
	char *name;
	char **principals;
	guint verbs;	/* a bit for each HvpVerb */
	char **domains; /* names or UUIDs, with * and ?; never NULL */
} HvpRole;

/* What is asked about. */
typedef struct {
	const char *name;
	const char *uuid;
} HvpRolesDomain;

/* Static. */
const char *hvp_roles_verb_name(HvpVerb verb);
/* False: there is no such verb. */
bool hvp_roles_find_verb(const char *name, HvpVerb *ret_verb) G_GNUC_WARN_UNUSED_RESULT;

/* Whether @text has the form of a principal. */
bool hvp_roles_is_principal(const char *text) G_GNUC_WARN_UNUSED_RESULT;

/*
 * A role; all are copied. @verbs may have "*". INVALID_ARGUMENT: a principal or verb is none, or
 * there is no principal.
 */
HvpRole *hvp_roles_new_role(const char *name, const char *const *principals,
			    const char *const *verbs, const char *const *domains, GError **error);
void hvp_roles_free_role(HvpRole *role);

/* Whether a role of @roles (HvpRole) lets @principal do @verb; @domain NULL: where none matters. */
bool hvp_roles_allow(const GPtrArray *roles, const char *principal, HvpVerb verb,
		     const HvpRolesDomain *domain) G_GNUC_WARN_UNUSED_RESULT;

/* Whether one does for all domains, those included that are not there yet. */
bool hvp_roles_allow_all(const GPtrArray *roles, const char *principal,
			 HvpVerb verb) G_GNUC_WARN_UNUSED_RESULT;
