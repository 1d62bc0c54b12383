/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "writer.h"

#include <glib.h>
#include <string.h>

static char buffer[256];

static AgentWriter make_writer(gsize capacity_bytes)
{
	return (AgentWriter){ .bytes = buffer, .capacity_bytes = capacity_bytes };
}

static void assert_written(const AgentWriter *writer, const char *expected)
{
	g_autofree char *text = g_strndup(writer->bytes, writer->used_bytes);

	g_assert_cmpstr(text, ==, expected);
}

static void test_commas(void)
{
	AgentWriter writer = make_writer(sizeof buffer);

	agent_writer_bytes(&writer, "\xff", 1);
	agent_writer_open(&writer, '{');
	agent_writer_name(&writer, "a");
	agent_writer_open(&writer, '[');
	agent_writer_integer(&writer, G_MININT64);
	agent_writer_boolean(&writer, false);
	agent_writer_string(&writer, "[");
	agent_writer_open(&writer, '{');
	agent_writer_close(&writer, '}');
	agent_writer_json(&writer, "null", 4);
	agent_writer_close(&writer, ']');
	agent_writer_name(&writer, "b");
	agent_writer_string(&writer, ":");
	agent_writer_name(&writer, "c");
	agent_writer_open(&writer, '[');
	agent_writer_close(&writer, ']');
	agent_writer_close(&writer, '}');
	assert_written(&writer, "\xff{\"a\":[-9223372036854775808,false,\"[\",{},null],"
				"\"b\":\":\",\"c\":[]}");
	g_assert_false(writer.overflow);
}

static void test_strings(void)
{
	AgentWriter writer = make_writer(sizeof buffer);

	agent_writer_string(&writer, "a\"\\\n\x01\x7f\xc3\xa9\xff\xc3(\xed\xa0\x80");
	assert_written(&writer, "\"a\\\"\\\\\\u000a\\u0001\\u007f\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd("
				"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

static void test_full(void)
{
	AgentWriter writer = make_writer(10);
	AgentWriterMark mark;

	agent_writer_open(&writer, '[');
	agent_writer_integer(&writer, 1234);
	mark = agent_writer_mark(&writer);
	agent_writer_string(&writer, "no room");
	g_assert_true(writer.overflow);
	agent_writer_close(&writer, ']');
	g_assert_true(writer.overflow);
	g_assert_cmpuint(writer.used_bytes, <=, 10);
	agent_writer_go_back(&writer, mark);
	agent_writer_string(&writer, "a");
	agent_writer_close(&writer, ']');
	g_assert_false(writer.overflow);
	assert_written(&writer, "[1234,\"a\"]");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/writer/commas", test_commas);
	g_test_add_func("/writer/strings", test_strings);
	g_test_add_func("/writer/full", test_full);
	return g_test_run();
}
