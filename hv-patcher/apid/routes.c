/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/routes.h"

#include <string.h>

#include "apid/accept.h"
#include "apid/handlers.h"
#include "apid/problem.h"
#include "apid/query.h"

#define MAX_JSON_BYTES (64 * 1024)

typedef struct {
	const char *method;
	const char *path; /* with one {uuid}, {sha256} or {script} */
	void (*handle)(HvpExchange *exchange);
	const char *const *produces; /* NULL: no body */
	const char *consumes;	     /* NULL: no body is taken */
	const char *const *query;
} Route;

static const char *const json[] = { HVP_TYPE_JSON, NULL };
static const char *const metrics[] = { HVP_TYPE_METRICS, NULL };
static const char *const events[] = { HVP_TYPE_NDJSON, HVP_TYPE_SSE, NULL };
static const char *const html[] = { "text/html", NULL };
static const char *const script[] = { "text/javascript", NULL };
static const char *const style[] = { "text/css", NULL };
static const char *const no_query[] = { NULL };
static const char *const events_query[] = { "since", "follow", NULL };
static const char *const operations_query[] = { "domain", "state", "verb", "limit", NULL };
static const char *const domain_query[] = { "state", "verb", "limit", NULL };

static const Route routes[] = {
	{ "GET", "/v1/domains", hvp_domains_list, json, NULL, no_query },
	{ "GET", "/v1/domains/{uuid}", hvp_domains_get, json, NULL, no_query },
	{ "POST", "/v1/domains/{uuid}/refresh", hvp_domains_refresh, json, NULL, no_query },
	{ "GET", "/v1/domains/{uuid}/operations", hvp_operations_list_of_domain, json, NULL,
	  domain_query },
	{ "POST", "/v1/domains/{uuid}/operations", hvp_operations_start, json, HVP_TYPE_JSON,
	  no_query },
	{ "GET", "/v1/operations", hvp_operations_list, json, NULL, operations_query },
	{ "GET", "/v1/operations/{uuid}", hvp_operations_get, json, NULL, no_query },
	{ "POST", "/v1/operations/{uuid}/cancel", hvp_operations_cancel, json, NULL, no_query },
	{ "GET", "/v1/patches", hvp_patches_list, json, NULL, no_query },
	{ "POST", "/v1/patches", hvp_patches_upload, json, HVP_TYPE_BYTES, no_query },
	{ "GET", "/v1/patches/{sha256}", hvp_patches_get, json, NULL, no_query },
	{ "DELETE", "/v1/patches/{sha256}", hvp_patches_delete, NULL, NULL, no_query },
	{ "GET", "/v1/events", hvp_feed_read, events, NULL, events_query },
	{ "GET", "/v1/healthz", hvp_service_health, json, NULL, no_query },
	{ "GET", "/v1/openapi.json", hvp_service_openapi, json, NULL, no_query },
	{ "GET", "/metrics", hvp_service_metrics, metrics, NULL, no_query },
	{ "GET", "/", hvp_service_page, html, NULL, no_query },
	{ "GET", "/app.js", hvp_service_page, script, NULL, no_query },
	{ "GET", "/part/{script}", hvp_service_page, script, NULL, no_query },
	{ "GET", "/style.css", hvp_service_page, style, NULL, no_query },
};

static guint64 max_patch_bytes;

void hvp_routes_set_max_patch(guint64 bytes)
{
	max_patch_bytes = bytes;
}

static bool fits(const char *pattern, const char *segment)
{
	if (strcmp(pattern, "{uuid}") == 0)
		return hvp_query_is_uuid(segment);
	if (strcmp(pattern, "{sha256}") == 0)
		return hvp_query_is_sha256(segment);
	if (strcmp(pattern, "{script}") == 0)
		return hvp_query_is_script(segment);
	return strcmp(pattern, segment) == 0;
}

/* Whether @path is of @route; *@ret_id (may be NULL) is what stands for {...} in it, or NULL. */
static bool matches(const Route *route, const char *path, char **ret_id)
{
	g_auto(GStrv) wanted = g_strsplit(route->path, "/", -1);
	g_auto(GStrv) given = g_strsplit(path, "/", -1);
	const char *id = NULL;

	if (g_strv_length(wanted) != g_strv_length(given))
		return false;
	for (guint i = 0; wanted[i] != NULL; i++) {
		if (!fits(wanted[i], given[i]))
			return false;
		if (wanted[i][0] == '{')
			id = given[i];
	}
	if (ret_id != NULL)
		*ret_id = g_strdup(id);
	return true;
}

/* HEAD is what GET is. */
static const char *method_of(const HvpHead *head)
{
	return strcmp(head->method, "HEAD") == 0 ? "GET" : head->method;
}

static const Route *find(const HvpHead *head, char **ret_id)
{
	for (guint i = 0; i < G_N_ELEMENTS(routes); i++)
		if (strcmp(routes[i].method, method_of(head)) == 0 &&
		    matches(&routes[i], head->path, ret_id))
			return &routes[i];
	return NULL;
}

char *hvp_routes_allowed(const char *path)
{
	GString *allowed = g_string_new("");

	for (guint i = 0; i < G_N_ELEMENTS(routes); i++) {
		if (!matches(&routes[i], path, NULL))
			continue;
		g_string_append_printf(allowed, "%s, ", routes[i].method);
		if (strcmp(routes[i].method, "GET") == 0)
			g_string_append(allowed, "HEAD, ");
	}
	if (allowed->len > 0)
		g_string_append(allowed, "OPTIONS");
	return g_string_free(allowed, FALSE);
}

static bool is_options(const HvpHead *head)
{
	return strcmp(head->method, "OPTIONS") == 0;
}

/*
 * On the unix socket, to which ssh -L leads, a page may have its own name resolve to 127.0.0.1: it
 * is of the same origin as what it asks for then.
 */
static bool check_host(const HvpConnection *connection, GError **error)
{
	if (!hvp_connection_is_local(connection) ||
	    hvp_head_names_this_machine(hvp_connection_head(connection)))
		return true;
	return hvp_problem_set(error, HVP_PROBLEM_MISDIRECTED,
			       "Host: localhost, 127.0.0.1 or [::1] is wanted on this socket");
}

/*
 * A page of another origin may have a browser send requests with its user's certificate. Browsers
 * say where a request is from.
 */
static bool check_origin(const HvpHead *head, GError **error)
{
	const char *origin = head->headers[HVP_HEADER_ORIGIN];
	const char *host = head->headers[HVP_HEADER_HOST];
	const char *site = head->headers[HVP_HEADER_FETCH_SITE];
	const char *authority = origin ? strstr(origin, "://") : NULL;
	bool is_foreign = origin != NULL && (authority == NULL || host == NULL ||
					     g_ascii_strcasecmp(authority + 3, host) != 0);

	if (!is_foreign &&
	    (site == NULL || strcmp(site, "same-origin") == 0 || strcmp(site, "none") == 0))
		return true;
	return hvp_problem_set(error, HVP_PROBLEM_FORBIDDEN,
			       "a page of another origin may not ask for this");
}

static bool check_body(const HvpHead *head, const Route *route, GError **error)
{
	const char *encoding = head->headers[HVP_HEADER_CONTENT_ENCODING];

	if (encoding != NULL && g_ascii_strcasecmp(encoding, "identity") != 0)
		return hvp_problem_set(error, HVP_PROBLEM_UNSUPPORTED_MEDIA_TYPE,
				       "no Content-Encoding is taken");
	if (route->consumes == NULL && head->body != HVP_BODY_NONE)
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				       "no body is taken here");
	if (route->consumes != NULL &&
	    !hvp_accept_is_type(head->headers[HVP_HEADER_CONTENT_TYPE], route->consumes))
		return hvp_problem_set(error, HVP_PROBLEM_UNSUPPORTED_MEDIA_TYPE,
				       "%s is taken here", route->consumes);
	return true;
}

static bool check_accept(const HvpHead *head, const Route *route, GError **error)
{
	const char *accept = head->headers[HVP_HEADER_ACCEPT];

	if (route->produces == NULL || hvp_accept_choose(accept, route->produces) != NULL)
		return true;
	return hvp_problem_set(error, HVP_PROBLEM_NOT_ACCEPTABLE, "%s is what there is",
			       route->produces[0]);
}

static bool check_query(const HvpHead *head, const Route *route, GError **error)
{
	g_autoptr(GHashTable) query = hvp_query_parse(head->query, route->query, error);

	return query != NULL;
}

static bool is_upload(const Route *route)
{
	return route->consumes != NULL && strcmp(route->consumes, HVP_TYPE_BYTES) == 0;
}

bool hvp_routes_admit(const HvpConnection *connection, guint64 *ret_max_body_bytes, GError **error)
{
	const HvpHead *head = hvp_connection_head(connection);
	g_autofree char *allowed = hvp_routes_allowed(head->path);
	const Route *route = find(head, NULL);

	if (!check_host(connection, error))
		return false;
	if (allowed[0] == '\0')
		return hvp_problem_set(error, HVP_PROBLEM_NOT_FOUND, "there is no such resource");
	if (is_options(head) && head->body == HVP_BODY_NONE)
		return true;
	if (route == NULL)
		return hvp_problem_set(error, HVP_PROBLEM_METHOD_NOT_ALLOWED, "%s is allowed",
				       allowed);
	*ret_max_body_bytes = is_upload(route) ? max_patch_bytes : MAX_JSON_BYTES;
	return check_origin(head, error) && check_query(head, route, error) &&
	       check_accept(head, route, error) && check_body(head, route, error);
}

bool hvp_routes_is_upload(const HvpHead *head)
{
	const Route *route = find(head, NULL);

	return route != NULL && is_upload(route);
}

void hvp_routes_dispatch(HvpExchange *exchange)
{
	const HvpHead *head = hvp_exchange_head(exchange);
	const Route *route = find(head, &exchange->id);

	if (route == NULL) {
		g_autofree char *allowed = hvp_routes_allowed(head->path);

		hvp_exchange_set_header(exchange, "Allow", allowed);
		hvp_exchange_answer_nothing(exchange, SOUP_STATUS_NO_CONTENT);
		return;
	}
	exchange->query = hvp_query_parse(head->query, route->query, NULL);
	if (route->produces != NULL)
		exchange->type = g_strdup(
			hvp_accept_choose(head->headers[HVP_HEADER_ACCEPT], route->produces));
	route->handle(exchange);
}
