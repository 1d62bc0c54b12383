/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is about the service itself: its health, its numbers, its description, its page. */
#include "apid/handlers.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "apid/problem.h"

#define RESOURCES "/org/hvpatch/apid"
/* Files of our own, and data from here; no frames, no inline code, nothing from elsewhere. */
#define PAGE_POLICY                                                                         \
	"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "   \
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " \
	"require-trusted-types-for 'script'; trusted-types 'none'"

static char *health_text(const char *version)
{
	g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
	JsonObject *object = json_object_new();

	json_object_set_int_member(object, "version", 1);
	json_object_set_string_member(object, "status", "ok");
	json_object_set_string_member(object, "daemon", version);
	json_node_take_object(root, object);
	return json_to_string(root, FALSE);
}

static void got_properties(GVariant *answer, const GError *problem, void *data)
{
	HvpExchange *exchange = data;
	g_autoptr(GError) error = NULL;
	g_autoptr(GVariant) properties = NULL;
	g_autofree char *text = NULL;
	const char *version = "";
	gboolean is_ready = FALSE;

	if (problem != NULL) {
		hvp_exchange_fail(exchange, problem);
		return;
	}
	properties = g_variant_get_child_value(answer, 0);
	g_variant_lookup(properties, "Ready", "b", &is_ready);
	g_variant_lookup(properties, "Version", "&s", &version);
	if (!is_ready) {
		hvp_problem_set(&error, HVP_PROBLEM_UNAVAILABLE, "hvpatchd is not ready");
		hvp_exchange_fail(exchange, error);
		return;
	}
	text = health_text(version);
	hvp_exchange_answer(exchange, SOUP_STATUS_OK, HVP_TYPE_JSON, text);
}

void hvp_service_health(HvpExchange *exchange)
{
	hvp_exchange_pause(exchange);
	hvp_core_get_properties(exchange->api->core, exchange->principal, got_properties, exchange);
}

static void got_metrics(GVariant *answer, const GError *problem, void *data)
{
	HvpExchange *exchange = data;
	g_autofree char *ours = NULL;
	g_autofree char *text = NULL;
	const char *theirs;

	if (problem != NULL) {
		hvp_exchange_fail(exchange, problem);
		return;
	}
	g_variant_get(answer, "(&s)", &theirs);
	ours = hvp_counters_text(&exchange->api->counters);
	text = g_strconcat(theirs, g_str_has_suffix(theirs, "\n") || theirs[0] == '\0' ? "" : "\n",
			   ours, NULL);
	hvp_exchange_answer(exchange, SOUP_STATUS_OK, "text/plain; version=0.0.4; charset=utf-8",
			    text);
}

void hvp_service_metrics(HvpExchange *exchange)
{
	hvp_exchange_pause(exchange);
	hvp_core_call(exchange->api->core, "GetMetrics", g_variant_new("(s)", exchange->principal),
		      "(s)", NULL, got_metrics, exchange);
}

static void answer_resource(HvpExchange *exchange, const char *path, const char *type)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GError) problem = NULL;
	g_autoptr(GBytes)
		bytes = g_resources_lookup_data(path, G_RESOURCE_LOOKUP_FLAGS_NONE, &error);

	if (bytes != NULL) {
		hvp_exchange_answer_tagged(exchange, type, bytes);
		return;
	}
	hvp_problem_set(&problem, HVP_PROBLEM_NOT_FOUND, "there is no such resource");
	hvp_exchange_fail(exchange, problem);
}

void hvp_service_openapi(HvpExchange *exchange)
{
	answer_resource(exchange, RESOURCES "/openapi.json", HVP_TYPE_JSON);
}

void hvp_service_page(HvpExchange *exchange)
{
	const char *path = hvp_exchange_head(exchange)->path;
	g_autofree char *resource = g_strconcat(
		RESOURCES "/web", strcmp(path, "/") == 0 ? "/index.html" : path, NULL);
	g_autofree char *type = g_strconcat(exchange->type, "; charset=utf-8", NULL);

	hvp_exchange_set_header(exchange, "Content-Security-Policy", PAGE_POLICY);
	hvp_exchange_set_header(exchange, "Referrer-Policy", "no-referrer");
	answer_resource(exchange, resource, type);
}
