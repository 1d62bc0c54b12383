/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "worker/job.h"

#include <string.h>

#define DOMAIN "\"domain\":{\"uuid\":\"0b2a3ea4-3f0c-4f7e-8b8e-6f6b3f7a1c11\",\"name\":\"web\"}"

static HvpJob *read_job(const char *text, GError **error)
{
	g_autoptr(JsonNode) node = json_from_string(text, NULL);

	g_assert_nonnull(node);
	return hvp_job_new(node, error);
}

static void assert_refused(const char *text, const char *named)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpJob) job = read_job(text, &error);

	g_assert_null(job);
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_assert_nonnull(strstr(error->message, named));
}

static void test_defaults(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpJob) job = read_job("{\"verb\":\"apply\"," DOMAIN ",\"id\":\"x\"}", &error);

	g_assert_no_error(error);
	g_assert_cmpint(job->verb, ==, HVP_JOB_APPLY);
	g_assert_cmpint(job->options.timeout_usec, ==, HVP_DEFAULT_TIMEOUT_USEC);
	g_assert_cmpint(job->options.max_pause_usec, ==, HVP_DEFAULT_MAX_PAUSE_USEC);
	g_assert_false(job->options.no_prod);
	g_assert_cmpint(job->options.replace, ==, HVP_REPLACE_AS_PATCH_SAYS);
	g_assert_nonnull(job->options.manifest);
	g_assert_cmpstr(job->name, ==, "web");
	g_assert_true(hvp_job_is_changing(job));
	g_assert_true(hvp_job_takes_patch(job));
}

static void test_options(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpJob) job = read_job(
		"{\"verb\":\"replace\"," DOMAIN ",\"options\":{\"timeout\":2.5,\"max_pause\":3,"
		"\"prod\":false,\"replace\":null,\"accept\":[],\"kthreads\":\"parked=hvp*\","
		"\"trap\":\"spin\",\"backend\":\"gdbstub\"}}",
		&error);

	g_assert_no_error(error);
	g_assert_cmpint(job->options.timeout_usec, ==, 2500000);
	g_assert_cmpint(job->options.max_pause_usec, ==, 3000);
	g_assert_true(job->options.no_prod);
	g_assert_cmpint(job->options.replace, ==, HVP_REPLACE_YES);
	g_assert_cmpint(job->manifest->kthreads, ==, HVP_KTHREADS_PARKED);
	g_assert_cmpint(job->trap_kind, ==, HVP_KEEPER_SPINS);
	g_assert_cmpint(job->backend, ==, HVP_TARGET_BACKEND_GDBSTUB);
}

static void test_refused(void)
{
	assert_refused("{}", "verb");
	assert_refused("{\"verb\":\"apply\"}", "domain");
	assert_refused("{\"verb\":\"apply\",\"domain\":{\"qmp\":\"x\",\"uuid\":\"y\"}}", "domain");
	assert_refused("{\"verb\":\"revert\"," DOMAIN "}", "name");
	assert_refused("{\"verb\":\"apply\"," DOMAIN ",\"options\":{\"x\":1}}", "options");
	assert_refused("{\"verb\":\"apply\"," DOMAIN ",\"options\":{\"timeout\":1e300}}",
		       "timeout");
	assert_refused("{\"verb\":\"apply\"," DOMAIN ",\"patch\":\"ABC\"}", "patch");
	assert_refused("{\"verb\":\"replace\"," DOMAIN ",\"options\":{\"replace\":false}}",
		       "replace");
}

static void test_inspect(void)
{
	g_autoptr(JsonNode) node = json_from_string("{\"verb\":\"inspect\"}", NULL);
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpJob) job = hvp_job_new(node, &error);

	g_assert_no_error(error);
	g_assert_true(hvp_job_takes_patch(job));
	g_assert_false(hvp_job_is_changing(job));
	g_assert_null(job->uuid);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/job/what-is-missing-DEFAULT", test_defaults);
	g_test_add_func("/job/options-TAKEN", test_options);
	g_test_add_func("/job/nonsense-REFUSED", test_refused);
	g_test_add_func("/job/inspect-NEEDS-NO-DOMAIN", test_inspect);
	return g_test_run();
}
