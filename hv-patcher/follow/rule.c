/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "follow/rule.h"

#define MAX_BACK_OFF_SECONDS 30
#define MAX_DOUBLINGS 5U

enum { DONE = 0, USAGE = 2, NOT_APPLICABLE = 3, REFUSED = 5, OPERATOR = 7 };

static const HvpRule rules[HVP_DOMAIN_EVENT_COUNT] = {
	[HVP_DOMAIN_EVENT_SEEN] = { .look = true },
	[HVP_DOMAIN_EVENT_STARTED] = { "started", .gone = true, .look = true, .apply = true },
	[HVP_DOMAIN_EVENT_RESTORED] = { "restored", .look = true, .apply = true },
	[HVP_DOMAIN_EVENT_MIGRATED_IN] = { "migrated-in", .look = true, .apply = true },
	[HVP_DOMAIN_EVENT_REVERTED] = { "reverted", .look = true, .apply = true },
	[HVP_DOMAIN_EVENT_REWOUND] = { "reverted", .echo = true, .look = true, .apply = true },
	[HVP_DOMAIN_EVENT_RESUMED] = { .hurry = true },
	[HVP_DOMAIN_EVENT_REBOOTED] = { "rebooted", .gone = true, .look = true, .apply = true },
	/* It may be preserved for a look at it: by people, there is nothing to patch. */
	[HVP_DOMAIN_EVENT_PANICKED] = { "crashed", .gone = true },
	[HVP_DOMAIN_EVENT_CRASHED] = { "crashed", .gone = true, .forget = true },
	[HVP_DOMAIN_EVENT_STOPPED] = { "stopped", .gone = true, .forget = true },
	[HVP_DOMAIN_EVENT_MIGRATED_OUT] = { "left", .forget = true },
	[HVP_DOMAIN_EVENT_NOTED] = { .look = true },
	[HVP_DOMAIN_EVENT_JOB_ENDED] = { .hurry = true },
};

const HvpRule *hvp_rule_of(HvpDomainEvent event)
{
	return &rules[(guint)event < HVP_DOMAIN_EVENT_COUNT ? event : HVP_DOMAIN_EVENT_OTHER];
}

static HvpRuleNext again_until(gint64 limit_usec, gint64 elapsed_usec)
{
	return elapsed_usec < limit_usec ? HVP_RULE_AGAIN : HVP_RULE_NEVER;
}

HvpRuleNext hvp_rule_after_look(int exit_status, gint64 elapsed_usec)
{
	if (exit_status == DONE || exit_status == OPERATOR)
		return HVP_RULE_DONE;
	if (exit_status == USAGE)
		return HVP_RULE_NEVER;
	return again_until(HVP_RULE_LIMIT_USEC, elapsed_usec);
}

HvpRuleNext hvp_rule_after_apply(int exit_status, gint64 elapsed_usec)
{
	switch (exit_status) {
	case DONE:
		return HVP_RULE_DONE;
	case USAGE:
	case OPERATOR:
		return HVP_RULE_NEVER;
	case NOT_APPLICABLE:
	case REFUSED:
		return again_until(HVP_RULE_BOOT_USEC, elapsed_usec);
	default:
		return again_until(HVP_RULE_LIMIT_USEC, elapsed_usec);
	}
}

gint64 hvp_rule_back_off_usec(guint failures)
{
	guint doublings = MIN(MAX(failures, 1) - 1, MAX_DOUBLINGS);

	return MIN(1 << doublings, MAX_BACK_OFF_SECONDS) * (gint64)G_USEC_PER_SEC;
}
