/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/compare.h"

#include "engine/kthread-rule.h"

#include <string.h>

#define SLEEPS 0x1U
#define PARKED HVP_TASK_STATE_PARKED
#define IDLE 0x402U
#define KTHREAD HVP_TASK_PF_KTHREAD
#define WORKER (HVP_TASK_PF_KTHREAD | HVP_TASK_PF_WQ_WORKER)

/* What is seen and what is claimed, all about one thread with 10 and 3 switches. */
typedef struct {
	const char *name;
	HvpCompareVerdict expected;
	HvpCompareOrigin origin;
	guint32 flags, before_state, after_state;
	guint switched; /* voluntarily, between the looks */
	HvpKthreadState state;
	HvpClaimState claimed;
	int voluntary, involuntary; /* claimed, from before's counts on */
} Case;

#define ASKED HVP_COMPARE_ASKED
#define TOLD HVP_COMPARE_TOLD
#define YES HVP_COMPARE_AGREES
#define OLD HVP_COMPARE_STALE
#define DOUBT HVP_COMPARE_DOUBTFUL
#define NO HVP_COMPARE_FALSE

static const Case cases[] = {
	{ "parked-AGREES", YES, TOLD, KTHREAD, PARKED, PARKED, 0, HVP_KTHREAD_PARKED,
	  HVP_CLAIM_PARKED, 0, 0 },
	{ "told-to-go-on-AGREES", YES, TOLD, KTHREAD, PARKED, PARKED, 0, HVP_KTHREAD_SLEEPING,
	  HVP_CLAIM_PARKED, 0, 0 },
	{ "parked-but-sleeps-FALSE", NO, TOLD, KTHREAD, SLEEPS, SLEEPS, 0, HVP_KTHREAD_SLEEPING,
	  HVP_CLAIM_PARKED, 0, 0 },
	{ "sleeps-but-parked-FALSE", NO, TOLD, KTHREAD, PARKED, PARKED, 0, HVP_KTHREAD_PARKED,
	  HVP_CLAIM_SLEEPING, 0, 0 },
	{ "idle-AGREES", YES, TOLD, WORKER, IDLE, IDLE, 0, HVP_KTHREAD_IDLE_WORKER,
	  HVP_CLAIM_IDLE_WORKER, 0, 0 },
	{ "idle-but-busy-FALSE", NO, TOLD, WORKER, SLEEPS, SLEEPS, 0, HVP_KTHREAD_BUSY_WORKER,
	  HVP_CLAIM_IDLE_WORKER, 0, 0 },
	{ "idle-but-no-worker-FALSE", NO, TOLD, KTHREAD, IDLE, IDLE, 0, HVP_KTHREAD_SLEEPING,
	  HVP_CLAIM_IDLE_WORKER, 0, 0 },
	{ "busy-but-no-worker-FALSE", NO, TOLD, KTHREAD, IDLE, IDLE, 0, HVP_KTHREAD_SLEEPING,
	  HVP_CLAIM_BUSY_WORKER, 0, 0 },
	{ "worker-sleeps-FALSE", NO, TOLD, WORKER, IDLE, IDLE, 0, HVP_KTHREAD_IDLE_WORKER,
	  HVP_CLAIM_SLEEPING, 0, 0 },
	{ "rescuer-sleeps-AGREES", YES, ASKED, WORKER, IDLE, IDLE, 0, HVP_KTHREAD_IDLE_RESCUER,
	  HVP_CLAIM_SLEEPING, 0, 0 },
	{ "frozen-AGREES", YES, ASKED, KTHREAD, HVP_TASK_STATE_FROZEN, HVP_TASK_STATE_FROZEN, 0,
	  HVP_KTHREAD_FROZEN, HVP_CLAIM_FROZEN, 0, 0 },
	{ "asked-frozen-but-sleeps-FALSE", NO, ASKED, KTHREAD, SLEEPS, SLEEPS, 0,
	  HVP_KTHREAD_SLEEPING, HVP_CLAIM_FROZEN, 0, 0 },
	{ "asked-running-but-sleeps-FALSE", NO, ASKED, KTHREAD, SLEEPS, SLEEPS, 0,
	  HVP_KTHREAD_SLEEPING, HVP_CLAIM_RUNNING, 0, 0 },
	{ "told-running-but-sleeps-STALE", OLD, TOLD, KTHREAD, SLEEPS, SLEEPS, 0,
	  HVP_KTHREAD_SLEEPING, HVP_CLAIM_RUNNING, 0, 0 },
	{ "asked-deep-but-light-FALSE", NO, ASKED, KTHREAD, SLEEPS, SLEEPS, 0, HVP_KTHREAD_SLEEPING,
	  HVP_CLAIM_UNINTERRUPTIBLE, 0, 0 },
	{ "more-voluntary-FALSE", NO, TOLD, KTHREAD, SLEEPS, SLEEPS, 0, HVP_KTHREAD_SLEEPING,
	  HVP_CLAIM_SLEEPING, 1, 0 },
	{ "more-involuntary-FALSE", NO, TOLD, KTHREAD, 0, 0, 0, HVP_KTHREAD_RUNNING,
	  HVP_CLAIM_RUNNING, 0, 1 },
	{ "asked-fewer-FALSE", NO, ASKED, KTHREAD, SLEEPS, SLEEPS, 0, HVP_KTHREAD_SLEEPING,
	  HVP_CLAIM_SLEEPING, -1, 0 },
	{ "told-fewer-STALE", OLD, TOLD, KTHREAD, SLEEPS, SLEEPS, 0, HVP_KTHREAD_SLEEPING,
	  HVP_CLAIM_PARKED, -1, 0 },
	{ "switched-meanwhile-STALE", OLD, ASKED, KTHREAD, SLEEPS, SLEEPS, 2, HVP_KTHREAD_SLEEPING,
	  HVP_CLAIM_PARKED, 1, 0 },
	{ "parked-meanwhile-AGREES", YES, TOLD, KTHREAD, 0, PARKED, 1, HVP_KTHREAD_PARKED,
	  HVP_CLAIM_PARKED, 1, 0 },
	{ "told-parked-but-runs-STALE", OLD, TOLD, KTHREAD, 0, 0, 0, HVP_KTHREAD_RUNNING,
	  HVP_CLAIM_PARKED, 0, 0 },
	{ "asked-parked-but-runs-DOUBTFUL", DOUBT, ASKED, KTHREAD, 0, 0, 0, HVP_KTHREAD_RUNNING,
	  HVP_CLAIM_PARKED, 0, 0 },
	{ "asked-parked-woken-since-STALE", OLD, ASKED, KTHREAD, PARKED, 0, 0, HVP_KTHREAD_RUNNING,
	  HVP_CLAIM_PARKED, 0, 0 },
	{ "runs-AGREES", YES, ASKED, KTHREAD, 0, 0, 0, HVP_KTHREAD_RUNNING, HVP_CLAIM_RUNNING, 0,
	  0 },
	{ "gone-but-there-FALSE", NO, TOLD, KTHREAD, SLEEPS, SLEEPS, 0, HVP_KTHREAD_SLEEPING,
	  HVP_CLAIM_GONE, 0, 0 },
	{ "gone-and-exits-STALE", OLD, TOLD, KTHREAD | HVP_TASK_PF_EXITING, SLEEPS, SLEEPS, 0,
	  HVP_KTHREAD_SLEEPING, HVP_CLAIM_GONE, 0, 0 },
};

static HvpTask make_task(const Case *self, guint32 state, guint switched)
{
	HvpTask task = { .address = { 0xffff888000001000 },
			 .pid = 12,
			 .comm = "a_thread",
			 .flags = self->flags,
			 .state = state,
			 .on_cpu = state == 0,
			 .start_boottime_nsec = 5,
			 .switches = 10 + switched,
			 .switches_involuntary = 3 };

	return task;
}

static HvpClaim make_claim(const Case *self)
{
	return (HvpClaim){ .pid = 12,
			   .state = self->claimed,
			   .voluntary = (guint64)(10 + self->voluntary),
			   .involuntary = (guint64)(3 + self->involuntary),
			   .comm = "a_thread",
			   .wchan = "somewhere" };
}

static void test_case(gconstpointer data)
{
	const Case *self = data;
	HvpTask before = make_task(self, self->before_state, 0);
	HvpTask after = make_task(self, self->after_state, self->switched);
	HvpClaim claim = make_claim(self);

	g_assert_cmpstr(hvp_compare_verdict_name(
				hvp_compare(&claim, self->origin, &before, &after, self->state)),
			==, hvp_compare_verdict_name(self->expected));
}

/* Another task has the pid, or the struct, by now: nothing can be said. */
static void test_another_task(void)
{
	const Case *self = &cases[2];
	HvpClaim claim = make_claim(self);

	for (guint i = 0; i < 3; i++) {
		HvpTask before = make_task(self, SLEEPS, 0), after = before;

		after.pid += i == 0;
		after.start_boottime_nsec += i == 1;
		after.address.value += i == 2;
		g_assert_cmpint(hvp_compare(&claim, TOLD, &before, &after, self->state), ==, OLD);
	}
}

static void test_name(void)
{
	const Case *self = &cases[0];
	HvpTask before = make_task(self, PARKED, 0), after = before;
	HvpClaim claim = make_claim(self);

	g_strlcpy(claim.comm, "another", sizeof claim.comm);
	g_assert_cmpint(hvp_compare(&claim, TOLD, &before, &after, self->state), ==, NO);
	g_strlcpy(after.comm, "renamed", sizeof after.comm);
	g_assert_cmpint(hvp_compare(&claim, TOLD, &before, &after, self->state), ==, YES);
	g_strlcpy(before.comm, "a_name_of_15_by", sizeof before.comm);
	g_strlcpy(after.comm, "a_name_of_15_by", sizeof after.comm);
	g_strlcpy(claim.comm, "a_name_of_15_bytes", sizeof claim.comm);
	g_assert_cmpint(hvp_compare(&claim, TOLD, &before, &after, self->state), ==, YES);
}

static void test_patterns(void)
{
	static const struct {
		const char *pattern, *name;
		bool matches;
	} patterns[] = {
		{ "", "", true },
		{ "", "a", false },
		{ "*", "", true },
		{ "*", "kworker/0:1", true },
		{ "kworker/*", "kworker/0", true },
		{ "kworker/*", "kworker", false },
		{ "k*r/?:1", "kworker/0:1", true },
		{ "k*r/?:1", "kworker/0:11", false },
		{ "*a*b*c", "xxaxxbxxbc", true },
		{ "*a*b*c", "xxaxxbxxb", false },
		{ "?", "", false },
		{ "a**", "a", true },
		{ "abc", "abcd", false },
	};

	for (guint i = 0; i < G_N_ELEMENTS(patterns); i++)
		g_assert_cmpint(hvp_kthread_rule_matches(patterns[i].pattern, patterns[i].name), ==,
				patterns[i].matches);
}

static void test_cpus(void)
{
	static const struct {
		const char *claimed;
		bool per_cpu;
		const char *seen;
		guint32 flags;
		bool fits;
	} looks[] = {
		{ "0-3", false, "0-3", KTHREAD, true },
		{ "0-3", false, "0-2", KTHREAD, false },
		{ "1", true, "1", KTHREAD | HVP_TASK_PF_NO_SETAFFINITY, true },
		{ "1", false, "1", KTHREAD | HVP_TASK_PF_NO_SETAFFINITY, false },
		{ "1", false, "1", KTHREAD, true },
		{ "1", true, "1", KTHREAD, false },
		{ "0,2", true, "0,2", KTHREAD | HVP_TASK_PF_NO_SETAFFINITY, false },
		/* One of both does not tell. */
		{ "", true, "0-3", KTHREAD, true },
		{ "0-3", true, "", KTHREAD, true },
	};

	for (guint i = 0; i < G_N_ELEMENTS(looks); i++) {
		HvpClaim claim = { .per_cpu = looks[i].per_cpu };
		HvpTask task = { .flags = looks[i].flags };

		g_strlcpy(claim.cpus, looks[i].claimed, sizeof claim.cpus);
		g_assert_cmpint(hvp_compare_cpus(&claim, &task, looks[i].seen), ==, looks[i].fits);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *path = g_strconcat("/compare/", cases[i].name, NULL);

		g_test_add_data_func(path, &cases[i], test_case);
	}
	g_test_add_func("/compare/another-task-STALE", test_another_task);
	g_test_add_func("/compare/other-name-FALSE", test_name);
	g_test_add_func("/kthread-rule/patterns-MATCH", test_patterns);
	g_test_add_func("/compare/cpus", test_cpus);
	return g_test_run();
}
