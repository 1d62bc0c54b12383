/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "line.h"

#include <glib.h>
#include <string.h>

static AgentLine line;

/* Gives @bytes in pieces; returns what came out: lines, each ended by "|", and "!" for too long. */
static char *cut(const char *bytes, gsize size_bytes, gsize piece_bytes)
{
	GString *out = g_string_new(NULL);

	for (gsize at = 0; at < size_bytes;) {
		gsize taken;

		switch (agent_line_take(&line, bytes + at, MIN(piece_bytes, size_bytes - at),
					&taken)) {
		case AGENT_LINE_WHOLE:
			g_string_append_len(out, line.bytes, (gssize)line.used_bytes);
			g_string_append_c(out, '|');
			break;
		case AGENT_LINE_TOO_LONG:
			g_string_append_c(out, '!');
			break;
		case AGENT_LINE_UNFINISHED:
			break;
		}
		g_assert_cmpuint(taken, >, 0);
		at += taken;
	}
	return g_string_free(out, FALSE);
}

static void assert_cut(const char *bytes, const char *expected)
{
	for (gsize piece_bytes = 1; piece_bytes <= strlen(bytes); piece_bytes++) {
		g_autofree char *out = NULL;

		agent_line_reset(&line);
		out = cut(bytes, strlen(bytes), piece_bytes);
		g_assert_cmpstr(out, ==, expected);
	}
}

static void test_lines(void)
{
	assert_cut("one\ntwo\n\nthr", "one|two||");
	assert_cut("\n", "|");
}

static void test_reset(void)
{
	assert_cut("half\xfftwo\n", "two|");
	assert_cut("one\n\xfftwo\n", "one|two|");
	assert_cut("\xff\xff\xff\xff\n", "|");
	assert_cut("one\xff", "");
}

static void test_storm(void)
{
	g_autofree char *storm = g_strnfill(1 << 20, '\xff');
	g_autofree char *out = NULL;

	agent_line_reset(&line);
	out = cut(storm, 1 << 20, 4096);
	g_assert_cmpstr(out, ==, "");
	g_assert_cmpuint(line.used_bytes, ==, 0);
}

/* @behind the longest line that is not too long. */
static char *cut_long(gsize size_bytes, const char *behind)
{
	g_autofree char *fill = g_strnfill(size_bytes, 'x');
	g_autofree char *bytes = g_strconcat(fill, behind, NULL);

	agent_line_reset(&line);
	return cut(bytes, strlen(bytes), 1000);
}

static void test_too_long(void)
{
	g_autofree char *longest = cut_long(AGENT_LINE_MAX_BYTES, "\n");
	g_autofree char *longer = cut_long(AGENT_LINE_MAX_BYTES + 1, "\ntwo\n");
	g_autofree char *endless = cut_long(10 * AGENT_LINE_MAX_BYTES, "\ntwo\n");
	g_autofree char *resets = cut_long(3 * AGENT_LINE_MAX_BYTES, "\xfftwo\n");

	g_assert_cmpuint(strlen(longest), ==, AGENT_LINE_MAX_BYTES + 1);
	g_assert_cmpstr(longer, ==, "!two|");
	g_assert_cmpstr(endless, ==, "!two|");
	g_assert_cmpstr(resets, ==, "!two|");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/line/lines", test_lines);
	g_test_add_func("/line/reset", test_reset);
	g_test_add_func("/line/storm", test_storm);
	g_test_add_func("/line/too-long", test_too_long);
	return g_test_run();
}
