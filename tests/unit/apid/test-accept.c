/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/accept.h"

static const char *const types[] = { "application/x-ndjson", "text/event-stream", NULL };

static void test_chosen(void)
{
	static const struct {
		const char *accept, *chosen;
	} cases[] = {
		{ NULL, "application/x-ndjson" },
		{ "*/*", "application/x-ndjson" },
		{ "text/*", "text/event-stream" },
		{ "TEXT/Event-Stream", "text/event-stream" },
		{ "*/*;q=0.1, text/event-stream;q=0.2", "text/event-stream" },
		{ "application/x-ndjson;q=0, */*", "text/event-stream" },
		{ "application/x-ndjson ; q=0.5,text/event-stream; q=0.4", "application/x-ndjson" },
		{ "text/event-stream;q=x", NULL },
		{ "text/event-stream;q=nan", NULL },
		{ "application/x-ndjsonx", NULL },
		{ "text/", NULL },
		{ ",,;;,", NULL },
		{ "", NULL },
	};

	for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
		g_assert_cmpstr(hvp_accept_choose(cases[i].accept, types), ==, cases[i].chosen);
}

static void test_content_type(void)
{
	g_assert_true(hvp_accept_is_type("application/json", "application/json"));
	g_assert_true(hvp_accept_is_type("Application/JSON ;charset=utf-8", "application/json"));
	g_assert_true(
		hvp_accept_is_type("application/json; charset=\"UTF-8\"", "application/json"));
	g_assert_false(hvp_accept_is_type("application/json; charset=latin1", "application/json"));
	g_assert_false(hvp_accept_is_type("application/jsonp", "application/json"));
	g_assert_false(hvp_accept_is_type("", "application/json"));
	g_assert_false(hvp_accept_is_type(NULL, "application/json"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/apid/accept/most-wanted-CHOSEN", test_chosen);
	g_test_add_func("/apid/accept/content-type-COMPARED", test_content_type);
	return g_test_run();
}
