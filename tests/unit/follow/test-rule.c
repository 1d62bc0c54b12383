/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "follow/rule.h"

static void test_events(void)
{
	static const struct {
		HvpDomainEvent event;
		const char *word;
		bool gone, look, apply, forget;
	} expected[] = {
		{ HVP_DOMAIN_EVENT_SEEN, NULL, false, true, false, false },
		{ HVP_DOMAIN_EVENT_STARTED, "started", true, true, true, false },
		{ HVP_DOMAIN_EVENT_REBOOTED, "rebooted", true, true, true, false },
		{ HVP_DOMAIN_EVENT_RESTORED, "restored", false, true, true, false },
		{ HVP_DOMAIN_EVENT_MIGRATED_IN, "migrated-in", false, true, true, false },
		{ HVP_DOMAIN_EVENT_REVERTED, "reverted", false, true, true, false },
		{ HVP_DOMAIN_EVENT_REWOUND, "reverted", false, true, true, false },
		{ HVP_DOMAIN_EVENT_PANICKED, "crashed", true, false, false, false },
		{ HVP_DOMAIN_EVENT_CRASHED, "crashed", true, false, false, true },
		{ HVP_DOMAIN_EVENT_STOPPED, "stopped", true, false, false, true },
		{ HVP_DOMAIN_EVENT_MIGRATED_OUT, "left", false, false, false, true },
		/* Whoever reverts a patch must not get it back for that. */
		{ HVP_DOMAIN_EVENT_NOTED, NULL, false, true, false, false },
		{ HVP_DOMAIN_EVENT_RESUMED, NULL, false, false, false, false },
		{ HVP_DOMAIN_EVENT_JOB_ENDED, NULL, false, false, false, false },
		{ HVP_DOMAIN_EVENT_OTHER, NULL, false, false, false, false },
		{ (HvpDomainEvent)1000, NULL, false, false, false, false },
	};

	for (guint i = 0; i < G_N_ELEMENTS(expected); i++) {
		const HvpRule *rule = hvp_rule_of(expected[i].event);

		g_assert_cmpstr(rule->word, ==, expected[i].word);
		g_assert_cmpint(rule->gone, ==, expected[i].gone);
		g_assert_cmpint(rule->look, ==, expected[i].look);
		g_assert_cmpint(rule->apply, ==, expected[i].apply);
		g_assert_cmpint(rule->forget, ==, expected[i].forget);
		/* Only what libvirt says of a restore as well is no news behind it. */
		g_assert_cmpint(rule->echo, ==, expected[i].event == HVP_DOMAIN_EVENT_REWOUND);
		/* Nobody looks into what is not there, or applies without having looked. */
		g_assert_false(rule->forget && rule->look);
		g_assert_true(!rule->apply || rule->look);
	}
}

static void test_after_look(void)
{
	g_assert_cmpint(hvp_rule_after_look(0, 0), ==, HVP_RULE_DONE);
	g_assert_cmpint(hvp_rule_after_look(7, 0), ==, HVP_RULE_DONE);
	g_assert_cmpint(hvp_rule_after_look(2, 0), ==, HVP_RULE_NEVER);
	g_assert_cmpint(hvp_rule_after_look(3, HVP_RULE_BOOT_USEC), ==, HVP_RULE_AGAIN);
	g_assert_cmpint(hvp_rule_after_look(HVP_RULE_KILLED, 0), ==, HVP_RULE_AGAIN);
	g_assert_cmpint(hvp_rule_after_look(1, HVP_RULE_LIMIT_USEC), ==, HVP_RULE_NEVER);
}

static void test_after_apply(void)
{
	static const int passing[] = { 1, 4, 6, HVP_RULE_KILLED };

	g_assert_cmpint(hvp_rule_after_apply(0, HVP_RULE_LIMIT_USEC), ==, HVP_RULE_DONE);
	g_assert_cmpint(hvp_rule_after_apply(2, 0), ==, HVP_RULE_NEVER);
	g_assert_cmpint(hvp_rule_after_apply(7, 0), ==, HVP_RULE_NEVER);
	g_assert_cmpint(hvp_rule_after_apply(3, 0), ==, HVP_RULE_AGAIN);
	g_assert_cmpint(hvp_rule_after_apply(5, 0), ==, HVP_RULE_AGAIN);
	g_assert_cmpint(hvp_rule_after_apply(3, HVP_RULE_BOOT_USEC), ==, HVP_RULE_NEVER);
	g_assert_cmpint(hvp_rule_after_apply(5, HVP_RULE_BOOT_USEC), ==, HVP_RULE_NEVER);
	for (guint i = 0; i < G_N_ELEMENTS(passing); i++) {
		g_assert_cmpint(hvp_rule_after_apply(passing[i], HVP_RULE_LIMIT_USEC - 1), ==,
				HVP_RULE_AGAIN);
		g_assert_cmpint(hvp_rule_after_apply(passing[i], HVP_RULE_LIMIT_USEC), ==,
				HVP_RULE_NEVER);
	}
}

static void test_back_off(void)
{
	static const guint seconds[] = { 1, 1, 2, 4, 8, 16, 30, 30 };

	for (guint i = 0; i < G_N_ELEMENTS(seconds); i++)
		g_assert_cmpint(hvp_rule_back_off_usec(i), ==, seconds[i] * G_USEC_PER_SEC);
	g_assert_cmpint(hvp_rule_back_off_usec(G_MAXUINT), ==, 30 * G_USEC_PER_SEC);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/rule/events", test_events);
	g_test_add_func("/rule/after-look", test_after_look);
	g_test_add_func("/rule/after-apply", test_after_apply);
	g_test_add_func("/rule/back-off", test_back_off);
	return g_test_run();
}
