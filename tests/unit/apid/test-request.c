/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/request.h"

#include <string.h>

#include "apid/problem.h"

#define DIGEST "3a7bd3e2360a3d29eea436fcfb7e44c735d117c42d1c1835420b6b9942dd4f1b"
#define CHECK "\"verb\":\"check\",\"patch\":\"" DIGEST "\""

static char *normalize(const char *text)
{
	g_autoptr(GBytes) bytes = g_bytes_new_static(text, strlen(text));
	g_autoptr(GError) error = NULL;
	char *result = hvp_request_normalize(bytes, &error);

	if (result == NULL)
		g_assert_error(error, HVP_PROBLEM, HVP_PROBLEM_INVALID_ARGUMENT);
	return result;
}

static void test_taken(void)
{
	static const char *const good[] = {
		"{" CHECK "}",
		"{\"version\":1,\"verb\":\"revert\",\"name\":\"a-b_c.d\"}",
		"{\"verb\":\"recover\",\"options\":{}}",
		"{" CHECK ",\"options\":{\"timeout\":0,\"max_pause\":0.01,\"prod\":false,"
		"\"replace\":null,\"accept\":[],\"kthreads\":null}}",
	};

	for (guint i = 0; i < G_N_ELEMENTS(good); i++) {
		g_autofree char *text = normalize(good[i]);

		g_assert_cmpstr(text, ==, good[i]);
	}
}

static void test_refused(void)
{
	static const char *const bad[] = {
		"[]",
		"{}",
		"{\"verb\":\"apply\"}",
		"{\"verb\":null}",
		"{" CHECK ",\"extra\":1}",
		"{" CHECK ",\"options\":null}",
		"{" CHECK ",\"options\":{\"timeout\":1e999}}",
		"{" CHECK ",\"options\":{\"timeout\":99999999999999999999}}",
		"{" CHECK ",\"options\":{\"max_pause\":0.001}}",
		"{" CHECK ",\"options\":{\"accept\":[\"a\",\"a\"]}}",
		"{" CHECK ",\"options\":{\"accept\":[\"-a\"]}}",
		"{" CHECK ",\"options\":{\"kthreads\":\"\"}}",
	};

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_null(normalize(bad[i]));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/apid/request/valid-TAKEN", test_taken);
	g_test_add_func("/apid/request/invalid-REFUSED", test_refused);
	return g_test_run();
}
