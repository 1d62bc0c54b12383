/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "watch.h"

#include <glib.h>

#define BASE 0xffffffff81000000ULL
#define OLD                       \
	{                         \
		BASE, BASE + 0x40 \
	}
#define ALLOWED (BASE + 14)
#define NEW_BASE 0xffffffffc0000000ULL
#define NEW                               \
	{                                 \
		NEW_BASE, NEW_BASE + 0x80 \
	}

typedef struct {
	PluginWatch watch;
	HvpPluginWireViolations head;
	HvpPluginWireViolation violations[PLUGIN_WATCH_MAX_VIOLATIONS];
	HvpPluginWireCount counts[HVP_PLUGIN_WIRE_MAX_ANSWERS];
} Fixture;

static void set_up(Fixture *fixture, gconstpointer data)
{
	const HvpPluginWireRange ranges[] = { OLD, NEW };

	(void)data;
	g_assert_true(plugin_watch_init(&fixture->watch, 4));
	g_assert_cmpint(plugin_watch_add(&fixture->watch, ranges, 2), ==, HVP_PLUGIN_WIRE_OK);
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
	(void)data;
	plugin_watch_clear(&fixture->watch);
}

static void run(Fixture *fixture, guint64 pc, guint vcpu)
{
	PluginInsn *insn = plugin_watch_find(&fixture->watch, pc);

	g_assert_nonnull(insn);
	plugin_watch_execute(&fixture->watch, insn, vcpu);
}

static HvpPluginWireStatus forbid(Fixture *fixture, bool old, bool new)
{
	const HvpPluginWireChange changes[] = {
		{ BASE, BASE + 0x40, ALLOWED, old },
		{ NEW_BASE, NEW_BASE + 0x80, NEW_BASE, new },
	};

	return plugin_watch_switch(&fixture->watch, changes, 2);
}

static guint violations(Fixture *fixture)
{
	return plugin_watch_read_violations(&fixture->watch, 0, &fixture->head,
					    fixture->violations);
}

static guint counts(Fixture *fixture, guint64 start, guint32 vcpu)
{
	HvpPluginWireQuery query = { start, start + 0x40, start, vcpu };

	return plugin_watch_read_counts(&fixture->watch, &query, fixture->counts);
}

static void test_count(Fixture *fixture, gconstpointer data)
{
	(void)data;
	g_assert_null(plugin_watch_find(&fixture->watch, BASE + 0x40));
	g_assert_null(plugin_watch_find(&fixture->watch, BASE - 1));
	run(fixture, BASE + 4, 0);
	run(fixture, BASE + 4, 3);
	run(fixture, BASE, 3);
	g_assert_cmpint(forbid(fixture, false, false), ==, HVP_PLUGIN_WIRE_OK);
	run(fixture, BASE + 4, 3);
	g_assert_cmpuint(counts(fixture, BASE, HVP_PLUGIN_WIRE_ALL_VCPUS), ==, 2);
	g_assert_cmphex(fixture->counts[0].pc, ==, BASE);
	g_assert_cmpuint(fixture->counts[0].before, ==, 1);
	g_assert_cmpuint(fixture->counts[1].before, ==, 2);
	g_assert_cmpuint(fixture->counts[1].since, ==, 1);
	g_assert_cmpuint(counts(fixture, BASE, 0), ==, 2);
	g_assert_cmpuint(fixture->counts[0].before, ==, 0);
	g_assert_cmpuint(fixture->counts[1].before, ==, 1);
	g_assert_cmpuint(fixture->counts[1].since, ==, 0);
	g_assert_cmpuint(violations(fixture), ==, 0);
}

static void test_pages_of_counts(Fixture *fixture, gconstpointer data)
{
	const HvpPluginWireRange range = { BASE + 0x1000, BASE + 0x3000 };
	HvpPluginWireQuery query = { range.start, range.end, range.start,
				     HVP_PLUGIN_WIRE_ALL_VCPUS };
	guint64 next = range.start;
	guint count;

	(void)data;
	g_assert_cmpint(plugin_watch_add(&fixture->watch, &range, 1), ==, HVP_PLUGIN_WIRE_OK);
	for (guint64 pc = range.start; pc < range.end; pc++)
		run(fixture, pc, 1);
	while ((count = plugin_watch_read_counts(&fixture->watch, &query, fixture->counts)) > 0)
		for (guint i = 0; i < count; i++, next++, query.from = next)
			g_assert_cmphex(fixture->counts[i].pc, ==, next);
	g_assert_cmphex(next, ==, range.end);
}

static void test_confirmed(Fixture *fixture, gconstpointer data)
{
	(void)data;
	run(fixture, BASE + 20, 0);
	g_assert_cmpint(forbid(fixture, true, false), ==, HVP_PLUGIN_WIRE_OK);
	run(fixture, BASE, 1);
	run(fixture, ALLOWED - 1, 1);
	run(fixture, NEW_BASE, 1);
	g_assert_cmpuint(violations(fixture), ==, 0);
	run(fixture, ALLOWED, 2);
	run(fixture, ALLOWED, 2);
	run(fixture, BASE + 0x3f, 1);
	g_assert_cmpuint(violations(fixture), ==, 2);
	g_assert_cmpuint(fixture->violations[0].verdict, ==, HVP_PLUGIN_WIRE_IF_CONFIRMED);
	g_assert_cmpuint(fixture->head.final_count, ==, 0);
	plugin_watch_decide(&fixture->watch, PLUGIN_WATCH_CONFIRMED);
	g_assert_cmpuint(violations(fixture), ==, 2);
	g_assert_cmpuint(fixture->head.final_count, ==, 3);
	g_assert_cmphex(fixture->violations[0].pc, ==, ALLOWED);
	g_assert_cmpuint(fixture->violations[0].vcpu, ==, 2);
	g_assert_cmpuint(fixture->violations[0].count, ==, 2);
	g_assert_cmpuint(fixture->violations[0].epoch, ==, 1);
	g_assert_cmpuint(fixture->violations[0].verdict, ==, HVP_PLUGIN_WIRE_FINAL);
	run(fixture, ALLOWED, 2);
	violations(fixture);
	g_assert_cmpuint(fixture->head.final_count, ==, 4);
	g_assert_cmpuint(fixture->violations[0].count, ==, 3);
}

static void test_cancelled(Fixture *fixture, gconstpointer data)
{
	(void)data;
	g_assert_cmpint(forbid(fixture, true, false), ==, HVP_PLUGIN_WIRE_OK);
	run(fixture, ALLOWED, 2);
	plugin_watch_decide(&fixture->watch, PLUGIN_WATCH_CANCELLED);
	run(fixture, ALLOWED, 2);
	g_assert_cmpuint(violations(fixture), ==, 0);
	g_assert_cmpuint(fixture->head.final_count, ==, 0);
	plugin_watch_decide(&fixture->watch, PLUGIN_WATCH_CONFIRMED);
	run(fixture, ALLOWED, 2);
	g_assert_cmpuint(violations(fixture), ==, 0);
}

/* A revert: what is right depends on what becomes of it, and the other half is no violation. */
static void test_undecided_revert(Fixture *fixture, gconstpointer data)
{
	(void)data;
	g_assert_cmpint(forbid(fixture, true, false), ==, HVP_PLUGIN_WIRE_OK);
	plugin_watch_decide(&fixture->watch, PLUGIN_WATCH_CONFIRMED);
	g_assert_cmpint(forbid(fixture, false, true), ==, HVP_PLUGIN_WIRE_OK);
	g_assert_cmpint(forbid(fixture, false, true), ==, HVP_PLUGIN_WIRE_UNDECIDED);
	run(fixture, ALLOWED, 0);
	run(fixture, NEW_BASE, 1);
	g_assert_cmpuint(violations(fixture), ==, 2);
	g_assert_cmpuint(fixture->violations[0].verdict, ==, HVP_PLUGIN_WIRE_IF_CANCELLED);
	g_assert_cmpuint(fixture->violations[1].verdict, ==, HVP_PLUGIN_WIRE_IF_CONFIRMED);
	plugin_watch_decide(&fixture->watch, PLUGIN_WATCH_CONFIRMED);
	g_assert_cmpuint(violations(fixture), ==, 1);
	g_assert_cmphex(fixture->violations[0].pc, ==, NEW_BASE);
	g_assert_cmpuint(fixture->violations[0].epoch, ==, 2);
}

static void test_always_forbidden(Fixture *fixture, gconstpointer data)
{
	(void)data;
	g_assert_cmpint(forbid(fixture, true, false), ==, HVP_PLUGIN_WIRE_OK);
	plugin_watch_decide(&fixture->watch, PLUGIN_WATCH_CONFIRMED);
	g_assert_cmpint(forbid(fixture, true, true), ==, HVP_PLUGIN_WIRE_OK);
	run(fixture, ALLOWED, 0);
	violations(fixture);
	g_assert_cmpuint(fixture->head.final_count, ==, 1);
	plugin_watch_decide(&fixture->watch, PLUGIN_WATCH_CANCELLED);
	violations(fixture);
	g_assert_cmpuint(fixture->head.final_count, ==, 1);
}

static void test_withdraw(Fixture *fixture, gconstpointer data)
{
	const HvpPluginWireRange range = OLD, other = { BASE - 0x20, BASE };
	PluginInsn *insn = plugin_watch_find(&fixture->watch, ALLOWED);

	(void)data;
	plugin_watch_execute(&fixture->watch, insn, 0);
	g_assert_cmpint(forbid(fixture, true, false), ==, HVP_PLUGIN_WIRE_OK);
	plugin_watch_decide(&fixture->watch, PLUGIN_WATCH_CONFIRMED);
	plugin_watch_withdraw(&fixture->watch, &other, 1);
	g_assert_true(plugin_watch_find(&fixture->watch, ALLOWED) == insn);
	plugin_watch_withdraw(&fixture->watch, &range, 1);
	/* Code that was translated before still calls. */
	plugin_watch_execute(&fixture->watch, insn, 0);
	g_assert_cmpuint(violations(fixture), ==, 0);
	g_assert_cmpuint(counts(fixture, BASE, HVP_PLUGIN_WIRE_ALL_VCPUS), ==, 0);
	g_assert_null(plugin_watch_find(&fixture->watch, ALLOWED));
	/* Again at the same place: the same record, counted from now on, nothing forbidden. */
	g_assert_cmpint(plugin_watch_add(&fixture->watch, &range, 1), ==, HVP_PLUGIN_WIRE_OK);
	g_assert_true(plugin_watch_find(&fixture->watch, ALLOWED) == insn);
	plugin_watch_execute(&fixture->watch, insn, 0);
	g_assert_cmpuint(counts(fixture, BASE, HVP_PLUGIN_WIRE_ALL_VCPUS), ==, 1);
	g_assert_cmpuint(fixture->counts[0].before + fixture->counts[0].since, ==, 1);
	g_assert_cmpuint(violations(fixture), ==, 0);
}

static void test_forget(Fixture *fixture, gconstpointer data)
{
	PluginInsn *insn = plugin_watch_find(&fixture->watch, ALLOWED);

	(void)data;
	g_assert_cmpint(forbid(fixture, true, true), ==, HVP_PLUGIN_WIRE_OK);
	plugin_watch_execute(&fixture->watch, insn, 0);
	plugin_watch_forget(&fixture->watch);
	plugin_watch_execute(&fixture->watch, insn, 0);
	g_assert_cmpuint(violations(fixture), ==, 0);
	g_assert_false(plugin_watch_may_hold(&fixture->watch, 0, G_MAXUINT64));
	g_assert_cmpint(forbid(fixture, true, true), ==, HVP_PLUGIN_WIRE_NOT_WATCHED);
}

/* A module went unnoticed, and another one lies where it was. */
static void test_overlaid(Fixture *fixture, gconstpointer data)
{
	const HvpPluginWireRange ranges[] = { { NEW_BASE - 0x20, NEW_BASE + 0x10 }, OLD };

	(void)data;
	g_assert_cmpint(forbid(fixture, true, true), ==, HVP_PLUGIN_WIRE_OK);
	plugin_watch_decide(&fixture->watch, PLUGIN_WATCH_CONFIRMED);
	g_assert_cmpint(plugin_watch_add(&fixture->watch, ranges, 2), ==, HVP_PLUGIN_WIRE_OK);
	run(fixture, NEW_BASE, 0);
	g_assert_null(plugin_watch_find(&fixture->watch, NEW_BASE + 0x20));
	g_assert_cmpuint(violations(fixture), ==, 0);
	run(fixture, ALLOWED, 0);
	g_assert_cmpuint(violations(fixture), ==, 1);
}

static void test_boot(Fixture *fixture, gconstpointer data)
{
	(void)data;
	plugin_watch_enter_boot(&fixture->watch, 7);
	g_assert_nonnull(plugin_watch_find(&fixture->watch, BASE));
	plugin_watch_enter_boot(&fixture->watch, 7);
	g_assert_nonnull(plugin_watch_find(&fixture->watch, BASE));
	plugin_watch_enter_boot(&fixture->watch, 8);
	g_assert_null(plugin_watch_find(&fixture->watch, BASE));
}

static void test_refused(Fixture *fixture, gconstpointer data)
{
	const HvpPluginWireRange overlap[] = { { BASE + 0x100, BASE + 0x200 },
					       { BASE + 0x130, BASE + 0x150 } };
	const HvpPluginWireRange user = { 0x400000, 0x500000 }, empty = { BASE, BASE };
	const HvpPluginWireRange huge = { BASE, BASE + HVP_PLUGIN_WIRE_MAX_RANGE_BYTES + 1 };
	const HvpPluginWireChange outside = { BASE, BASE + 0x40, BASE + 0x41, 1 };
	PluginWatch *watch = &fixture->watch;

	(void)data;
	g_assert_cmpint(plugin_watch_add(watch, overlap, 2), ==, HVP_PLUGIN_WIRE_OVERLAP);
	g_assert_null(plugin_watch_find(watch, BASE + 0x100));
	g_assert_cmpint(plugin_watch_add(watch, &user, 1), ==, HVP_PLUGIN_WIRE_BAD_REQUEST);
	g_assert_cmpint(plugin_watch_add(watch, &empty, 1), ==, HVP_PLUGIN_WIRE_BAD_REQUEST);
	g_assert_cmpint(plugin_watch_add(watch, &huge, 1), ==, HVP_PLUGIN_WIRE_BAD_REQUEST);
	g_assert_cmpint(plugin_watch_switch(watch, &outside, 1), ==, HVP_PLUGIN_WIRE_BAD_REQUEST);
	g_assert_false(plugin_watch_init(&(PluginWatch){ 0 }, 0));
	g_assert_false(plugin_watch_init(&(PluginWatch){ 0 }, PLUGIN_WATCH_MAX_VCPUS + 1));
}

static void test_many_ranges(Fixture *fixture, gconstpointer data)
{
	g_autofree HvpPluginWireRange *ranges = g_new(HvpPluginWireRange,
						      HVP_PLUGIN_WIRE_MAX_RANGES);
	PluginWatch *watch = &fixture->watch;

	(void)data;
	for (guint i = 0; i < HVP_PLUGIN_WIRE_MAX_RANGES; i++)
		ranges[i] = (HvpPluginWireRange){ BASE + (HVP_PLUGIN_WIRE_MAX_RANGES - i) * 64,
						  BASE + (HVP_PLUGIN_WIRE_MAX_RANGES - i) * 64 +
							  32 };
	g_assert_cmpint(plugin_watch_add(watch, ranges, HVP_PLUGIN_WIRE_MAX_RANGES), ==,
			HVP_PLUGIN_WIRE_NO_ROOM);
	g_assert_cmpint(plugin_watch_add(watch, ranges, HVP_PLUGIN_WIRE_MAX_RANGES - 2), ==,
			HVP_PLUGIN_WIRE_OK);
	g_assert_nonnull(plugin_watch_find(watch, ranges[0].start));
	g_assert_null(plugin_watch_find(watch, ranges[0].end));
	g_assert_true(plugin_watch_holds(watch, ranges[0].start - 8, ranges[0].start + 1));
	g_assert_false(plugin_watch_holds(watch, ranges[0].start - 8, ranges[0].start));
	plugin_watch_withdraw(watch, ranges, HVP_PLUGIN_WIRE_MAX_RANGES);
	g_assert_null(plugin_watch_find(watch, ranges[0].start));
	g_assert_nonnull(plugin_watch_find(watch, BASE));
}

/* More than are kept: none is lost from the sum, and nothing is overwritten. */
static void test_many_violations(Fixture *fixture, gconstpointer data)
{
	const HvpPluginWireRange range = { BASE + 0x1000, BASE + 0x2000 };
	const HvpPluginWireChange change = { range.start, range.end, range.start, 1 };

	(void)data;
	g_assert_cmpint(plugin_watch_add(&fixture->watch, &range, 1), ==, HVP_PLUGIN_WIRE_OK);
	g_assert_cmpint(plugin_watch_switch(&fixture->watch, &change, 1), ==, HVP_PLUGIN_WIRE_OK);
	for (guint64 pc = range.start; pc < range.end; pc++)
		run(fixture, pc, 0);
	plugin_watch_decide(&fixture->watch, PLUGIN_WATCH_CONFIRMED);
	g_assert_cmpuint(violations(fixture), ==, PLUGIN_WATCH_MAX_VIOLATIONS);
	g_assert_cmpuint(fixture->head.final_count, ==, 0x1000);
	g_assert_cmpuint(fixture->head.lost_count, ==, 0x1000 - PLUGIN_WATCH_MAX_VIOLATIONS);
}

/* Four vCPUs execute the same instructions at once, while the ranges come and go. */
typedef struct {
	Fixture *fixture;
	guint vcpu;
} Runner;

#define RUNS 20000U

static gpointer run_often(gpointer data)
{
	Runner *runner = data;

	for (guint i = 0; i < RUNS; i++) {
		PluginInsn *insn = plugin_watch_find(&runner->fixture->watch, BASE + i % 0x40);

		g_assert_nonnull(insn);
		plugin_watch_execute(&runner->fixture->watch, insn, runner->vcpu);
	}
	return NULL;
}

static void test_threads(Fixture *fixture, gconstpointer data)
{
	const HvpPluginWireRange other = NEW;
	Runner runners[4];
	GThread *threads[4];
	guint64 total = 0;

	(void)data;
	for (guint i = 0; i < 4; i++) {
		runners[i] = (Runner){ fixture, i };
		threads[i] = g_thread_new("vcpu", run_often, &runners[i]);
	}
	for (guint i = 0; i < 200; i++) {
		plugin_watch_withdraw(&fixture->watch, &other, 1);
		g_assert_cmpint(plugin_watch_add(&fixture->watch, &other, 1), ==,
				HVP_PLUGIN_WIRE_OK);
	}
	for (guint i = 0; i < 4; i++)
		g_thread_join(threads[i]);
	for (guint i = counts(fixture, BASE, HVP_PLUGIN_WIRE_ALL_VCPUS); i > 0; i--)
		total += fixture->counts[i - 1].since;
	g_assert_cmpuint(total, ==, 4 * RUNS);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define TEST(name, function) \
	g_test_add("/qemu-plugin/watch/" name, Fixture, NULL, set_up, function, tear_down)
	TEST("executions-COUNTED", test_count);
	TEST("more-than-a-reply-PAGED", test_pages_of_counts);
	TEST("old-code-after-confirmed-switch-VIOLATION", test_confirmed);
	TEST("old-code-after-cancelled-switch-FINE", test_cancelled);
	TEST("undecided-revert-JUDGED_LATER", test_undecided_revert);
	TEST("forbidden-either-way-FINAL", test_always_forbidden);
	TEST("withdrawn-FINE", test_withdraw);
	TEST("forget-FINE", test_forget);
	TEST("overlaid-WITHDRAWN", test_overlaid);
	TEST("another-boot-FORGOTTEN", test_boot);
	TEST("senseless-ranges-REFUSED", test_refused);
	TEST("too-many-ranges-NO_ROOM", test_many_ranges);
	TEST("too-many-violations-SUMMED", test_many_violations);
	TEST("threads-NO_COUNT_LOST", test_threads);
	return g_test_run();
}
