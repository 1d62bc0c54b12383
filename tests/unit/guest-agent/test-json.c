/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "json.h"

#include <glib.h>
#include <string.h>

static AgentJson json;

static void assert_good(const char *text, guint count)
{
	g_assert_cmpstr(agent_json_parse(&json, text, strlen(text)), ==, NULL);
	g_assert_cmpuint(json.count, ==, count);
	g_assert_cmpuint(json.values[0].next, ==, count);
}

static void assert_bad(const char *text, const char *words)
{
	const char *reason = agent_json_parse(&json, text, strlen(text));

	if (reason == NULL || strstr(reason, words) == NULL)
		g_error("%s: %s, expected %s", text, reason ? reason : "good", words);
}

static void test_accepts(void)
{
	assert_good("{}", 1);
	assert_good(" [ ] \r\n", 1);
	assert_good("{\"a\":{\"b\":[1,2,{}]},\"c\":null}", 10);
	assert_good("[true,false,null,\"\"]", 5);
	assert_good("0", 1);
	assert_good("[-0,10,1.5,1e9,1E+9,-1.25e-3]", 7);
	assert_good("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"", 1);
	assert_good("\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x7f\"", 1);
}

static void test_refuses_structure(void)
{
	static const char *const texts[] = {
		"", " ", "{", "[", "[1", "[1,", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,",
	};

	for (gsize i = 0; i < G_N_ELEMENTS(texts); i++)
		assert_bad(texts[i], "too early");
	assert_bad("}", "no JSON");
	assert_bad("]", "no JSON");
	assert_bad("{]", "no name");
	assert_bad("[}", "no JSON");
	assert_bad("[1}", "no end");
	assert_bad("{\"a\":1]", "no end");
	assert_bad("[1,]", "no JSON");
	assert_bad("[,1]", "no JSON");
	assert_bad("[1 2]", "no comma");
	assert_bad("{\"a\":1,}", "no name");
	assert_bad("{\"a\" 1}", "no colon");
	assert_bad("{\"a\":}", "no JSON");
	assert_bad("{1:2}", "no name");
	assert_bad("{a:2}", "no name");
	assert_bad("{} {}", "more than one");
	assert_bad("1 1", "more than one");
	assert_bad("// no\n1", "no JSON");
	assert_bad("'a'", "no JSON");
	assert_bad("NaN", "no JSON");
	assert_bad("tru", "no JSON");
	assert_bad("truex", "more than one");
	assert_bad("[1\f]", "no comma");
}

static void test_refuses_scalars(void)
{
	assert_bad("01", "more than one");
	assert_bad("-", "number");
	assert_bad("+1", "no JSON");
	assert_bad(".5", "no JSON");
	assert_bad("1.", "number");
	assert_bad("1e", "number");
	assert_bad("1e+", "number");
	assert_bad("--1", "number");
	assert_bad("0x10", "more than one");
	assert_bad("\"", "without an end");
	assert_bad("\"a", "without an end");
	assert_bad("\"\\", "escape");
	assert_bad("\"\\\"", "without an end");
	assert_bad("\"\\x\"", "escape");
	assert_bad("\"\\u12g4\"", "escape");
	assert_bad("\"\\u12", "escape");
	assert_bad("\"\\ud83d\"", "escape");
	assert_bad("\"\\ude00\"", "escape");
	assert_bad("\"\\ud83d\\u0041\"", "escape");
	assert_bad("\"\\ud83d\\ude0\"", "escape");
	assert_bad("\"a\tb\"", "control");
	g_assert_nonnull(agent_json_parse(&json, "\"a\0b\"", 5));
	g_assert_nonnull(agent_json_parse(&json, "1\0", 2));
	g_assert_nonnull(agent_json_parse(&json, "\"\\\0\"", 4));
}

static void test_refuses_bad_utf8(void)
{
	static const char *const texts[] = {
		"\"\x80\"",
		"\"\xc3\"",
		"\"\xc0\xaf\"",
		"\"\xc1\xbf\"",
		"\"\xe0\x9f\xbf\"",
		"\"\xed\xa0\x80\"",
		"\"\xf0\x8f\xbf\xbf\"",
		"\"\xf4\x90\x80\x80\"",
		"\"\xf5\x80\x80\x80\"",
		"\"\xe2\x82\"",
		"\"\xe2",
		"\"\xff\"",
	};

	for (gsize i = 0; i < G_N_ELEMENTS(texts); i++)
		assert_bad(texts[i], "UTF-8");
}

static char *nested(guint depth)
{
	GString *text = g_string_new(NULL);

	for (guint i = 0; i < depth; i++)
		g_string_append(text, i % 2 ? "{\"a\":" : "[");
	g_string_append(text, "1");
	for (guint i = depth; i > 0; i--)
		g_string_append(text, i % 2 ? "]" : "}");
	return g_string_free(text, FALSE);
}

static void test_bounds(void)
{
	g_autofree char *deep = nested(AGENT_JSON_MAX_DEPTH);
	g_autofree char *deeper = nested(AGENT_JSON_MAX_DEPTH + 1);
	g_autofree char *abyss = g_strnfill(60000, '[');
	GString *many = g_string_new("[0");

	g_assert_cmpstr(agent_json_parse(&json, deep, strlen(deep)), ==, NULL);
	assert_bad(deeper, "too deep");
	assert_bad(abyss, "too deep");
	for (guint i = 2; i < AGENT_JSON_MAX_VALUES; i++)
		g_string_append(many, ",0");
	g_string_append(many, "]");
	assert_good(many->str, AGENT_JSON_MAX_VALUES);
	g_string_insert(many, 1, "0,");
	assert_bad(many->str, "too many");
	g_string_free(many, TRUE);
}

static void test_members(void)
{
	static const char *const names[] = { "one", "two" };
	guint32 found[2];

	assert_good("{\"two\":[1,{\"one\":3}],\"o\\u006ee\":2}", 9);
	g_assert_cmpstr(agent_json_members(&json, 0, names, 2, found), ==, NULL);
	g_assert_cmpuint(found[0], ==, 8);
	g_assert_cmpuint(found[1], ==, 2);
	assert_good("{\"one\":1}", 3);
	g_assert_cmpstr(agent_json_members(&json, 0, names, 2, found), ==, NULL);
	g_assert_cmpuint(found[1], ==, 0);
	assert_good("{\"one\":1,\"one\":1}", 5);
	g_assert_nonnull(strstr(agent_json_members(&json, 0, names, 2, found), "twice"));
	assert_good("{\"three\":1}", 3);
	g_assert_nonnull(strstr(agent_json_members(&json, 0, names, 2, found), "unknown"));
	assert_good("{\"one\\u0000\":1}", 3);
	g_assert_nonnull(strstr(agent_json_members(&json, 0, names, 2, found), "unknown"));
	assert_good("[]", 1);
	g_assert_nonnull(strstr(agent_json_members(&json, 0, names, 2, found), "no object"));
}

static void assert_integer(const char *text, gint64 expected)
{
	gint64 value = 0;

	assert_good(text, 1);
	g_assert_true(agent_json_get_integer(&json, 0, &value));
	g_assert_cmpint(value, ==, expected);
}

static void test_integers(void)
{
	static const char *const bad[] = { "1.0",
					   "1e3",
					   "9223372036854775808",
					   "-9223372036854775809",
					   "99999999999999999999999",
					   "\"1\"",
					   "true" };
	gint64 value = 7;

	assert_integer("0", 0);
	assert_integer("-0", 0);
	assert_integer("9223372036854775807", G_MAXINT64);
	assert_integer("-9223372036854775808", G_MININT64);
	for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
		assert_good(bad[i], 1);
		g_assert_false(agent_json_get_integer(&json, 0, &value));
	}
	g_assert_cmpint(value, ==, 7);
}

static void test_strings(void)
{
	char text[16];
	bool truth = false;

	assert_good("\"a\\n\\u00e9\\u20ac\\ud83d\\ude00\xc3\xa9\"", 1);
	g_assert_true(agent_json_get_string(&json, 0, text, sizeof text));
	g_assert_cmpstr(text, ==, "a\n\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xc3\xa9");
	/* 13 bytes and the NUL. */
	g_assert_true(agent_json_get_string(&json, 0, text, 14));
	g_assert_false(agent_json_get_string(&json, 0, text, 13));
	assert_good("\"\"", 1);
	g_assert_true(agent_json_get_string(&json, 0, text, 1));
	g_assert_false(agent_json_get_boolean(&json, 0, &truth));
	assert_good("\"a\\u0000b\"", 1);
	g_assert_false(agent_json_get_string(&json, 0, text, sizeof text));
	assert_good("12", 1);
	g_assert_false(agent_json_get_string(&json, 0, text, sizeof text));
	assert_good("true", 1);
	g_assert_true(agent_json_get_boolean(&json, 0, &truth) && truth);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/json/accepts", test_accepts);
	g_test_add_func("/json/structure-REFUSED", test_refuses_structure);
	g_test_add_func("/json/scalars-REFUSED", test_refuses_scalars);
	g_test_add_func("/json/bad-utf8-REFUSED", test_refuses_bad_utf8);
	g_test_add_func("/json/bounds", test_bounds);
	g_test_add_func("/json/members", test_members);
	g_test_add_func("/json/integers", test_integers);
	g_test_add_func("/json/strings", test_strings);
	return g_test_run();
}
