/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/forward.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "apid/problem.h"

/* The text of an answer that is one; NULL: the exchange has been answered. */
static const char *take_document(HvpExchange *exchange, GVariant *answer, const GError *problem)
{
	const char *text;

	if (problem != NULL) {
		hvp_exchange_fail(exchange, problem);
		return NULL;
	}
	g_variant_get(answer, "(&s)", &text);
	return hvp_exchange_check_document(exchange, text) ? text : NULL;
}

static void got_document(GVariant *answer, const GError *problem, void *data)
{
	const char *text = take_document(data, answer, problem);
	g_autoptr(GBytes) bytes = text ? g_bytes_new(text, strlen(text)) : NULL;

	if (bytes != NULL)
		hvp_exchange_answer_tagged(data, HVP_TYPE_JSON, bytes);
}

void hvp_forward_list(HvpExchange *exchange, const char *method)
{
	hvp_exchange_pause(exchange);
	hvp_core_call(exchange->api->core, method, g_variant_new("(s)", exchange->principal), "(s)",
		      NULL, got_document, exchange);
}

static GVariant *name_it(const HvpExchange *exchange)
{
	return g_variant_new("(ss)", exchange->principal, exchange->id);
}

void hvp_forward_get(HvpExchange *exchange, const char *method)
{
	hvp_exchange_pause(exchange);
	hvp_core_call(exchange->api->core, method, name_it(exchange), "(s)", NULL, got_document,
		      exchange);
}

/* The name in the core's document, below @folder; NULL: it has none. */
static char *locate(const char *text, const char *folder, const char *member,
		    bool (*is_name)(const char *text))
{
	g_autoptr(JsonNode) root = json_from_string(text, NULL);
	const char *name = NULL;

	if (root != NULL && JSON_NODE_HOLDS_OBJECT(root))
		name = json_object_get_string_member_with_default(json_node_get_object(root),
								  member, NULL);
	return name != NULL && is_name(name) ? g_strconcat(folder, name, NULL) : NULL;
}

void hvp_forward_made(HvpExchange *exchange, GVariant *answer, guint new_status, const char *folder,
		      const char *member, bool (*is_name)(const char *text))
{
	g_autoptr(GError) error = NULL;
	g_autofree char *location = NULL;
	const char *text;
	gboolean is_new;

	g_variant_get(answer, "(&sb)", &text, &is_new);
	if (!hvp_exchange_check_document(exchange, text))
		return;
	location = locate(text, folder, member, is_name);
	if (location == NULL) {
		hvp_problem_set(&error, HVP_PROBLEM_INTERNAL, "hvpatchd's answer is not valid");
		hvp_exchange_fail(exchange, error);
		return;
	}
	hvp_exchange_set_header(exchange, "Location", location);
	hvp_exchange_answer(exchange, is_new ? new_status : SOUP_STATUS_OK, HVP_TYPE_JSON, text);
}

static void got_begun(GVariant *answer, const GError *problem, void *data)
{
	const char *text = take_document(data, answer, problem);

	if (text != NULL)
		hvp_exchange_answer(data, SOUP_STATUS_ACCEPTED, HVP_TYPE_JSON, text);
}

void hvp_forward_begin(HvpExchange *exchange, const char *method)
{
	hvp_exchange_pause(exchange);
	hvp_core_call(exchange->api->core, method, name_it(exchange), "(s)", NULL, got_begun,
		      exchange);
}
