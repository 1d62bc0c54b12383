/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/forward.h"

#include <string.h>

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

typedef struct {
	HvpExchange *exchange;
	const char *getter; /* static */
} Begin;

static void got_begun(GVariant *answer, const GError *problem, void *data)
{
	const char *text = take_document(data, answer, problem);

	if (text != NULL)
		hvp_exchange_answer(data, SOUP_STATUS_ACCEPTED, HVP_TYPE_JSON, text);
}

static void begun(G_GNUC_UNUSED GVariant *answer, const GError *problem, void *data)
{
	g_autofree Begin *self = data;
	HvpExchange *exchange = self->exchange;

	if (problem != NULL)
		hvp_exchange_fail(exchange, problem);
	else
		hvp_core_call(exchange->api->core, self->getter, name_it(exchange), "(s)", NULL,
			      got_begun, exchange);
}

void hvp_forward_begin(HvpExchange *exchange, const char *method, const char *getter)
{
	Begin *self = g_new0(Begin, 1);

	*self = (Begin){ exchange, getter };
	hvp_exchange_pause(exchange);
	hvp_core_call(exchange->api->core, method, name_it(exchange), "()", NULL, begun, self);
}
