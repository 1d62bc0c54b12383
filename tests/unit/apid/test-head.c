/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/head.h"

#include <string.h>

#include "apid/problem.h"

static HvpHead *parse(const char *text)
{
	g_autoptr(GError) error = NULL;
	HvpHead *head = hvp_head_parse(text, strlen(text), &error);

	g_assert_no_error(error);
	return head;
}

static void check_refused(const char *text, HvpProblemCode code)
{
	g_autoptr(GError) error = NULL;

	g_assert_null(hvp_head_parse(text, strlen(text), &error));
	g_assert_error(error, HVP_PROBLEM, (int)code);
}

static void test_parsed(void)
{
	g_autoptr(HvpHead) head = parse("POST /v1/x?a=b&c HTTP/1.1\r\nhost: h\r\nACCEPT: a\r\n"
					"Content-Length: 12\r\nAccept:b \t\r\nX-Other: \xff\r\n"
					"Expect: 100-Continue\r\nConnection: x, Close\r\n\r\n");

	g_assert_cmpstr(head->method, ==, "POST");
	g_assert_cmpstr(head->path, ==, "/v1/x");
	g_assert_cmpstr(head->query, ==, "a=b&c");
	g_assert_cmpstr(head->headers[HVP_HEADER_HOST], ==, "h");
	g_assert_cmpstr(head->headers[HVP_HEADER_ACCEPT], ==, "a, b");
	g_assert_cmpint(head->body, ==, HVP_BODY_LENGTH);
	g_assert_cmpuint(head->length_bytes, ==, 12);
	g_assert_true(head->expects_continue);
	g_assert_false(head->keeps_alive);
}

static void test_defaults(void)
{
	g_autoptr(HvpHead) head = parse("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	g_autoptr(HvpHead) old = parse("GET / HTTP/1.0\r\n\r\n");
	g_autoptr(HvpHead) empty = parse("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");

	g_assert_null(head->query);
	g_assert_true(head->keeps_alive);
	g_assert_false(head->is_http_1_0);
	g_assert_cmpint(head->body, ==, HVP_BODY_NONE);
	g_assert_true(old->is_http_1_0);
	g_assert_false(old->keeps_alive);
	g_assert_cmpint(empty->body, ==, HVP_BODY_NONE);
}

static void test_refused(void)
{
	static const char *const bad[] = {
		"\r\n\r\n",
		" / HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\nHost: h\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:\r\nHost: h\r\n\r\n",
		("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
		 "Content-Length: 1\r\n\r\n"),
		"GET / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\n\tx: y\r\n\r\n",
	};

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
		check_refused(bad[i], HVP_PROBLEM_INVALID_ARGUMENT);
	check_refused("GET / HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n", HVP_PROBLEM_EXPECTATION);
	check_refused("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000000000\r\n\r\n",
		      HVP_PROBLEM_TOO_LARGE);
}

/* Whatever is cut off, or one byte of which is another, is refused or understood: no crash. */
static void test_broken(void)
{
	static const char whole[] = "POST /v1/a?b=c HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n"
				    "Accept: a\r\nExpect: 100-continue\r\n\r\n";
	char text[sizeof whole];

	for (gsize i = 0; i < sizeof whole - 1; i++) {
		for (guint byte = 0; byte < 256; byte++) {
			memcpy(text, whole, sizeof whole);
			text[i] = (char)byte;
			hvp_head_free(hvp_head_parse(text, sizeof text - 1, NULL));
		}
		hvp_head_free(hvp_head_parse(whole, i, NULL));
	}
}

static void test_end(void)
{
	g_autofree char *long_line = g_strnfill(HVP_HEAD_MAX_BYTES, 'x');
	g_autoptr(GError) error = NULL;

	g_assert_cmpuint(hvp_head_find_end("a\r\n\r\nb", 6), ==, 5);
	g_assert_cmpuint(hvp_head_find_end("a\r\n\r", 4), ==, 0);
	g_assert_true(hvp_head_check_part(long_line, HVP_HEAD_MAX_TARGET_BYTES, NULL));
	g_assert_false(hvp_head_check_part(long_line, HVP_HEAD_MAX_BYTES, &error));
	g_assert_error(error, HVP_PROBLEM, HVP_PROBLEM_URI_TOO_LONG);
	g_clear_error(&error);
	memcpy(long_line, "GET / HTTP/1.1\r\n", 16);
	g_assert_false(hvp_head_check_part(long_line, HVP_HEAD_MAX_BYTES, &error));
	g_assert_error(error, HVP_PROBLEM, HVP_PROBLEM_HEADERS_TOO_LARGE);
}

static bool names_this_machine(const char *host)
{
	g_autofree char *text = g_strdup_printf("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host);
	g_autoptr(HvpHead) head = parse(text);

	return hvp_head_names_this_machine(head);
}

static void test_host(void)
{
	static const char *const ours[] = { "localhost", "LOCALHOST:0", "127.0.0.1:65535", "[::1]",
					    "[::1]:80" };
	static const char *const others[] = {
		"",	      "localhost.",   "localhost:8o", "::1",	     "localhostx",
		"xlocalhost", "localhost::1", "[::1",	      "127.0.0.1.x", "127.0.0.11:1"
	};
	g_autoptr(HvpHead) old = parse("GET / HTTP/1.0\r\n\r\n");

	for (guint i = 0; i < G_N_ELEMENTS(ours); i++)
		g_assert_true(names_this_machine(ours[i]));
	for (guint i = 0; i < G_N_ELEMENTS(others); i++)
		g_assert_false(names_this_machine(others[i]));
	g_assert_true(hvp_head_names_this_machine(old));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/apid/head/whole-PARSED", test_parsed);
	g_test_add_func("/apid/head/defaults", test_defaults);
	g_test_add_func("/apid/head/two-meanings-REFUSED", test_refused);
	g_test_add_func("/apid/head/broken-NO-CRASH", test_broken);
	g_test_add_func("/apid/head/end-FOUND", test_end);
	g_test_add_func("/apid/head/host-of-another-TOLD-APART", test_host);
	return g_test_run();
}
