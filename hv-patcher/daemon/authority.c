/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/authority.h"

#include <polkit/polkit.h>

#define ACTION_PREFIX "org.hvpatch1."
/* Less than what callers on D-Bus wait (25 s); and where somebody types, as long as polkit lets. */
#define TIMEOUT_SECONDS 15
#define INTERACTIVE_TIMEOUT_SECONDS 120
/* Changes come several at a time; and polkit that is being stopped is not to be started for it. */
#define CHANGE_SECONDS 1

struct HvpAuthority {
	const GPtrArray *roles;
	HvpAuthorityKind kind;
	bool is_silent;		 /* polkit, at the last question */
	PolkitAuthority *polkit; /* NULL: it was not asked yet */
	guint change;		 /* source; 0: none */
	void (*changed)(gpointer data);
	gpointer data;
};

typedef struct {
	HvpAuthority *authority;
	PolkitSubject *subject;
	PolkitDetails *details;
	char *action;
	PolkitCheckAuthorizationFlags flags;
	GCancellable *cancellable;
	guint timeout; /* source; 0: none, or it is over */
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

void hvp_authority_set_roles(HvpAuthority *self, const GPtrArray *roles)
{
	self->roles = roles;
}

void hvp_authority_free(HvpAuthority *self)
{
	if (self == NULL)
		return;
	if (self->polkit != NULL)
		g_signal_handlers_disconnect_by_data(self->polkit, self);
	g_clear_object(&self->polkit);
	if (self->change != 0)
		g_source_remove(self->change);
	g_free(self);
}

/* --- what polkit tells by itself --- */

void hvp_authority_set_listener(HvpAuthority *self, void (*changed)(gpointer data), gpointer data)
{
	self->changed = changed;
	self->data = data;
}

static gboolean on_change_over(gpointer data)
{
	HvpAuthority *self = data;

	self->change = 0;
	if (self->changed != NULL)
		self->changed(self->data);
	return G_SOURCE_REMOVE;
}

static void note_change(HvpAuthority *self)
{
	if (self->change == 0)
		self->change = g_timeout_add_seconds(CHANGE_SECONDS, on_change_over, self);
}

static void keep_polkit(HvpAuthority *self, PolkitAuthority *polkit)
{
	if (self->polkit != NULL)
		return;
	self->polkit = g_object_ref(polkit);
	g_signal_connect_swapped(polkit, "changed", G_CALLBACK(note_change), self);
	g_signal_connect_swapped(polkit, "notify::owner", G_CALLBACK(note_change), self);
}

/* --- asking it --- */

static void end(Question *question, HvpAuthorityVerdict verdict)
{
	question->authority->is_silent = verdict == HVP_AUTHORITY_SILENT;
	if (question->timeout != 0)
		g_source_remove(question->timeout);
	question->answer(verdict, question->data);
	g_object_unref(question->subject);
	g_object_unref(question->details);
	g_object_unref(question->cancellable);
	g_free(question->action);
	g_free(question);
}

/* It is not polkit that fails: the caller has gone, say, or types no password. */
static bool is_about_caller(const Question *question, const GError *error)
{
	bool is_interactive = question->flags != POLKIT_CHECK_AUTHORIZATION_FLAGS_NONE;

	return (question->timeout == 0 && is_interactive) || error->domain == POLKIT_ERROR ||
	       g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NAME_HAS_NO_OWNER);
}

/* One that stays silent is told of once. */
static void end_without_answer(Question *question, const GError *error)
{
	if (is_about_caller(question, error)) {
		g_debug("polkit: %s", error->message);
		end(question, HVP_AUTHORITY_NO);
		return;
	}
	if (!question->authority->is_silent)
		g_warning("polkit does not answer, which is no to all that it is asked: %s",
			  question->timeout == 0 ? "it takes too long" : error->message);
	end(question, HVP_AUTHORITY_SILENT);
}

static void on_checked(GObject *source, GAsyncResult *result, gpointer data)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(PolkitAuthorizationResult) checked = polkit_authority_check_authorization_finish(
		POLKIT_AUTHORITY(source), result, &error);

	if (checked == NULL)
		end_without_answer(data, error);
	else if (polkit_authorization_result_get_is_authorized(checked))
		end(data, HVP_AUTHORITY_YES);
	else
		end(data, HVP_AUTHORITY_NO);
}

static void on_authority(GObject *source, GAsyncResult *result, gpointer data)
{
	Question *question = data;
	g_autoptr(GError) error = NULL;
	g_autoptr(PolkitAuthority) authority = polkit_authority_get_finish(result, &error);

	(void)source;
	if (authority == NULL) {
		end_without_answer(question, error);
		return;
	}
	keep_polkit(question->authority, authority);
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

static void ask_polkit(HvpAuthority *self, const HvpCaller *caller, HvpVerb verb,
		       const HvpRolesDomain *domain, HvpAuthorityAnswer answer, gpointer data)
{
	Question *question = g_new0(Question, 1);
	guint seconds = TIMEOUT_SECONDS;

	question->authority = self;
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
static void ask_beyond_roles(HvpAuthority *self, const HvpCaller *caller, HvpVerb verb,
			     const HvpRolesDomain *domain, HvpAuthorityAnswer answer, gpointer data)
{
	if (caller->is_direct && caller->uid == 0)
		answer(HVP_AUTHORITY_YES, data);
	else if (caller->is_direct && self->kind == HVP_AUTHORITY_WITH_POLKIT)
		ask_polkit(self, caller, verb, domain, answer, data);
	else
		answer(HVP_AUTHORITY_NO, data);
}

void hvp_authority_ask(HvpAuthority *self, const HvpCaller *caller, HvpVerb verb,
		       const HvpRolesDomain *domain, HvpAuthorityAnswer answer, gpointer data)
{
	if (hvp_roles_allow(self->roles, caller->principal, verb, domain))
		answer(HVP_AUTHORITY_YES, data);
	else
		ask_beyond_roles(self, caller, verb, domain, answer, data);
}

void hvp_authority_ask_view_all(HvpAuthority *self, const HvpCaller *caller,
				HvpAuthorityAnswer answer, gpointer data)
{
	if (hvp_roles_allow_all(self->roles, caller->principal, HVP_VERB_VIEW))
		answer(HVP_AUTHORITY_YES, data);
	else
		ask_beyond_roles(self, caller, HVP_VERB_VIEW, NULL, answer, data);
}

bool hvp_authority_roles_let_view(const HvpAuthority *self, const HvpCaller *caller,
				  const HvpRolesDomain *domain)
{
	return hvp_roles_allow(self->roles, caller->principal, HVP_VERB_VIEW, domain);
}
