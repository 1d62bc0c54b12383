/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/callers.h"

#include "daemon/problem.h"
#include "daemon/roles.h"

#define BUS "org.freedesktop.DBus"
#define BUS_PATH "/org/freedesktop/DBus"
#define TIMEOUT_MSEC 5000
#define MAX_KNOWN 1024U
/* Calls of a user, neither root nor the API, that wait for polkit; each holds its message. */
#define MAX_AT_WORK_EACH 16U

struct HvpCallers {
	GDBusConnection *connection;
	guint32 api_uid;
	GHashTable *known;   /* names of connections: uid */
	GHashTable *at_work; /* uid: how many callers of it there are */
};

typedef struct {
	HvpCallers *callers;
	char *sender;
	char *principal;
	HvpCallersAnswer answer;
	gpointer data;
} Question;

HvpCallers *hvp_callers_new(GDBusConnection *connection, guint32 api_uid)
{
	HvpCallers *self = g_new0(HvpCallers, 1);

	self->connection = g_object_ref(connection);
	self->api_uid = api_uid;
	self->known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	self->at_work = g_hash_table_new(NULL, NULL);
	return self;
}

void hvp_callers_set_api_uid(HvpCallers *self, guint32 api_uid)
{
	self->api_uid = api_uid;
}

void hvp_callers_free(HvpCallers *self)
{
	if (self == NULL)
		return;
	g_object_unref(self->connection);
	g_hash_table_unref(self->known);
	g_hash_table_unref(self->at_work);
	g_free(self);
}

static guint count_at_work(const HvpCallers *self, guint32 uid)
{
	return GPOINTER_TO_UINT(g_hash_table_lookup(self->at_work, GUINT_TO_POINTER(uid)));
}

static void set_at_work(HvpCallers *self, guint32 uid, guint count)
{
	if (count > 0)
		g_hash_table_insert(self->at_work, GUINT_TO_POINTER(uid), GUINT_TO_POINTER(count));
	else
		g_hash_table_remove(self->at_work, GUINT_TO_POINTER(uid));
}

void hvp_callers_free_caller(HvpCaller *caller)
{
	if (caller == NULL)
		return;
	set_at_work(caller->callers, caller->uid, count_at_work(caller->callers, caller->uid) - 1);
	g_free(caller->sender);
	g_free(caller->principal);
	g_free(caller);
}

static void answer_error(const Question *question, HvpProblemCode code, const char *why)
{
	g_autoptr(GError) error = NULL;

	hvp_problem_set(&error, code, "%s", why);
	question->answer(NULL, error, question->data);
}

static HvpCaller *caller_new(const Question *question, guint32 uid)
{
	HvpCaller *caller = g_new0(HvpCaller, 1);

	caller->callers = question->callers;
	caller->sender = g_strdup(question->sender);
	caller->uid = uid;
	set_at_work(caller->callers, uid, count_at_work(caller->callers, uid) + 1);
	caller->is_direct = question->principal[0] == '\0';
	caller->is_api = uid == question->callers->api_uid;
	caller->principal = caller->is_direct ? g_strdup_printf("uid:%u", uid)
					      : g_strdup(question->principal);
	return caller;
}

static bool is_one_too_many(const HvpCallers *self, guint32 uid)
{
	return uid != 0 && uid != self->api_uid && count_at_work(self, uid) >= MAX_AT_WORK_EACH;
}

static void answer_uid(const Question *question, guint32 uid)
{
	bool is_direct = question->principal[0] == '\0';

	if (!is_direct && uid != question->callers->api_uid)
		answer_error(question, HVP_PROBLEM_FORBIDDEN, "nobody may call for others");
	else if (!is_direct && !hvp_roles_is_principal(question->principal))
		answer_error(question, HVP_PROBLEM_UNAUTHENTICATED, "the principal is none");
	else if (is_one_too_many(question->callers, uid))
		answer_error(question, HVP_PROBLEM_TOO_MANY, "too many calls of yours are at work");
	else
		question->answer(caller_new(question, uid), NULL, question->data);
}

static void question_free(Question *question)
{
	g_free(question->sender);
	g_free(question->principal);
	g_free(question);
}

static void remember(HvpCallers *self, const char *sender, guint32 uid)
{
	/* Those who still call are asked about once more. */
	if (g_hash_table_size(self->known) >= MAX_KNOWN)
		g_hash_table_remove_all(self->known);
	g_hash_table_insert(self->known, g_strdup(sender), GUINT_TO_POINTER(uid));
}

static void on_user(GObject *source, GAsyncResult *result, gpointer data)
{
	Question *question = data;
	g_autoptr(GVariant)
		reply = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, NULL);
	guint32 uid;

	if (reply != NULL) {
		g_variant_get(reply, "(u)", &uid);
		remember(question->callers, question->sender, uid);
		answer_uid(question, uid);
	} else {
		answer_error(question, HVP_PROBLEM_UNAUTHENTICATED,
			     "the bus does not say who asks");
	}
	question_free(question);
}

void hvp_callers_identify(HvpCallers *self, const char *sender, const char *principal,
			  HvpCallersAnswer answer, gpointer data)
{
	Question *question = g_new0(Question, 1);
	gpointer uid;

	question->callers = self;
	question->sender = g_strdup(sender);
	question->principal = g_strdup(principal);
	question->answer = answer;
	question->data = data;
	if (g_hash_table_lookup_extended(self->known, sender, NULL, &uid)) {
		answer_uid(question, GPOINTER_TO_UINT(uid));
		question_free(question);
		return;
	}
	g_dbus_connection_call(self->connection, BUS, BUS_PATH, BUS, "GetConnectionUnixUser",
			       g_variant_new("(s)", sender), G_VARIANT_TYPE("(u)"),
			       G_DBUS_CALL_FLAGS_NONE, TIMEOUT_MSEC, NULL, on_user, question);
}
