/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "worker/questions.h"

static bool is_allowed(const char *execute, const char *arguments)
{
	g_autoptr(JsonNode) node = arguments ? json_from_string(arguments, NULL) : NULL;

	return hvp_questions_are_allowed(execute, node ? json_node_get_object(node) : NULL);
}

static bool is_line_allowed(const char *line)
{
	g_autoptr(JsonObject) arguments = json_object_new();

	json_object_set_string_member(arguments, "command-line", line);
	return hvp_questions_are_allowed("human-monitor-command", arguments);
}

static void test_queries(void)
{
	g_assert_true(is_allowed("query-status", NULL));
	g_assert_true(is_allowed("query-cpus-fast", "{}"));
	g_assert_false(is_allowed("query-status", "{\"x\":1}"));
	g_assert_false(is_allowed("query-block", NULL));
	g_assert_false(is_allowed("query-", NULL));
	g_assert_false(is_allowed("", NULL));
	g_assert_false(is_allowed("quit", NULL));
	g_assert_false(is_allowed("migrate", "{\"uri\":\"exec:true\"}"));
}

static void test_lines(void)
{
	static const char *const refused[] = {
		"",
		"stop",
		"info mtree",
		" info mtree -f",
		"info mtree -f ",
		"info mtree -f\nstop",
		"info registers -a; stop",
		"gpa2hva 0x",
		"gpa2hva 0xg",
		"gpa2hva 0x0\nquit",
		"gpa2hva 0x00000000000000000",
		"gdbserver none",
	};

	g_assert_true(is_line_allowed("info mtree -f"));
	g_assert_true(is_line_allowed("info registers -a"));
	g_assert_true(is_line_allowed("gpa2hva 0x0"));
	g_assert_true(is_line_allowed("gpa2hva 0xffffffffffffffff"));
	for (guint i = 0; i < G_N_ELEMENTS(refused); i++)
		g_assert_false(is_line_allowed(refused[i]));
}

static void test_human_arguments(void)
{
	g_assert_false(is_allowed("human-monitor-command", NULL));
	g_assert_false(is_allowed("human-monitor-command", "{}"));
	g_assert_false(is_allowed("human-monitor-command", "{\"command-line\":1}"));
	g_assert_false(is_allowed("human-monitor-command",
				  "{\"command-line\":\"info mtree -f\",\"cpu-index\":0}"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/questions/queries-of-the-list-ONLY", test_queries);
	g_test_add_func("/questions/lines-of-the-list-ONLY", test_lines);
	g_test_add_func("/questions/other-arguments-REFUSED", test_human_arguments);
	return g_test_run();
}
