/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/exchange.h"

#include <string.h>

#include "apid/json-scan.h"
#include "apid/problem.h"
#include "apid/routes.h"

#define PROBLEM_TYPE "application/problem+json"
#define RETRY_AFTER "1"
/* Of the core's documents: a list of thousands of domains with hundreds of functions. */
#define MAX_DOCUMENT_DEPTH 16
#define MAX_DOCUMENT_VALUES (16 * 1000 * 1000)
#define MAX_LOGGED_BYTES 128

HvpExchange *hvp_exchange_new(HvpApi *api, SoupServerMessage *message)
{
	HvpExchange *self = g_new0(HvpExchange, 1);

	self->api = api;
	self->message = g_object_ref(message);
	self->connection = hvp_connection_of_message(message);
	self->principal = hvp_connection_principal(self->connection);
	return self;
}

static void free_exchange(HvpExchange *self)
{
	g_clear_pointer(&self->query, g_hash_table_unref);
	g_object_unref(self->message);
	g_free(self->id);
	g_free(self->type);
	g_free(self);
}

const HvpHead *hvp_exchange_head(const HvpExchange *self)
{
	return hvp_connection_head(self->connection);
}

bool hvp_exchange_is_head(const HvpExchange *self)
{
	const HvpHead *head = hvp_exchange_head(self);

	return head != NULL && strcmp(head->method, "HEAD") == 0;
}

void hvp_exchange_pause(HvpExchange *self)
{
	soup_server_message_pause(self->message);
	self->is_paused = true;
}

static void replace_header(SoupServerMessage *message, const char *name, const char *value)
{
	soup_message_headers_replace(soup_server_message_get_response_headers(message), name,
				     value);
}

void hvp_exchange_set_header(HvpExchange *self, const char *name, const char *value)
{
	replace_header(self->message, name, value);
}

/* Who did what, with what result; reading is nobody's business. */
static void log_change(const HvpExchange *self, guint status)
{
	const HvpHead *head = hvp_exchange_head(self);
	g_autofree char *who = NULL;

	if (head == NULL || strcmp(head->method, "GET") == 0 || strcmp(head->method, "HEAD") == 0 ||
	    strcmp(head->method, "OPTIONS") == 0)
		return;
	who = g_strescape(self->principal, NULL);
	g_message("%s: %s %.*s: %u", who, head->method, MAX_LOGGED_BYTES, head->path, status);
}

static void set_status(HvpExchange *self, guint status)
{
	if (hvp_connection_closes(self->connection))
		replace_header(self->message, "Connection", "close");
	replace_header(self->message, "X-Content-Type-Options", "nosniff");
	replace_header(self->message, "Cross-Origin-Resource-Policy", "same-origin");
	if (status / 100 < G_N_ELEMENTS(self->api->counters.answers))
		self->api->counters.answers[status / 100]++;
	log_change(self, status);
	soup_server_message_set_status(self->message, status, NULL);
}

static void end(HvpExchange *self)
{
	if (self->is_paused)
		soup_server_message_unpause(self->message);
	free_exchange(self);
}

static void set_body(HvpExchange *self, const char *type, GBytes *bytes)
{
	SoupMessageHeaders *headers = soup_server_message_get_response_headers(self->message);

	replace_header(self->message, "Content-Type", type);
	if (g_bytes_get_size(bytes) > 0)
		soup_message_body_append_bytes(soup_server_message_get_response_body(self->message),
					       bytes);
	soup_message_headers_set_content_length(headers, (goffset)g_bytes_get_size(bytes));
}

void hvp_exchange_answer(HvpExchange *self, guint status, const char *type, const char *text)
{
	g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));

	replace_header(self->message, "Cache-Control", "no-store");
	set_body(self, type, bytes);
	set_status(self, status);
	end(self);
}

void hvp_exchange_answer_nothing(HvpExchange *self, guint status)
{
	set_status(self, status);
	end(self);
}

static bool client_has(const HvpExchange *self, const char *tag)
{
	const char *tags = hvp_exchange_head(self)->headers[HVP_HEADER_IF_NONE_MATCH];

	return tags != NULL && (strcmp(tags, "*") == 0 || strstr(tags, tag) != NULL);
}

void hvp_exchange_answer_tagged(HvpExchange *self, const char *type, GBytes *bytes)
{
	g_autofree char *digest = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, bytes);
	g_autofree char *tag = g_strdup_printf("\"%s\"", digest);

	replace_header(self->message, "Cache-Control", "no-cache");
	replace_header(self->message, "ETag", tag);
	if (client_has(self, tag)) {
		hvp_exchange_answer_nothing(self, SOUP_STATUS_NOT_MODIFIED);
		return;
	}
	set_body(self, type, bytes);
	set_status(self, SOUP_STATUS_OK);
	end(self);
}

void hvp_exchange_fail(HvpExchange *self, const GError *error)
{
	g_autofree char *document = hvp_problem_document(error);
	const HvpHead *head = hvp_exchange_head(self);
	guint status = hvp_problem_status(error);

	if (status == SOUP_STATUS_METHOD_NOT_ALLOWED && head != NULL) {
		g_autofree char *allowed = hvp_routes_allowed(head->path);

		replace_header(self->message, "Allow", allowed);
	}
	if (status == SOUP_STATUS_SERVICE_UNAVAILABLE || status == 429)
		replace_header(self->message, "Retry-After", RETRY_AFTER);
	hvp_exchange_answer(self, status, PROBLEM_TYPE, document);
}

SoupServerMessage *hvp_exchange_begin_stream(HvpExchange *self, const char *type)
{
	SoupServerMessage *message = g_object_ref(self->message);
	SoupMessageHeaders *headers = soup_server_message_get_response_headers(message);
	bool is_old = hvp_exchange_head(self)->is_http_1_0;

	replace_header(message, "Cache-Control", "no-store");
	replace_header(message, "Content-Type", type);
	soup_message_headers_set_encoding(headers,
					  is_old ? SOUP_ENCODING_EOF : SOUP_ENCODING_CHUNKED);
	soup_message_body_set_accumulate(soup_server_message_get_response_body(message), FALSE);
	set_status(self, SOUP_STATUS_OK);
	end(self);
	return message;
}

bool hvp_exchange_check_document(HvpExchange *self, const char *text)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GError) problem = NULL;

	if (hvp_json_scan_check(text, strlen(text), MAX_DOCUMENT_DEPTH, MAX_DOCUMENT_VALUES,
				&error))
		return true;
	g_warning("hvpatchd's answer: %s", error->message);
	hvp_problem_set(&problem, HVP_PROBLEM_INTERNAL, "hvpatchd's answer is not valid");
	hvp_exchange_fail(self, problem);
	return false;
}
