/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/json-scan.h"

#include <string.h>

#include "apid/problem.h"

static bool scan(const char *text)
{
	g_autoptr(GError) error = NULL;
	/* Without anything behind it, so that ASan sees a read past the end. */
	g_autofree char *copy = g_memdup2(text, strlen(text));
	bool ok = hvp_json_scan_check(copy, strlen(text), 4, 10, &error);

	g_assert_true(ok == (error == NULL));
	if (!ok)
		g_assert_error(error, HVP_PROBLEM, HVP_PROBLEM_INVALID_ARGUMENT);
	return ok;
}

static void test_taken(void)
{
	static const char *const good[] = {
		"0",
		"-0.5e+10",
		"\"\"",
		" [ ] ",
		"{}",
		"true",
		"[[[[]]]]",
		"[1,2,3,4,5,6,7,8,9]",
		"{\"a\":{\"a\":1},\"b\":[{\"a\":null}]}",
		"\"\\u00e4\\ud83d\\ude00\\n\\/\"",
		"\t\r\n{\"\":\"\"}\n",
	};

	for (guint i = 0; i < G_N_ELEMENTS(good); i++)
		g_assert_true(scan(good[i]));
}

static void test_refused(void)
{
	static const char *const bad[] = {
		"",
		" ",
		"01",
		"1.",
		".5",
		"+1",
		"1e",
		"-",
		"nul",
		"True",
		"'a'",
		"[1,]",
		"[,1]",
		"[1 2]",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{a:1}",
		"{\"a\":1 \"b\":2}",
		"[}",
		"{]",
		"]",
		"[",
		"{\"a\":1,\"a\":2}",
		"{\"b\":{\"a\":1,\"c\":[],\"a\":1}}",
		"{\"\\u0061\":1}",
		"\"\\x\"",
		"\"\\u12g4\"",
		"\"\\u0000\"",
		"\"\\ud800\"",
		"\"\\ud800\\u0041\"",
		"\"\\udc00\"",
		"\"a",
		"\"\n\"",
		"\"\\",
		"\"\\u00",
		"[[[[[]]]]]",
		"[1,2,3,4,5,6,7,8,9,10]",
		"1 2",
		"/**/1",
		"1//",
		("\xef\xbb\xbf"
		 "1"),
		"\"\xff\"",
		"NaN",
		"Infinity",
		"1111111111111111111111111111111111111111",
	};

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_false(scan(bad[i]));
	g_assert_false(hvp_json_scan_check("\0", 1, 4, 10, NULL));
	g_assert_false(hvp_json_scan_check("1\0", 2, 4, 10, NULL));
}

/* Each prefix of a document, and each with one byte another: an answer, and no crash. */
static void test_broken(void)
{
	static const char whole[] = "{\"a\":[1.5e-3,\"\\ud83d\\ude00\",{\"b\":null}],\"c\":true}";
	char text[sizeof whole];

	for (gsize i = 0; i < sizeof whole - 1; i++) {
		for (guint byte = 1; byte < 256; byte++) {
			memcpy(text, whole, sizeof whole);
			text[i] = (char)byte;
			scan(text);
		}
		memcpy(text, whole, sizeof whole);
		text[i] = '\0';
		g_assert_false(scan(text));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/apid/json-scan/strict-TAKEN", test_taken);
	g_test_add_func("/apid/json-scan/all-else-REFUSED", test_refused);
	g_test_add_func("/apid/json-scan/broken-NO-CRASH", test_broken);
	return g_test_run();
}
