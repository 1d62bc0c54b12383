/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/body.h"

#include <string.h>

#include "apid/problem.h"

#define MAX_BYTES 20

/* Feeds @wire in pieces of @step bytes; NULL: refused with *@ret_code. */
static char *take(HvpHead *head, const char *wire, gsize step, bool *ret_done, gsize *ret_left,
		  int *ret_code)
{
	HvpBody body;
	g_autoptr(GByteArray) input = g_byte_array_new();
	g_autoptr(GByteArray) payload = g_byte_array_new();
	g_autoptr(GError) error = NULL;
	gsize length = strlen(wire);

	hvp_body_init(&body, head, MAX_BYTES);
	for (gsize at = 0; at < length; at += step) {
		g_byte_array_append(input, (const guint8 *)wire + at,
				    (guint)MIN(step, length - at));
		if (!hvp_body_take(&body, input, payload, &error)) {
			g_assert_true(error->domain == HVP_PROBLEM);
			*ret_code = error->code;
			return NULL;
		}
	}
	*ret_done = body.is_done;
	*ret_left = input->len;
	return g_strndup(payload->len > 0 ? (const char *)payload->data : "", payload->len);
}

static void check(HvpHead *head, const char *wire, const char *payload, gsize left)
{
	for (gsize step = 1; step <= strlen(wire); step++) {
		bool is_done = false;
		gsize remaining = 0;
		int code = 0;
		g_autofree char *got = take(head, wire, step, &is_done, &remaining, &code);

		g_assert_cmpstr(got, ==, payload);
		g_assert_true(is_done);
		g_assert_cmpuint(remaining, ==, left);
	}
}

static void check_refused(HvpHead *head, const char *wire, HvpProblemCode wanted)
{
	for (gsize step = 1; step <= strlen(wire); step++) {
		bool is_done;
		gsize left;
		int code = -1;
		g_autofree char *got = take(head, wire, step, &is_done, &left, &code);

		g_assert_null(got);
		g_assert_cmpint(code, ==, wanted);
	}
}

static void test_length(void)
{
	HvpHead head = { .body = HVP_BODY_LENGTH, .length_bytes = 5 };

	check(&head, "hello", "hello", 0);
	check(&head, "helloGET /", "hello", 5);
}

static void test_chunks(void)
{
	HvpHead head = { .body = HVP_BODY_CHUNKED };

	check(&head, "0\r\n\r\n", "", 0);
	check(&head, "5\r\nhello\r\n00A\r\n0123456789\r\n0\r\n\r\nGET", "hello0123456789", 3);
}

static void test_refused(void)
{
	static const char *const bad[] = { "\r\n",	"x",	     " 1\r\n",	  "1 \r\n",
					   "1;a=b\r\n", "1\n",	     "000000001", "1\r\nab",
					   "1\r\na\n",	"1\r\na\rb", "0\r\nA: b", "0\r\n\n",
					   "-1",	"0x1",	     "1\rx" };
	HvpHead head = { .body = HVP_BODY_CHUNKED };

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
		check_refused(&head, bad[i], HVP_PROBLEM_INVALID_ARGUMENT);
}

static void test_too_large(void)
{
	HvpHead head = { .body = HVP_BODY_CHUNKED };

	check(&head, "14\r\n01234567890123456789\r\n0\r\n\r\n", "01234567890123456789", 0);
	check_refused(&head, "15\r\n012345678901234567890", HVP_PROBLEM_TOO_LARGE);
	check_refused(&head, "a\r\n0123456789\r\nb\r\n01234567890", HVP_PROBLEM_TOO_LARGE);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/apid/body/length-TAKEN", test_length);
	g_test_add_func("/apid/body/chunks-TAKEN", test_chunks);
	g_test_add_func("/apid/body/bad-chunks-INVALID", test_refused);
	g_test_add_func("/apid/body/past-the-maximum-TOO-LARGE", test_too_large);
	return g_test_run();
}
