/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/report.h"

#include <string.h>

#define OLD hvp_gva(0xffffffff81000000ULL)
#define NEW hvp_gva(0xffffffffc0000000ULL)

static const HvpPatch two_functions = {
	.name = "fix", .sha256 = "", .objects_known = true, .function_count = 2
};

static HvpCheck *make_check(void)
{
	HvpCheck *check = g_new0(HvpCheck, 1);

	check->applicable = true;
	check->items = g_array_new(FALSE, TRUE, sizeof(HvpCheckItem));
	check->functions = g_array_new(FALSE, TRUE, sizeof(HvpCheckFunction));
	return check;
}

static HvpReportRound *add_good_round(HvpReport *report, guint switched)
{
	HvpReportRound *round = hvp_report_add_round(report);

	round->apply = hvp_result_new();
	round->apply->kind = HVP_RESULT_APPLIED;
	for (guint i = 0; i < switched; i++)
		hvp_result_add_function(round->apply, "vmlinux", "function", OLD, NEW, OLD);
	round->revert = hvp_result_new();
	round->revert->kind = HVP_RESULT_REVERTED;
	round->status = round->status_after = 0;
	return round;
}

/* All went well in one round, in which @switched functions were switched. */
static HvpReport *make_good(const HvpPatch *patch, guint switched)
{
	HvpReport *report = hvp_report_new(patch, 1);

	report->check = make_check();
	report->status_before = 0;
	add_good_round(report, switched);
	return report;
}

/* Judges and frees @report, which has to fail for @reason. */
static void assert_fails(HvpReport *report, const char *reason)
{
	bool named = false;

	hvp_report_judge(report);
	g_assert_false(report->passed);
	g_assert_cmpint(hvp_report_exit_status(report), ==, HVP_REPORT_EXIT_FAILED);
	for (guint i = 0; i < report->reasons->len; i++)
		named = named || strstr(g_ptr_array_index(report->reasons, i), reason) != NULL;
	g_assert_true(named);
	hvp_report_free(report);
}

static HvpReportRound *first_round(HvpReport *report)
{
	return g_ptr_array_index(report->rounds, 0);
}

static void test_pass(void)
{
	g_autoptr(HvpReport) report = make_good(&two_functions, 2);

	hvp_report_judge(report);
	g_assert_true(report->passed);
	g_assert_cmpuint(report->notes->len, ==, 0);
	g_assert_cmpint(hvp_report_exit_status(report), ==, 0);
}

static void test_nothing_switched(void)
{
	HvpPatch unknown = { .name = "fix", .sha256 = "" };
	HvpPatch callbacks = { .name = "fix", .sha256 = "", .objects_known = true };
	g_autoptr(HvpReport) report = make_good(&callbacks, 0);

	assert_fails(make_good(&two_functions, 0), "--module");
	assert_fails(make_good(&unknown, 0), "--module");
	hvp_report_judge(report);
	g_assert_true(report->passed);
}

static void test_some_switched(void)
{
	g_autoptr(HvpReport) report = make_good(&two_functions, 2);

	/* The second round has a module less. */
	report->wanted_rounds = 2;
	add_good_round(report, 1);
	hvp_report_judge(report);
	g_assert_true(report->passed);
	g_assert_cmpuint(report->notes->len, ==, 1);
	g_assert_cmpstr(g_ptr_array_index(report->notes, 0), ==,
			"1 of 2 functions were not switched: their modules are not loaded");
}

typedef enum {
	NO_APPLY,
	APPLY_BUSY,
	NO_WORKLOAD,
	NO_REVERT,
	REVERT_BUSY,
	NO_WORKLOAD_AFTER,
	STEPS,
} Step;

static void undo(HvpReportRound *round, Step step)
{
	if (step == NO_APPLY)
		g_clear_pointer(&round->apply, hvp_result_free);
	else if (step == APPLY_BUSY)
		round->apply->kind = HVP_RESULT_BUSY;
	else if (step == NO_WORKLOAD)
		round->status = HVP_REPORT_NOT_RUN;
	else if (step == NO_REVERT)
		g_clear_pointer(&round->revert, hvp_result_free);
	else if (step == REVERT_BUSY)
		round->revert->kind = HVP_RESULT_BUSY;
	else
		round->status_after = HVP_REPORT_NOT_RUN;
}

/* Without an error that says why, too. */
static void test_unfinished(void)
{
	HvpReport *report;

	for (guint step = 0; step < STEPS; step++) {
		report = make_good(&two_functions, 2);
		undo(first_round(report), (Step)step);
		assert_fails(report, "round 1 was not finished");
	}
	report = make_good(&two_functions, 2);
	g_clear_pointer(&report->check, hvp_check_free);
	assert_fails(report, "not checked");
	report = make_good(&two_functions, 2);
	report->status_before = HVP_REPORT_NOT_RUN;
	assert_fails(report, "without the patch");
	report = make_good(&two_functions, 2);
	report->wanted_rounds = 2;
	assert_fails(report, "only 1 of 2 rounds");
	assert_fails(hvp_report_new(&two_functions, 1), "not checked");
}

static void test_missing_messages(void)
{
	HvpReport *report = make_good(&two_functions, 2);

	report->is_unsettled = true;
	assert_fails(report, "messages may be missing");
	report = make_good(&two_functions, 2);
	report->is_console_full = true;
	assert_fails(report, "messages may be missing");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/report/all-went-well-PASS", test_pass);
	g_test_add_func("/report/nothing-switched-FAIL", test_nothing_switched);
	g_test_add_func("/report/some-switched-NOTED", test_some_switched);
	g_test_add_func("/report/a-step-is-missing-FAIL", test_unfinished);
	g_test_add_func("/report/messages-may-be-missing-FAIL", test_missing_messages);
	return g_test_run();
}
