/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/roles.h"

#include <string.h>

#include "base/text.h"

#define ALL "*"
#define UID "uid:"
#define CERTIFICATE "cert:"
#define MAX_QUOTED_BYTES 64U

static const char *const verb_names[] = {
	[HVP_VERB_VIEW] = "view",	[HVP_VERB_CHECK] = "check",
	[HVP_VERB_APPLY] = "apply",	[HVP_VERB_REVERT] = "revert",
	[HVP_VERB_REPLACE] = "replace", [HVP_VERB_RECOVER] = "recover",
	[HVP_VERB_UPLOAD] = "upload",	[HVP_VERB_CANCEL] = "cancel",
	[HVP_VERB_DELETE] = "delete",	[HVP_VERB_METRICS] = "metrics",
};

const char *hvp_roles_verb_name(HvpVerb verb)
{
	return verb_names[verb];
}

bool hvp_roles_find_verb(const char *name, HvpVerb *ret_verb)
{
	for (guint i = 0; i < HVP_VERB_COUNT; i++) {
		if (strcmp(verb_names[i], name) != 0)
			continue;
		*ret_verb = (HvpVerb)i;
		return true;
	}
	return false;
}

/* No leading zeros or signs: one user has one principal. */
static bool is_uid(const char *text)
{
	g_autofree char *again = NULL;
	guint64 uid;

	if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32 - 1, &uid, NULL))
		return false;
	again = g_strdup_printf("%" G_GUINT64_FORMAT, uid);
	return strcmp(again, text) == 0;
}

/* Common names may have blanks and letters of all languages, but nothing that logs break at. */
static bool is_common_name(const char *text)
{
	if (text[0] == '\0' || !g_utf8_validate(text, -1, NULL))
		return false;
	for (const char *at = text; *at != '\0'; at = g_utf8_next_char(at))
		if (!g_unichar_isprint(g_utf8_get_char(at)))
			return false;
	return true;
}

bool hvp_roles_is_principal(const char *text)
{
	if (strnlen(text, HVP_ROLES_MAX_PRINCIPAL_BYTES + 1) > HVP_ROLES_MAX_PRINCIPAL_BYTES)
		return false;
	if (g_str_has_prefix(text, UID))
		return is_uid(text + strlen(UID));
	return g_str_has_prefix(text, CERTIFICATE) && is_common_name(text + strlen(CERTIFICATE));
}

void hvp_roles_free_role(HvpRole *role)
{
	if (role == NULL)
		return;
	g_free(role->name);
	g_strfreev(role->principals);
	g_strfreev(role->domains);
	g_free(role);
}

static bool set_unknown(const char *what, const char *text, GError **error)
{
	g_autofree char *quoted = hvp_text_escape(text, HVP_TEXT_TERMINATED, MAX_QUOTED_BYTES);

	return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "'%s' is no %s", quoted, what);
}

static bool read_verbs(const char *const *texts, guint *ret_verbs, GError **error)
{
	guint verbs = 0;

	for (gsize i = 0; texts[i] != NULL; i++) {
		HvpVerb verb;

		if (strcmp(texts[i], ALL) == 0)
			verbs |= (1U << HVP_VERB_COUNT) - 1;
		else if (hvp_roles_find_verb(texts[i], &verb))
			verbs |= 1U << verb;
		else
			return set_unknown("verb", texts[i], error);
	}
	*ret_verbs = verbs;
	return true;
}

static bool check_principals(const char *const *principals, GError **error)
{
	for (gsize i = 0; principals[i] != NULL; i++)
		if (!hvp_roles_is_principal(principals[i]))
			return set_unknown("principal", principals[i], error);
	return principals[0] != NULL ||
	       hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "there are no principals");
}

HvpRole *hvp_roles_new_role(const char *name, const char *const *principals,
			    const char *const *verbs, const char *const *domains, GError **error)
{
	HvpRole *role;
	guint bits = 0;

	if (!check_principals(principals, error) || !read_verbs(verbs, &bits, error))
		return NULL;
	role = g_new0(HvpRole, 1);
	role->name = g_strdup(name);
	role->verbs = bits;
	role->principals = g_strdupv((char **)principals);
	role->domains = g_strdupv((char **)domains);
	return role;
}

static bool has_domain(const HvpRole *role, const HvpRolesDomain *domain)
{
	for (char **pattern = role->domains; *pattern != NULL; pattern++)
		if (g_pattern_match_simple(*pattern, domain->name) ||
		    g_pattern_match_simple(*pattern, domain->uuid))
			return true;
	return false;
}

static bool grants(const HvpRole *role, const char *principal, HvpVerb verb)
{
	return (role->verbs & (1U << verb)) != 0 &&
	       g_strv_contains((const char *const *)role->principals, principal);
}

bool hvp_roles_allow(const GPtrArray *roles, const char *principal, HvpVerb verb,
		     const HvpRolesDomain *domain)
{
	for (guint i = 0; i < roles->len; i++) {
		const HvpRole *role = g_ptr_array_index(roles, i);

		if (grants(role, principal, verb) && (domain == NULL || has_domain(role, domain)))
			return true;
	}
	return false;
}

bool hvp_roles_allow_all(const GPtrArray *roles, const char *principal, HvpVerb verb)
{
	for (guint i = 0; i < roles->len; i++) {
		const HvpRole *role = g_ptr_array_index(roles, i);

		if (grants(role, principal, verb) &&
		    g_strv_contains((const char *const *)role->domains, ALL))
			return true;
	}
	return false;
}
