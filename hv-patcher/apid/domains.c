/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/handlers.h"

#include <string.h>

/* A list or a domain: as the core has it. */
static void got_document(GVariant *answer, const GError *problem, void *data)
{
	HvpExchange *exchange = data;
	g_autoptr(GBytes) bytes = NULL;
	const char *text;

	if (problem != NULL) {
		hvp_exchange_fail(exchange, problem);
		return;
	}
	g_variant_get(answer, "(&s)", &text);
	if (!hvp_exchange_check_document(exchange, text))
		return;
	bytes = g_bytes_new(text, strlen(text));
	hvp_exchange_answer_tagged(exchange, HVP_TYPE_JSON, bytes);
}

void hvp_domains_list(HvpExchange *exchange)
{
	hvp_exchange_pause(exchange);
	hvp_core_call(exchange->api->core, "ListDomains", g_variant_new("(s)", exchange->principal),
		      "(s)", NULL, got_document, exchange);
}

void hvp_domains_get(HvpExchange *exchange)
{
	hvp_exchange_pause(exchange);
	hvp_core_call(exchange->api->core, "GetDomain",
		      g_variant_new("(ss)", exchange->principal, exchange->id), "(s)", NULL,
		      got_document, exchange);
}

static void got_refreshed(GVariant *answer, const GError *problem, void *data)
{
	HvpExchange *exchange = data;
	const char *text;

	if (problem != NULL) {
		hvp_exchange_fail(exchange, problem);
		return;
	}
	g_variant_get(answer, "(&s)", &text);
	if (hvp_exchange_check_document(exchange, text))
		hvp_exchange_answer(exchange, SOUP_STATUS_ACCEPTED, HVP_TYPE_JSON, text);
}

static void refreshed(G_GNUC_UNUSED GVariant *answer, const GError *problem, void *data)
{
	HvpExchange *exchange = data;

	if (problem != NULL)
		hvp_exchange_fail(exchange, problem);
	else
		hvp_core_call(exchange->api->core, "GetDomain",
			      g_variant_new("(ss)", exchange->principal, exchange->id), "(s)", NULL,
			      got_refreshed, exchange);
}

void hvp_domains_refresh(HvpExchange *exchange)
{
	hvp_exchange_pause(exchange);
	hvp_core_call(exchange->api->core, "RefreshDomain",
		      g_variant_new("(ss)", exchange->principal, exchange->id), "()", NULL,
		      refreshed, exchange);
}
