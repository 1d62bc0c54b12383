/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/head.h"

#include <string.h>

#include "apid/problem.h"

#define MAX_METHOD_BYTES 16
/* Below 2^53, as every number of JSON. */
#define MAX_LENGTH_DIGITS 15

static const struct {
	const char *name;
	bool is_list; /* may be there several times, which means the same as with commas */
} known_headers[HVP_HEADER_COUNT] = {
	[HVP_HEADER_HOST] = { "Host", false },
	[HVP_HEADER_CONNECTION] = { "Connection", true },
	[HVP_HEADER_CONTENT_LENGTH] = { "Content-Length", false },
	[HVP_HEADER_TRANSFER_ENCODING] = { "Transfer-Encoding", false },
	[HVP_HEADER_CONTENT_TYPE] = { "Content-Type", false },
	[HVP_HEADER_CONTENT_ENCODING] = { "Content-Encoding", false },
	[HVP_HEADER_EXPECT] = { "Expect", false },
	[HVP_HEADER_ACCEPT] = { "Accept", true },
	[HVP_HEADER_IF_NONE_MATCH] = { "If-None-Match", true },
	[HVP_HEADER_IDEMPOTENCY_KEY] = { "Idempotency-Key", false },
	[HVP_HEADER_SIGNATURE] = { "Hvpatch-Signature", false },
	[HVP_HEADER_LAST_EVENT_ID] = { "Last-Event-ID", false },
	[HVP_HEADER_ORIGIN] = { "Origin", false },
	[HVP_HEADER_FETCH_SITE] = { "Sec-Fetch-Site", false },
};

/* A piece of the head; not ended by a NUL. */
typedef struct {
	const char *at;
	gsize length;
} Piece;

static bool is_token_byte(char byte)
{
	return g_ascii_isalnum(byte) || (byte != '\0' && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

static bool is_target_byte(char byte)
{
	return g_ascii_isalnum(byte) ||
	       (byte != '\0' && strchr("-._~!$&'()*+,;=:@/?%", byte) != NULL);
}

/* RFC 9110, 5.5, without bytes above ASCII. */
static bool is_value_byte(char byte)
{
	return byte == '\t' || g_ascii_isprint(byte);
}

static bool is_all(Piece piece, bool (*test)(char byte))
{
	for (gsize i = 0; i < piece.length; i++)
		if (!test(piece.at[i]))
			return false;
	return piece.length > 0;
}

static bool is_digit(char byte)
{
	return g_ascii_isdigit(byte);
}

static bool is_word(Piece piece, const char *word)
{
	return piece.length == strlen(word) &&
	       g_ascii_strncasecmp(piece.at, word, piece.length) == 0;
}

static Piece trim(Piece piece)
{
	while (piece.length > 0 && (piece.at[0] == ' ' || piece.at[0] == '\t')) {
		piece.at++;
		piece.length--;
	}
	while (piece.length > 0 &&
	       (piece.at[piece.length - 1] == ' ' || piece.at[piece.length - 1] == '\t'))
		piece.length--;
	return piece;
}

/* What is before the first @separator, which is taken with it; all if there is none. */
static Piece cut(Piece *rest, char separator)
{
	const char *found = memchr(rest->at, separator, rest->length);
	gsize length = found ? (gsize)(found - rest->at) : rest->length;
	Piece first = { rest->at, length };

	rest->at += MIN(length + 1, rest->length);
	rest->length -= MIN(length + 1, rest->length);
	return first;
}

gsize hvp_head_find_end(const char *bytes, gsize length_bytes)
{
	const char *end = memmem(bytes, MIN(length_bytes, HVP_HEAD_MAX_BYTES), "\r\n\r\n", 4);

	return end ? (gsize)(end - bytes) + 4 : 0;
}

bool hvp_head_check_part(const char *bytes, gsize length_bytes, GError **error)
{
	gsize line_bytes = HVP_HEAD_MAX_TARGET_BYTES + MAX_METHOD_BYTES + strlen("  HTTP/1.1\r\n");

	if (length_bytes > line_bytes && memchr(bytes, '\n', line_bytes) == NULL)
		return hvp_problem_set(error, HVP_PROBLEM_URI_TOO_LONG,
				       "a target of at most %d bytes is taken",
				       HVP_HEAD_MAX_TARGET_BYTES);
	if (length_bytes >= HVP_HEAD_MAX_BYTES)
		return hvp_problem_set(error, HVP_PROBLEM_HEADERS_TOO_LARGE,
				       "a head of at most %d bytes is taken", HVP_HEAD_MAX_BYTES);
	return true;
}

static bool parse_target(HvpHead *self, Piece target, GError **error)
{
	Piece path;
	bool has_query = memchr(target.at, '?', target.length) != NULL;

	if (target.length > HVP_HEAD_MAX_TARGET_BYTES)
		return hvp_problem_set(error, HVP_PROBLEM_URI_TOO_LONG,
				       "a target of at most %d bytes is taken",
				       HVP_HEAD_MAX_TARGET_BYTES);
	if (!is_all(target, is_target_byte) || target.at[0] != '/')
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				       "the target is no path");
	path = cut(&target, '?');
	self->path = g_strndup(path.at, path.length);
	self->query = has_query ? g_strndup(target.at, target.length) : NULL;
	return true;
}

static bool parse_request_line(HvpHead *self, Piece line, GError **error)
{
	Piece method = cut(&line, ' ');
	Piece target = cut(&line, ' ');

	self->is_http_1_0 = is_word(line, "HTTP/1.0");
	if (!is_all(method, is_token_byte) || method.length > MAX_METHOD_BYTES ||
	    memcmp(line.at, "HTTP", MIN(line.length, 4)) != 0 ||
	    (!self->is_http_1_0 && !is_word(line, "HTTP/1.1")))
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				       "the first line is none of HTTP/1.1");
	self->method = g_strndup(method.at, method.length);
	return parse_target(self, target, error);
}

static bool keep_header(HvpHead *self, HvpHeader header, Piece value, GError **error)
{
	char **slot = &self->headers[header];
	g_autofree char *before = g_steal_pointer(slot);

	if (before != NULL && !known_headers[header].is_list)
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT, "two headers %s",
				       known_headers[header].name);
	*slot = before ? g_strdup_printf("%s, %.*s", before, (int)value.length, value.at)
		       : g_strndup(value.at, value.length);
	return true;
}

static bool parse_header(HvpHead *self, Piece line, GError **error)
{
	bool has_colon = memchr(line.at, ':', line.length) != NULL;
	Piece name = cut(&line, ':');
	Piece value = trim(line);

	/* A blank before the colon, or a line that goes on with the last: read in two ways. */
	if (!has_colon || !is_all(name, is_token_byte))
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				       "a header that is none");
	for (guint i = 0; i < HVP_HEADER_COUNT; i++) {
		if (!is_word(name, known_headers[i].name))
			continue;
		if (value.length > 0 && !is_all(value, is_value_byte))
			return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
					       "header %s is no text", known_headers[i].name);
		return keep_header(self, (HvpHeader)i, value, error);
	}
	return true;
}

/* No NUL, no CR or LF but as the end of a line. */
static bool check_lines(const char *bytes, gsize length_bytes, GError **error)
{
	for (gsize i = 0; i < length_bytes; i++) {
		bool is_end = bytes[i] == '\r' && i + 1 < length_bytes && bytes[i + 1] == '\n';

		if (is_end)
			i++;
		else if (bytes[i] == '\r' || bytes[i] == '\n' || bytes[i] == '\0')
			return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
					       "the head has a control character");
	}
	return true;
}

static bool parse_lines(HvpHead *self, Piece rest, GError **error)
{
	Piece line = cut(&rest, '\n');
	guint count = 0;

	line.length--;
	if (!parse_request_line(self, line, error))
		return false;
	for (line = cut(&rest, '\n'); line.length > 1; line = cut(&rest, '\n')) {
		line.length--;
		if (++count > HVP_HEAD_MAX_HEADERS)
			return hvp_problem_set(error, HVP_PROBLEM_HEADERS_TOO_LARGE,
					       "at most %d headers are taken",
					       HVP_HEAD_MAX_HEADERS);
		if (!parse_header(self, line, error))
			return false;
	}
	return true;
}

static bool read_length(HvpHead *self, const char *text, GError **error)
{
	Piece digits = { text, strlen(text) };

	if (!is_all(digits, is_digit))
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				       "Content-Length is no number");
	if (digits.length > MAX_LENGTH_DIGITS)
		return hvp_problem_set(error, HVP_PROBLEM_TOO_LARGE, "the body is too large");
	self->length_bytes = g_ascii_strtoull(text, NULL, 10);
	self->body = self->length_bytes > 0 ? HVP_BODY_LENGTH : HVP_BODY_NONE;
	return true;
}

/* RFC 9112, 6.3; both at once is what requests are smuggled with. */
static bool read_body(HvpHead *self, GError **error)
{
	const char *length = self->headers[HVP_HEADER_CONTENT_LENGTH];
	const char *encoding = self->headers[HVP_HEADER_TRANSFER_ENCODING];

	if (length != NULL && encoding != NULL)
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				       "both Content-Length and Transfer-Encoding");
	if (length != NULL)
		return read_length(self, length, error);
	if (encoding == NULL)
		return true;
	if (self->is_http_1_0 || g_ascii_strcasecmp(encoding, "chunked") != 0)
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				       "Transfer-Encoding is not chunked");
	self->body = HVP_BODY_CHUNKED;
	return true;
}

static bool has_word(const char *list, const char *word)
{
	Piece rest = { list, strlen(list) };

	while (rest.length > 0)
		if (is_word(trim(cut(&rest, ',')), word))
			return true;
	return false;
}

static bool read_connection(HvpHead *self, GError **error)
{
	const char *connection = self->headers[HVP_HEADER_CONNECTION];
	const char *expect = self->headers[HVP_HEADER_EXPECT];

	self->keeps_alive = !self->is_http_1_0 &&
			    (connection == NULL || !has_word(connection, "close"));
	if (expect == NULL || self->is_http_1_0)
		return true;
	if (g_ascii_strcasecmp(expect, "100-continue") != 0)
		return hvp_problem_set(error, HVP_PROBLEM_EXPECTATION,
				       "100-continue is all that can be expected");
	self->expects_continue = self->body != HVP_BODY_NONE;
	return true;
}

static bool check_host(HvpHead *self, GError **error)
{
	const char *host = self->headers[HVP_HEADER_HOST];

	if (host == NULL && self->is_http_1_0)
		return true;
	if (host == NULL || strpbrk(host, "/?#@ \t,") != NULL)
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT, "one Host is wanted");
	return true;
}

HvpHead *hvp_head_parse(const char *bytes, gsize length_bytes, GError **error)
{
	g_autoptr(HvpHead) self = g_new0(HvpHead, 1);
	Piece rest = { bytes, length_bytes };

	if (!check_lines(bytes, length_bytes, error) || !parse_lines(self, rest, error) ||
	    !check_host(self, error) || !read_body(self, error) || !read_connection(self, error))
		return NULL;
	return g_steal_pointer(&self);
}

/* ":" and digits, or nothing. */
static bool is_port(const char *text)
{
	return text[0] == '\0' ||
	       (text[0] == ':' && text[1 + strspn(text + 1, G_CSET_DIGITS)] == '\0');
}

bool hvp_head_names_this_machine(const HvpHead *self)
{
	static const char *const names[] = { "localhost", "127.0.0.1", "[::1]" };
	const char *host = self->headers[HVP_HEADER_HOST];

	if (host == NULL)
		return true;
	for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
		gsize length = strlen(names[i]);

		if (g_ascii_strncasecmp(host, names[i], length) == 0 && is_port(host + length))
			return true;
	}
	return false;
}

void hvp_head_free(HvpHead *self)
{
	if (self == NULL)
		return;
	g_free(self->method);
	g_free(self->path);
	g_free(self->query);
	for (guint i = 0; i < HVP_HEADER_COUNT; i++)
		g_free(self->headers[i]);
	g_free(self);
}
