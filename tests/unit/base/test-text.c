/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "base/text.h"

static void assert_escaped(const char *bytes, gsize length_bytes, gsize max_bytes,
			   const char *expected)
{
	g_autofree char *text = hvp_text_escape(bytes, length_bytes, max_bytes);

	g_assert_cmpstr(text, ==, expected);
	g_assert_cmpuint(strlen(text), <=, max_bytes);
}

static void test_printable(void)
{
	char all[0x7f - 0x20 + 1] = { 0 };

	for (int i = 0; i < 0x7f - 0x20; i++)
		all[i] = (char)(0x20 + i);
	assert_escaped(all, HVP_TEXT_TERMINATED, 200, all);
	assert_escaped("", HVP_TEXT_TERMINATED, 200, "");
	assert_escaped(NULL, 0, 200, "");
}

static void test_every_other_byte(void)
{
	for (int i = 1; i < 256; i++) {
		char input[2] = { (char)i, '\0' };
		g_autofree char *expected = g_strdup_printf("\\x%02x", i);

		if (i < 0x20 || i > 0x7e)
			assert_escaped(input, HVP_TEXT_TERMINATED, 200, expected);
	}
}

static void test_counted(void)
{
	assert_escaped("a\0b", 3, 200, "a\\x00b");
	assert_escaped("a\0b", HVP_TEXT_TERMINATED, 200, "a");
	assert_escaped("abc", 2, 200, "ab");
}

static void test_cut(void)
{
	assert_escaped("abcdef", HVP_TEXT_TERMINATED, 6, "abcdef");
	assert_escaped("abcdefg", HVP_TEXT_TERMINATED, 6, "abc...");
	assert_escaped("abcdefg", 7, 3, "...");
	/* Never in the middle of an escape. */
	assert_escaped("a\xff\xff", HVP_TEXT_TERMINATED, 9, "a\\xff\\xff");
	assert_escaped("a\xff\xff", HVP_TEXT_TERMINATED, 8, "a\\xff...");
	assert_escaped("a\xff\xff", HVP_TEXT_TERMINATED, 7, "a...");
	assert_escaped("\xff", HVP_TEXT_TERMINATED, 3, "...");
}

/* A text without an end is read no further than it is shown. */
static void test_unterminated(void)
{
	g_autofree char *exact = g_malloc(11);

	memset(exact, 'x', 11);
	assert_escaped(exact, HVP_TEXT_TERMINATED, 10, "xxxxxxx...");
}

static void test_is_name(void)
{
	g_assert_true(hvp_text_is_name("a", 1));
	g_assert_true(hvp_text_is_name("__x64_sys.isra.0", 511));
	g_assert_false(hvp_text_is_name("", 511));
	g_assert_false(hvp_text_is_name("ab", 1));
	g_assert_false(hvp_text_is_name("a b", 511));
	g_assert_false(hvp_text_is_name("a\n", 511));
	g_assert_false(hvp_text_is_name("a\x7f", 511));
	g_assert_false(hvp_text_is_name("\xc3\xa4", 511));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/text/printable-KEPT", test_printable);
	g_test_add_func("/text/every-other-byte-ESCAPED", test_every_other_byte);
	g_test_add_func("/text/counted-NUL-ESCAPED", test_counted);
	g_test_add_func("/text/too-long-CUT", test_cut);
	g_test_add_func("/text/unterminated-BOUNDED", test_unterminated);
	g_test_add_func("/text/names", test_is_name);
	return g_test_run();
}
