/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The head of an HTTP/1 request (RFC 9112), read strictly: what two readers could understand in two
 * ways is refused. The HTTP library never sees a client's head, only one made from this.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define HVP_HEAD_MAX_BYTES (16 * 1024)
#define HVP_HEAD_MAX_TARGET_BYTES 2048
#define HVP_HEAD_MAX_HEADERS 64

/* Those that mean something here; all others are skipped. */
typedef enum {
	HVP_HEADER_HOST,
	HVP_HEADER_CONNECTION,
	HVP_HEADER_CONTENT_LENGTH,
	HVP_HEADER_TRANSFER_ENCODING,
	HVP_HEADER_CONTENT_TYPE,
	HVP_HEADER_CONTENT_ENCODING,
	HVP_HEADER_EXPECT,
	HVP_HEADER_ACCEPT,
	HVP_HEADER_IF_NONE_MATCH,
	HVP_HEADER_IDEMPOTENCY_KEY,
	HVP_HEADER_SIGNATURE,
	HVP_HEADER_LAST_EVENT_ID,
	HVP_HEADER_ORIGIN,
	HVP_HEADER_FETCH_SITE,
	HVP_HEADER_COUNT,
} HvpHeader;

typedef enum { HVP_BODY_NONE, HVP_BODY_LENGTH, HVP_BODY_CHUNKED } HvpBodyKind;

typedef struct {
	char *method;
	char *path;
	char *query; /* behind the "?", as it was; NULL: none */
	char *headers[HVP_HEADER_COUNT];
	HvpBodyKind body;
	guint64 length_bytes; /* of HVP_BODY_LENGTH */
	bool is_http_1_0;
	bool keeps_alive;
	bool expects_continue;
} HvpHead;

/*
 * How many of @length_bytes at @bytes are a head, with the empty line; 0: it is not whole yet, or
 * never will be, see hvp_head_check_part().
 */
gsize hvp_head_find_end(const char *bytes, gsize length_bytes);

/*
 * Whether a head that is not whole yet may still become one. HVP_PROBLEM_URI_TOO_LONG,
 * _HEADERS_TOO_LARGE: no.
 */
bool hvp_head_check_part(const char *bytes, gsize length_bytes, GError **error);

/* Parses a whole head. INVALID_ARGUMENT, EXPECTATION, URI_TOO_LONG, HEADERS_TOO_LARGE. */
HvpHead *hvp_head_parse(const char *bytes, gsize length_bytes, GError **error);

/*
 * Whether Host is a name of this machine's that no DNS decides on: localhost, 127.0.0.1 or [::1],
 * with any port. So is a request of HTTP/1.0 that has none: no browser sends such.
 */
bool hvp_head_names_this_machine(const HvpHead *self);

void hvp_head_free(HvpHead *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpHead, hvp_head_free)
