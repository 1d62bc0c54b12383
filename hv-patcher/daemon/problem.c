/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/problem.h"

#include <stdarg.h>
#include <string.h>

#define TYPE_PREFIX "urn:hvpatch:error:"

typedef struct {
	char *operation; /* NULL: none is in the way */
} HvpProblemPrivate;

static void hvp_problem_private_init(HvpProblemPrivate *self)
{
	self->operation = NULL;
}

static void hvp_problem_private_copy(const HvpProblemPrivate *from, HvpProblemPrivate *to)
{
	to->operation = g_strdup(from->operation);
}

static void hvp_problem_private_clear(HvpProblemPrivate *self)
{
	g_free(self->operation);
}

G_DEFINE_EXTENDED_ERROR(HvpProblem, hvp_problem)

/* What each code is for HTTP and for people. */
static const struct {
	const char *code;
	guint status;
	const char *title;
} kinds[] = {
	{ "INVALID_ARGUMENT", 400, "The request is not valid" },
	{ "UNSUPPORTED", 422, "This is not supported here" },
	{ "PERMISSION", 403, "Refused by permission or policy" },
	{ "BAD_DATA", 422, "The data is damaged" },
	{ "FAULT", 500, "Something could not be read or written" },
	{ "NOT_FOUND", 404, "There is no such thing" },
	{ "AMBIGUOUS", 409, "More than one thing is meant" },
	{ "BUSY", 409, "Something is in the way" },
	{ "TIMED_OUT", 503, "It took too long" },
	{ "UNRELIABLE", 409, "It could not be proven safe" },
	{ "CONFLICT", 409, "This does not go together with what is" },
	{ "TAMPERED", 409, "The guest's text is not what it should be" },
	{ "VM_GONE", 409, "The VM is gone" },
	{ "UNDONE", 409, "It failed and was rolled back" },
	{ "INCONSISTENT", 409, "An operator is needed" },
	{ "INTERNAL", 500, "An error of the daemon itself" },
	{ "UNAUTHENTICATED", 401, "Who asks is not known" },
	{ "FORBIDDEN", 403, "This is not allowed" },
	{ "IDEMPOTENCY", 422, "The idempotency key belongs to another request" },
	{ "TOO_LARGE", 413, "This is too large" },
	{ "TOO_MANY", 429, "There are too many" },
	{ "GONE", 410, "This is gone" },
	{ "UNAVAILABLE", 503, "Not now" },
	{ "CANCELLED", 409, "It was cancelled" },
};

static const char *const names[] = {
	[HVP_PROBLEM_UNAUTHENTICATED] = "UNAUTHENTICATED",
	[HVP_PROBLEM_FORBIDDEN] = "FORBIDDEN",
	[HVP_PROBLEM_IN_THE_WAY] = "BUSY",
	[HVP_PROBLEM_IDEMPOTENCY] = "IDEMPOTENCY",
	[HVP_PROBLEM_TOO_LARGE] = "TOO_LARGE",
	[HVP_PROBLEM_TOO_MANY] = "TOO_MANY",
	[HVP_PROBLEM_GONE] = "GONE",
	[HVP_PROBLEM_UNAVAILABLE] = "UNAVAILABLE",
};

bool hvp_problem_set(GError **error, HvpProblemCode code, const char *format, ...)
{
	va_list arguments;

	if (error == NULL)
		return false;
	va_start(arguments, format);
	g_propagate_error(error, g_error_new_valist(HVP_PROBLEM, (int)code, format, arguments));
	va_end(arguments);
	return false;
}

bool hvp_problem_set_in_the_way(GError **error, const char *id)
{
	GError *problem = g_error_new(HVP_PROBLEM, HVP_PROBLEM_IN_THE_WAY,
				      "operation %s is at this domain", id);
	HvpProblemPrivate *private = hvp_problem_get_private(problem);

	private->operation = g_strdup(id);
	g_propagate_error(error, problem);
	return false;
}

const char *hvp_problem_code(const GError *error)
{
	if (error != NULL && error->domain == HVP_PROBLEM &&
	    (guint)error->code < G_N_ELEMENTS(names))
		return names[error->code];
	return hvp_error_name(error);
}

static gsize find_kind(const char *code)
{
	gsize internal = 0;

	for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
		if (strcmp(kinds[i].code, code) == 0)
			return i;
		if (strcmp(kinds[i].code, "INTERNAL") == 0)
			internal = i;
	}
	return internal;
}

guint hvp_problem_status(const char *code)
{
	return kinds[find_kind(code)].status;
}

JsonNode *hvp_problem_make(const char *code, const char *detail, const char *instance,
			   const char *operation)
{
	gsize kind = find_kind(code);
	g_autofree char *type = g_strconcat(TYPE_PREFIX, kinds[kind].code, NULL);
	g_autofree char *valid = g_utf8_make_valid(detail, -1);
	JsonObject *object = json_object_new();
	JsonNode *node = json_node_new(JSON_NODE_OBJECT);

	json_object_set_string_member(object, "type", type);
	json_object_set_string_member(object, "title", kinds[kind].title);
	json_object_set_int_member(object, "status", kinds[kind].status);
	json_object_set_string_member(object, "code", kinds[kind].code);
	json_object_set_string_member(object, "detail", valid);
	if (instance != NULL)
		json_object_set_string_member(object, "instance", instance);
	if (operation != NULL)
		json_object_set_string_member(object, "operation", operation);
	json_node_take_object(node, object);
	return node;
}

JsonNode *hvp_problem_of(const GError *error, const char *instance)
{
	const char *operation = NULL;

	if (error->domain == HVP_PROBLEM)
		operation = hvp_problem_get_private(error)->operation;
	return hvp_problem_make(hvp_problem_code(error), error->message, instance, operation);
}
