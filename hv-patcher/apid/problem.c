/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/problem.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "base/json-text.h"

#define CORE_ERROR_PREFIX "org.hvpatch1.Error."
#define MAX_DOCUMENT_BYTES (64 * 1024)
#define MAX_DOCUMENT_DEPTH 8
#define MAX_DOCUMENT_VALUES 256

G_DEFINE_QUARK(hvp - problem - quark, hvp_problem)
/* An error whose message is a whole document of ours: one with more members than code and detail.
 */
static G_DEFINE_QUARK(hvp - problem - document - quark, problem_document)

	static const struct {
	const char *name;
	guint status;
	const char *title;
} hvp_problem_codes[] = {
	[HVP_PROBLEM_INVALID_ARGUMENT] = { "INVALID_ARGUMENT", 400, "Not a valid request" },
	[HVP_PROBLEM_UNSUPPORTED] = { "UNSUPPORTED", 422, "Not supported" },
	[HVP_PROBLEM_PERMISSION] = { "PERMISSION", 403, "Refused by policy" },
	[HVP_PROBLEM_BAD_DATA] = { "BAD_DATA", 422, "Bad data" },
	[HVP_PROBLEM_FAULT] = { "FAULT", 500, "Cannot be read" },
	[HVP_PROBLEM_NOT_FOUND] = { "NOT_FOUND", 404, "Not found" },
	[HVP_PROBLEM_AMBIGUOUS] = { "AMBIGUOUS", 409, "Ambiguous" },
	[HVP_PROBLEM_BUSY] = { "BUSY", 409, "In use" },
	[HVP_PROBLEM_TIMED_OUT] = { "TIMED_OUT", 503, "Not in time" },
	[HVP_PROBLEM_UNRELIABLE] = { "UNRELIABLE", 409, "Cannot be proven" },
	[HVP_PROBLEM_CONFLICT] = { "CONFLICT", 409, "In conflict" },
	[HVP_PROBLEM_TAMPERED] = { "TAMPERED", 409, "Tampered with" },
	[HVP_PROBLEM_VM_GONE] = { "VM_GONE", 409, "The VM is gone" },
	[HVP_PROBLEM_UNDONE] = { "UNDONE", 409, "Failed and undone" },
	[HVP_PROBLEM_INCONSISTENT] = { "INCONSISTENT", 409, "Needs an operator" },
	[HVP_PROBLEM_INTERNAL] = { "INTERNAL", 500, "Internal error" },
	[HVP_PROBLEM_UNAUTHENTICATED] = { "UNAUTHENTICATED", 401, "Who are you" },
	[HVP_PROBLEM_FORBIDDEN] = { "FORBIDDEN", 403, "Not allowed" },
	[HVP_PROBLEM_GONE] = { "GONE", 410, "Gone" },
	[HVP_PROBLEM_IDEMPOTENCY] = { "IDEMPOTENCY", 422, "Key used before" },
	[HVP_PROBLEM_TOO_LARGE] = { "TOO_LARGE", 413, "Too large" },
	[HVP_PROBLEM_TOO_MANY] = { "TOO_MANY", 429, "Too many" },
	[HVP_PROBLEM_METHOD_NOT_ALLOWED] = { "METHOD_NOT_ALLOWED", 405, "Method not allowed" },
	[HVP_PROBLEM_NOT_ACCEPTABLE] = { "NOT_ACCEPTABLE", 406, "Not acceptable" },
	[HVP_PROBLEM_UNSUPPORTED_MEDIA_TYPE] = { "UNSUPPORTED_MEDIA_TYPE", 415,
						 "Unsupported media type" },
	[HVP_PROBLEM_EXPECTATION] = { "EXPECTATION", 417, "Expectation failed" },
	[HVP_PROBLEM_MISDIRECTED] = { "MISDIRECTED", 421, "Not for this server" },
	[HVP_PROBLEM_URI_TOO_LONG] = { "URI_TOO_LONG", 414, "Too long" },
	[HVP_PROBLEM_HEADERS_TOO_LARGE] = { "HEADERS_TOO_LARGE", 431, "Headers too large" },
	[HVP_PROBLEM_UNAVAILABLE] = { "UNAVAILABLE", 503, "Not available now" },
	[HVP_PROBLEM_CANCELLED] = { "CANCELLED", 409, "Cancelled" },
	[HVP_PROBLEM_REQUEST_TIMEOUT] = { "TIMED_OUT", 408, "Not in time" },
};

gboolean hvp_problem_set(GError **error, HvpProblemCode code, const char *format, ...)
{
	va_list arguments;

	if (error == NULL)
		return FALSE;
	va_start(arguments, format);
	g_propagate_error(error, g_error_new_valist(HVP_PROBLEM, (int)code, format, arguments));
	va_end(arguments);
	return FALSE;
}

/* Of a name that the core gave: the code, or INTERNAL. */
static HvpProblemCode code_of_name(const char *name)
{
	for (guint i = 0; i < G_N_ELEMENTS(hvp_problem_codes); i++)
		if (strcmp(hvp_problem_codes[i].name, name) == 0)
			return (HvpProblemCode)i;
	return HVP_PROBLEM_INTERNAL;
}

static HvpProblemCode code_of_error(const GError *error)
{
	bool is_ours = error->domain == HVP_PROBLEM || error->domain == problem_document_quark();

	if (!is_ours || (guint)error->code >= G_N_ELEMENTS(hvp_problem_codes))
		return HVP_PROBLEM_INTERNAL;
	return (HvpProblemCode)error->code;
}

guint hvp_problem_status(const GError *error)
{
	return hvp_problem_codes[code_of_error(error)].status;
}

static JsonObject *new_document(HvpProblemCode code, const char *detail)
{
	JsonObject *object = json_object_new();
	g_autofree char *type = g_strdup_printf("urn:hvpatch:error:%s",
						hvp_problem_codes[code].name);

	json_object_set_string_member(object, "type", type);
	json_object_set_string_member(object, "title", hvp_problem_codes[code].title);
	json_object_set_int_member(object, "status", hvp_problem_codes[code].status);
	json_object_set_string_member(object, "code", hvp_problem_codes[code].name);
	json_object_set_string_member(object, "detail", detail);
	return object;
}

static char *document_to_text(JsonObject *object)
{
	g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);

	json_node_take_object(root, object);
	return json_to_string(root, FALSE);
}

char *hvp_problem_document(const GError *error)
{
	if (error->domain == problem_document_quark())
		return g_strdup(error->message);
	return document_to_text(new_document(code_of_error(error), error->message));
}

gboolean hvp_problem_set_gone(GError **error, guint64 oldest, guint64 newest)
{
	g_autofree char *detail = g_strdup_printf(
		"since may be %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, oldest, newest);
	g_autofree char *document = NULL;
	JsonObject *object = new_document(HVP_PROBLEM_GONE, detail);

	json_object_set_int_member(object, "oldest", (gint64)oldest);
	document = document_to_text(object);
	g_set_error_literal(error, problem_document_quark(), HVP_PROBLEM_GONE, document);
	return FALSE;
}

static void copy_member(JsonObject *from, JsonObject *to, const char *name, GType type)
{
	JsonNode *node = hvp_json_text_typed_member(from, name, type);

	if (node != NULL)
		json_object_set_member(to, name, json_node_copy(node));
}

/* The core's document with our status; NULL if it is none. */
static GError *from_document(HvpProblemCode code, const char *text)
{
	g_autoptr(JsonNode) root = NULL;
	g_autofree char *document = NULL;
	JsonObject *ours;
	JsonNode *detail;

	if (strlen(text) > MAX_DOCUMENT_BYTES)
		return NULL;
	root = hvp_json_text_parse_object(text, strlen(text), MAX_DOCUMENT_DEPTH,
					  MAX_DOCUMENT_VALUES, "problem", NULL);
	detail = root ? hvp_json_text_typed_member(json_node_get_object(root), "detail",
						   G_TYPE_STRING)
		      : NULL;
	if (detail == NULL)
		return NULL;
	ours = new_document(code, json_node_get_string(detail));
	copy_member(json_node_get_object(root), ours, "instance", G_TYPE_STRING);
	copy_member(json_node_get_object(root), ours, "operation", G_TYPE_STRING);
	copy_member(json_node_get_object(root), ours, "oldest", G_TYPE_INT64);
	document = document_to_text(ours);
	return g_error_new_literal(problem_document_quark(), (int)code, document);
}

static bool is_core_away(const GError *error)
{
	return g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_SERVICE_UNKNOWN) ||
	       g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NAME_HAS_NO_OWNER) ||
	       g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NO_REPLY) ||
	       g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_DISCONNECTED) ||
	       g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_LIMITS_EXCEEDED) ||
	       g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CLOSED) ||
	       g_error_matches(error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
}

GError *hvp_problem_from_core(const GError *error)
{
	g_autofree char *name = g_dbus_error_get_remote_error(error);
	g_autoptr(GError) plain = g_error_copy(error);
	GError *problem = NULL;

	g_dbus_error_strip_remote_error(plain);
	if (name != NULL && g_str_has_prefix(name, CORE_ERROR_PREFIX))
		problem = from_document(code_of_name(name + strlen(CORE_ERROR_PREFIX)),
					plain->message);
	else if (is_core_away(error))
		hvp_problem_set(&problem, HVP_PROBLEM_UNAVAILABLE, "hvpatchd is away");
	else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT) ||
		 g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_TIMEOUT))
		hvp_problem_set(&problem, HVP_PROBLEM_TIMED_OUT, "hvpatchd does not answer");
	if (problem == NULL) {
		g_warning("hvpatchd answers what is no problem document: %s", error->message);
		hvp_problem_set(&problem, HVP_PROBLEM_INTERNAL, "hvpatchd's answer is not valid");
	}
	return problem;
}
