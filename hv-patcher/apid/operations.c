/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/handlers.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "apid/forward.h"
#include "apid/problem.h"
#include "apid/query.h"
#include "apid/request.h"

#define MAX_LIMIT 1000
#define NORMAL_LIMIT 100
#define MAX_KEY_BYTES 128

static const char *const states[] = { "queued",		"checking",  "loading", "waiting",
				      "switching",	"verifying", "applied", "checked",
				      "reverted",	"recovered", "failed",	"rolled-back",
				      "needs-operator", "cancelled", NULL };
static const char *const verbs[] = { "check", "apply", "revert", "replace", "recover", NULL };

static void got_list(GVariant *answer, const GError *problem, void *data)
{
	HvpExchange *exchange = data;
	const char *text;

	if (problem != NULL) {
		hvp_exchange_fail(exchange, problem);
		return;
	}
	g_variant_get(answer, "(&s)", &text);
	if (hvp_exchange_check_document(exchange, text))
		hvp_exchange_answer(exchange, SOUP_STATUS_OK, HVP_TYPE_JSON, text);
}

static void add_text(JsonObject *filter, const char *name, const char *text)
{
	if (text != NULL)
		json_object_set_string_member(filter, name, text);
}

/* What the query asks for, as the core takes it; NULL and @error: it is not valid. */
static char *read_filter(HvpExchange *exchange, const char *domain, GError **error)
{
	g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
	const char *state, *verb;
	guint64 limit;

	json_node_take_object(root, json_object_new());
	if (domain != NULL && !hvp_query_is_uuid(domain)) {
		hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				"query parameter domain: a UUID in lower case is wanted");
		return NULL;
	}
	if (!hvp_query_word(exchange->query, "state", states, &state, error) ||
	    !hvp_query_word(exchange->query, "verb", verbs, &verb, error) ||
	    !hvp_query_number(exchange->query, "limit", 1, MAX_LIMIT, NORMAL_LIMIT, &limit, error))
		return NULL;
	add_text(json_node_get_object(root), "domain", domain);
	add_text(json_node_get_object(root), "state", state);
	add_text(json_node_get_object(root), "verb", verb);
	json_object_set_int_member(json_node_get_object(root), "limit", (gint64)limit);
	return json_to_string(root, FALSE);
}

static void list(HvpExchange *exchange, const char *domain)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *filter = read_filter(exchange, domain, &error);

	if (filter == NULL) {
		hvp_exchange_fail(exchange, error);
		return;
	}
	hvp_core_call(exchange->api->core, "ListOperations",
		      g_variant_new("(ss)", exchange->principal, filter), "(s)", NULL, got_list,
		      exchange);
}

void hvp_operations_list(HvpExchange *exchange)
{
	hvp_exchange_pause(exchange);
	list(exchange, g_hash_table_lookup(exchange->query, "domain"));
}

static void found_domain(G_GNUC_UNUSED GVariant *answer, const GError *problem, void *data)
{
	HvpExchange *exchange = data;

	if (problem != NULL)
		hvp_exchange_fail(exchange, problem);
	else
		list(exchange, exchange->id);
}

/* Of a domain that is not there, or not to be seen, an empty list would say too little. */
void hvp_operations_list_of_domain(HvpExchange *exchange)
{
	hvp_exchange_pause(exchange);
	hvp_core_call(exchange->api->core, "GetDomain",
		      g_variant_new("(ss)", exchange->principal, exchange->id), "(s)", NULL,
		      found_domain, exchange);
}

void hvp_operations_get(HvpExchange *exchange)
{
	hvp_forward_get(exchange, "GetOperation");
}

static void started(GVariant *answer, const GError *problem, void *data)
{
	if (problem != NULL)
		hvp_exchange_fail(data, problem);
	else
		hvp_forward_made(data, answer, SOUP_STATUS_ACCEPTED, "/v1/operations/", "id",
				 hvp_query_is_uuid);
}

/* "": there is none. */
static bool read_key(HvpExchange *exchange, const char **ret_key, GError **error)
{
	const char *key = hvp_exchange_head(exchange)->headers[HVP_HEADER_IDEMPOTENCY_KEY];
	gsize length = key ? strlen(key) : 0;
	bool is_good = length > 0 && length <= MAX_KEY_BYTES;

	for (gsize i = 0; i < length; i++)
		is_good &= g_ascii_isgraph(key[i]);
	*ret_key = key ? key : "";
	return key == NULL || is_good ||
	       hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
			       "Idempotency-Key: 1 to %d printable characters are wanted",
			       MAX_KEY_BYTES);
}

void hvp_operations_start(HvpExchange *exchange)
{
	g_autoptr(GBytes) body = soup_message_body_flatten(
		soup_server_message_get_request_body(exchange->message));
	g_autoptr(GError) error = NULL;
	g_autofree char *request = hvp_request_normalize(body, &error);
	const char *key;

	if (request == NULL || !read_key(exchange, &key, &error)) {
		hvp_exchange_fail(exchange, error);
		return;
	}
	hvp_exchange_pause(exchange);
	hvp_core_call(exchange->api->core, "StartOperation",
		      g_variant_new("(ssss)", exchange->principal, exchange->id, request, key),
		      "(sb)", NULL, started, exchange);
}

void hvp_operations_cancel(HvpExchange *exchange)
{
	hvp_forward_begin(exchange, "CancelOperation");
}
