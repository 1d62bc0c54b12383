/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/authority.h"

#include <polkit/polkit.h>

#define ACTION_PREFIX "org.hvpatch1."
/* Less than what callers on D-Bus wait (25 s); and where somebody types, as long as polkit lets. */
#define TIMEOUT_SECONDS 15
#define INTERACTIVE_TIMEOUT_SECONDS 120

struct HvpAuthority {
	const GPtrArray *roles;
	HvpAuthorityKind kind;
};

typedef struct {
	PolkitSubject *subject;
	PolkitDetails *details;
	char *action;
	PolkitCheckAuthorizationFlags flags;
	GCancellable *cancellable;
	guint timeout; /* source; 0: none */
	HvpAuthorityAnswer answer;
	gpointer data;
} Question;

HvpAuthority *hvp_authority_new(const GPtrArray *roles, HvpAuthorityKind kind)
{
	HvpAuthority *self = g_new0(HvpAuthority, 1);

	self->roles = roles;
	self->kind = kind;
	return self;
}

void hvp_authority_free(HvpAuthority *self)
{
	g_free(self);
}

/* --- polkit --- */

static void end(Question *question, bool is_allowed)
{
	if (question->timeout != 0)
		g_source_remove(question->timeout);
	question->answer(is_allowed, question->data);
	g_object_unref(question->subject);
	g_object_unref(question->details);
	g_object_unref(question->cancellable);
	g_free(question->action);
	g_free(question);
}

static void on_checked(GObject *source, GAsyncResult *result, gpointer data)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(PolkitAuthorizationResult) checked = polkit_authority_check_authorization_finish(
		POLKIT_AUTHORITY(source), result, &error);

	if (error != NULL)
		g_debug("polkit: %s", error->message);
	end(data, checked != NULL && polkit_authorization_result_get_is_authorized(checked));
}

static void on_authority(GObject *source, GAsyncResult *result, gpointer data)
{
	Question *question = data;
	g_autoptr(PolkitAuthority) authority = polkit_authority_get_finish(result, NULL);

	(void)source;
	if (authority == NULL || g_cancellable_is_cancelled(question->cancellable)) {
		end(question, false);
		return;
	}
	polkit_authority_check_authorization(authority, question->subject, question->action,
					     question->details, question->flags,
					     question->cancellable, on_checked, question);
}

/* Whoever is at it then ends with an error, which is a no. */
static gboolean on_timeout(gpointer data)
{
	Question *question = data;

	question->timeout = 0;
	g_cancellable_cancel(question->cancellable);
	return G_SOURCE_REMOVE;
}

static void ask_polkit(const HvpCaller *caller, HvpVerb verb, const HvpRolesDomain *domain,
		       HvpAuthorityAnswer answer, gpointer data)
{
	Question *question = g_new0(Question, 1);
	guint seconds = TIMEOUT_SECONDS;

	question->subject = polkit_system_bus_name_new(caller->sender);
	question->details = polkit_details_new();
	if (domain != NULL) {
		polkit_details_insert(question->details, "domain", domain->name);
		polkit_details_insert(question->details, "uuid", domain->uuid);
	}
	question->action = g_strconcat(ACTION_PREFIX, hvp_roles_verb_name(verb), NULL);
	if (caller->may_interact) {
		question->flags = POLKIT_CHECK_AUTHORIZATION_FLAGS_ALLOW_USER_INTERACTION;
		seconds = INTERACTIVE_TIMEOUT_SECONDS;
	}
	question->cancellable = g_cancellable_new();
	question->timeout = g_timeout_add_seconds(seconds, on_timeout, question);
	question->answer = answer;
	question->data = data;
	polkit_authority_get_async(question->cancellable, on_authority, question);
}

/* --- the decision --- */

/* Of those whom no role lets. */
static void ask_beyond_roles(const HvpAuthority *self, const HvpCaller *caller, HvpVerb verb,
			     const HvpRolesDomain *domain, HvpAuthorityAnswer answer, gpointer data)
{
	if (caller->is_direct && caller->uid == 0)
		answer(true, data);
	else if (caller->is_direct && self->kind == HVP_AUTHORITY_WITH_POLKIT)
		ask_polkit(caller, verb, domain, answer, data);
	else
		answer(false, data);
}

void hvp_authority_ask(HvpAuthority *self, const HvpCaller *caller, HvpVerb verb,
		       const HvpRolesDomain *domain, HvpAuthorityAnswer answer, gpointer data)
{
	if (hvp_roles_allow(self->roles, caller->principal, verb, domain))
		answer(true, data);
	else
		ask_beyond_roles(self, caller, verb, domain, answer, data);
}

void hvp_authority_ask_view_all(HvpAuthority *self, const HvpCaller *caller,
				HvpAuthorityAnswer answer, gpointer data)
{
	if (hvp_roles_allow_all(self->roles, caller->principal, HVP_VERB_VIEW))
		answer(true, data);
	else
		ask_beyond_roles(self, caller, HVP_VERB_VIEW, NULL, answer, data);
}

bool hvp_authority_roles_let_view(const HvpAuthority *self, const HvpCaller *caller,
				  const HvpRolesDomain *domain)
{
	return hvp_roles_allow(self->roles, caller->principal, HVP_VERB_VIEW, domain);
}
