/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/call.h"

#include "daemon/fields.h"
#include "daemon/problem.h"

#define ERROR_PREFIX "org.hvpatch1.Error."

static void call_free(HvpCall *self)
{
	hvp_callers_free_caller(self->caller);
	hvp_operation_request_free(self->request);
	g_free(self->domain_uuid);
	g_free(self->domain_name);
	g_free(self);
}

void hvp_call_answer(HvpCall *self, GVariant *values)
{
	g_dbus_method_invocation_return_value(g_steal_pointer(&self->invocation), values);
	call_free(self);
}

void hvp_call_fail(HvpCall *self, const GError *error, const char *instance)
{
	g_autoptr(JsonNode) problem = hvp_problem_of(error, instance);
	g_autofree char *text = hvp_fields_to_text(problem);
	g_autofree char *name = g_strconcat(
		ERROR_PREFIX, hvp_fields_get_text(json_node_get_object(problem), "code"), NULL);

	g_dbus_method_invocation_return_dbus_error(g_steal_pointer(&self->invocation), name, text);
	call_free(self);
}

static void on_identified(HvpCaller *caller, const GError *error, gpointer data)
{
	HvpCall *self = data;
	GDBusMessage *message = g_dbus_method_invocation_get_message(self->invocation);

	if (caller == NULL) {
		hvp_call_fail(self, error, NULL);
		return;
	}
	caller->may_interact = (g_dbus_message_get_flags(message) &
				G_DBUS_MESSAGE_FLAGS_ALLOW_INTERACTIVE_AUTHORIZATION) != 0;
	self->caller = caller;
	self->next(self);
}

void hvp_call_begin(const HvpCallContext *context, GDBusMethodInvocation *invocation,
		    HvpCallStep step)
{
	HvpCall *self = g_new0(HvpCall, 1);

	self->context = context;
	self->invocation = invocation;
	self->parameters = g_dbus_method_invocation_get_parameters(invocation);
	self->next = step;
	hvp_callers_identify(context->callers, g_dbus_method_invocation_get_sender(invocation),
			     hvp_call_get_text(self, 0), on_identified, self);
}

const char *hvp_call_get_text(const HvpCall *self, guint index)
{
	const char *text;

	g_variant_get_child(self->parameters, index, "&s", &text);
	return text;
}

/* --- may he? --- */

static void fail_forbidden(HvpCall *self, HvpAuthorityVerdict verdict)
{
	g_autoptr(GError) error = NULL;

	hvp_problem_set(&error, HVP_PROBLEM_FORBIDDEN, "%s may not %s this%s",
			self->caller->principal, hvp_roles_verb_name(self->verb),
			verdict == HVP_AUTHORITY_SILENT ? ": polkit does not answer" : "");
	hvp_call_fail(self, error, NULL);
}

static void fail_missing(HvpCall *self)
{
	g_autoptr(GError) error = NULL;

	hvp_error_set(&error, HVP_ERROR_NOT_FOUND, "there is no such %s", self->missing);
	hvp_call_fail(self, error, NULL);
}

static void on_may(HvpAuthorityVerdict verdict, gpointer data)
{
	HvpCall *self = data;

	if (verdict == HVP_AUTHORITY_YES)
		self->next(self);
	else
		fail_forbidden(self, verdict);
}

void hvp_call_need(HvpCall *self, HvpVerb verb, HvpCallStep next)
{
	self->verb = verb;
	self->next = next;
	hvp_authority_ask(self->context->authority, self->caller, verb, NULL, on_may, self);
}

/* Whether he may at least know that it is there. */
static void on_may_view(HvpAuthorityVerdict verdict, gpointer data)
{
	HvpCall *self = data;

	if (verdict == HVP_AUTHORITY_YES)
		fail_forbidden(self, HVP_AUTHORITY_NO);
	else
		fail_missing(self);
}

/* To wait for polkit once more would be longer than callers on D-Bus do. */
static void fail_unanswered(HvpCall *self, const HvpRolesDomain *domain)
{
	if (hvp_authority_roles_let_view(self->context->authority, self->caller, domain))
		fail_forbidden(self, HVP_AUTHORITY_SILENT);
	else
		fail_missing(self);
}

static void on_may_on(HvpAuthorityVerdict verdict, gpointer data)
{
	HvpCall *self = data;
	HvpRolesDomain domain = { self->domain_name, self->domain_uuid };

	if (verdict == HVP_AUTHORITY_YES) {
		self->next(self);
	} else if (self->verb == HVP_VERB_VIEW) {
		fail_missing(self);
	} else if (verdict == HVP_AUTHORITY_SILENT) {
		fail_unanswered(self, &domain);
	} else {
		self->caller->may_interact = false;
		hvp_authority_ask(self->context->authority, self->caller, HVP_VERB_VIEW, &domain,
				  on_may_view, self);
	}
}

void hvp_call_need_on(HvpCall *self, HvpVerb verb, const char *uuid, const char *name,
		      const char *missing, HvpCallStep next)
{
	HvpRolesDomain domain;

	self->verb = verb;
	self->next = next;
	self->missing = missing;
	if (uuid == NULL) {
		fail_missing(self);
		return;
	}
	self->domain_uuid = g_strdup(uuid);
	self->domain_name = g_strdup(name);
	domain = (HvpRolesDomain){ self->domain_name, self->domain_uuid };
	hvp_authority_ask(self->context->authority, self->caller, verb, &domain, on_may_on, self);
}

static void on_sees_all(HvpAuthorityVerdict verdict, gpointer data)
{
	HvpCall *self = data;

	self->sees_all = verdict == HVP_AUTHORITY_YES;
	if (self->sees_all ||
	    hvp_authority_roles_let_view(self->context->authority, self->caller, NULL))
		self->next(self);
	else
		fail_forbidden(self, verdict);
}

void hvp_call_need_view(HvpCall *self, HvpCallStep next)
{
	self->verb = HVP_VERB_VIEW;
	self->next = next;
	hvp_authority_ask_view_all(self->context->authority, self->caller, on_sees_all, self);
}

static void on_seen(HvpAuthorityVerdict verdict, gpointer data)
{
	HvpCall *self = data;

	self->sees_all = verdict == HVP_AUTHORITY_YES;
	self->next(self);
}

void hvp_call_see(HvpCall *self, HvpCallStep next)
{
	self->next = next;
	/* Nobody is to type a password for what he has not asked for. */
	self->caller->may_interact = false;
	hvp_authority_ask_view_all(self->context->authority, self->caller, on_seen, self);
}

bool hvp_call_may_view(const HvpCall *self, const char *uuid, const char *name)
{
	HvpRolesDomain domain = { name, uuid };

	return self->sees_all ||
	       hvp_authority_roles_let_view(self->context->authority, self->caller, &domain);
}
