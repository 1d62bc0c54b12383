/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/html.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EVIL "<script>&\"'\x1b[31m\n\xff"
#define HERE 0xffffffffc0000000ULL

static void add_evil_function(HvpReport *report)
{
	/* test edi, edi; je +1; ret; ret; int3 */
	static const guint8 code[] = { 0x85, 0xff, 0x74, 0x01, 0xc3, 0xc3, 0xcc };
	HvpReportFunction *function = hvp_report_function(report, EVIL, EVIL,
							  hvp_gva(0xffffffff81000000ULL));
	HvpReportPart part = { g_strdup(EVIL),
			       { hvp_gva(HERE), hvp_gva(HERE + sizeof code) },
			       hvp_gva(HERE) };

	function->new_address = hvp_gva(HERE);
	function->blocks = hvp_blocks_new();
	g_array_append_val(function->parts, part);
	g_assert_true(hvp_blocks_add(function->blocks, code, sizeof code, hvp_gva(HERE), NULL));
	hvp_blocks_divide(function->blocks);
	function->annotations = g_ptr_array_new_with_free_func(g_free);
	for (guint i = 0; i < function->blocks->instructions->len; i++)
		g_ptr_array_add(function->annotations, g_strdup(EVIL));
	g_assert_true(hvp_blocks_count(function->blocks, hvp_gva(HERE), 1234567));
}

static void add_evil_round(HvpReport *report)
{
	HvpReportRound *round = hvp_report_add_round(report);
	HvpBlocker *blocker = g_new0(HvpBlocker, 1);

	round->apply = hvp_result_new();
	round->apply->kind = HVP_RESULT_APPLIED;
	hvp_result_add_function(round->apply, EVIL, EVIL, hvp_gva(1), hvp_gva(HERE), hvp_gva(1));
	round->output = g_strdup(EVIL);
	round->status = 3;
	blocker->comm = g_strdup(EVIL);
	blocker->function = g_strdup(EVIL);
	blocker->stack = g_ptr_array_new_with_free_func(g_free);
	g_ptr_array_add(blocker->stack, g_strdup(EVIL));
	g_ptr_array_add(round->apply->met, blocker);
}

/* A report in which every text is hostile. */
static HvpReport *make_evil(void)
{
	static const char message[] = "<3>[    1.0] " EVIL "\n";
	HvpPatch patch = { .name = EVIL, .sha256 = EVIL };
	HvpReport *report = hvp_report_new(&patch, 2);
	HvpReportViolation *violation = g_new0(HvpReportViolation, 1);

	report->kernel = g_strdup(EVIL);
	report->qemu = g_strdup(EVIL);
	report->status_before = 0;
	hvp_error_set(&report->error, HVP_ERROR_BUSY, "%s", EVIL);
	violation->place = g_strdup(EVIL);
	g_ptr_array_add(report->violations, violation);
	hvp_messages_add(report->messages, message, strlen(message));
	add_evil_function(report);
	add_evil_round(report);
	hvp_report_judge(report);
	return report;
}

static void test_escaping(void)
{
	g_autoptr(HvpReport) report = make_evil();
	g_autofree char *page = hvp_html_make(report);

	g_assert_null(strstr(page, "<script"));
	g_assert_nonnull(strstr(page, "&lt;script&gt;&amp;&quot;&apos;\\x1b[31m"));
	for (const char *byte = page; *byte != 0; byte++)
		g_assert_true(*byte == '\n' || g_ascii_isprint(*byte));
	g_assert_nonnull(strstr(page, "default-src 'none'"));
}

static guint count(const char *page, const char *what)
{
	guint found = 0;

	for (; (page = strstr(page, what)) != NULL; page++)
		found++;
	return found;
}

static void test_coverage(void)
{
	g_autoptr(HvpReport) report = make_evil();
	g_autofree char *page = hvp_html_make(report);

	/* One block of two instructions ran, two of one did not. */
	g_assert_nonnull(strstr(page, "that ran: 1 of 3"));
	g_assert_cmpuint(count(page, "<tr class=\"ran"), ==, 2);
	g_assert_cmpuint(count(page, "<tr class=\"never first"), ==, 2);
	g_assert_cmpuint(count(page, "1234567"), ==, 1);
	g_assert_nonnull(strstr(page, "test edi, edi"));
}

static void test_verdict(void)
{
	g_autoptr(HvpReport) evil = make_evil();

	/* The error, a violation, the workload's status, the message. */
	g_assert_false(evil->passed);
	g_assert_cmpuint(evil->reasons->len, ==, 4);
	g_assert_cmpint(hvp_report_exit_status(evil), ==, 4);
	g_clear_error(&evil->error);
	g_assert_cmpint(hvp_report_exit_status(evil), ==, HVP_REPORT_EXIT_FAILED);
}

/* Where no violation is listed the page says no more than is known. */
static void test_no_violations(void)
{
	static const char none[] = "<p>No instruction ran that had been switched away.</p>";
	HvpPatch patch = { .name = "fix", .sha256 = "" };
	g_autoptr(HvpReport) report = hvp_report_new(&patch, 1);
	g_autofree char *nothing = hvp_html_make(report);
	g_autofree char *clean = NULL, *partly = NULL, *lost = NULL;

	g_assert_nonnull(strstr(nothing, "Nothing was switched"));
	add_evil_function(report);
	clean = hvp_html_make(report);
	g_assert_nonnull(strstr(clean, none));
	report->is_incomplete = true;
	partly = hvp_html_make(report);
	g_assert_nonnull(strstr(partly, "Not all of the code was watched"));
	report->violation_count = 1;
	lost = hvp_html_make(report);
	g_assert_nonnull(strstr(lost, "Code ran that had been switched away"));
	g_assert_null(strstr(nothing, none));
	g_assert_null(strstr(partly, none));
	g_assert_null(strstr(lost, none));
}

static void test_write(void)
{
	g_autoptr(HvpReport) report = make_evil();
	g_autofree char *folder = g_dir_make_tmp("hvpatch-html-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(folder, "report.html", NULL);
	g_autofree char *missing = g_build_filename(folder, "no", "report.html", NULL);
	g_autoptr(GError) error = NULL;
	g_autofree char *text = NULL;

	g_assert_true(hvp_html_write(report, path, NULL));
	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	g_assert_true(g_str_has_suffix(text, "</html>\n"));
	g_assert_false(hvp_html_write(report, missing, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
	g_assert_true(g_str_has_prefix(error->message, missing));
	/* What is there is replaced, and nothing else is left. */
	g_assert_true(hvp_html_write(report, path, NULL));
	g_assert_cmpint(unlink(path), ==, 0);
	g_assert_cmpint(rmdir(folder), ==, 0);
}

static void test_check(void)
{
	g_autofree char *folder = g_dir_make_tmp("hvpatch-html-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(folder, "report.html", NULL);
	g_autofree char *missing = g_build_filename(folder, "no", "report.html", NULL);
	g_autofree char *expected = g_strdup_printf("%s: No such file or directory", missing);
	g_autoptr(GError) nothing = NULL, device = NULL;

	g_assert_true(hvp_html_check(path, NULL));
	g_assert_false(hvp_html_check(missing, &nothing));
	g_assert_error(nothing, HVP_ERROR, HVP_ERROR_NOT_FOUND);
	g_assert_cmpstr(nothing->message, ==, expected);
	g_assert_false(hvp_html_check(folder, NULL));
	g_assert_false(hvp_html_check("/dev/null", &device));
	g_assert_error(device, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_assert_true(g_file_set_contents(path, "kept", -1, NULL));
	g_assert_true(hvp_html_check(path, NULL));
	g_assert_cmpint(unlink(path), ==, 0);
	g_assert_cmpint(rmdir(folder), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/html/hostile-text-ESCAPED", test_escaping);
	g_test_add_func("/html/coverage-IN-THE-CODE", test_coverage);
	g_test_add_func("/html/verdict-AND-EXIT-STATUS", test_verdict);
	g_test_add_func("/html/no-violations-NO-MORE-THAN-IS-KNOWN", test_no_violations);
	g_test_add_func("/html/file-WHOLE-OR-NOT-AT-ALL", test_write);
	g_test_add_func("/html/file-TRIED-BEFORE-and-not-left", test_check);
	return g_test_run();
}
