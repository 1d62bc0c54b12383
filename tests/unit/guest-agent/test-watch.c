/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "watch.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "clock.h"
#include "fake-proc.h"

static AgentWatch watch;
static AgentProc proc;
static char bytes[65535];

typedef struct {
	char *root;
	gint64 now_nsec;
} Fixture;

static void set_up(Fixture *self, gconstpointer unused)
{
	AgentWatchOptions options = { .interval_msec = 10 };

	(void)unused;
	self->root = fake_proc_new();
	self->now_nsec = AGENT_NSEC_PER_SEC;
	g_assert_true(agent_proc_open(&proc, self->root));
	fake_proc_put_task(self->root, &fake_init);
	fake_proc_put_task(self->root, &fake_kthreadd);
	fake_proc_put_task(self->root, &fake_idle_worker);
	agent_watch_start(&watch, &options, self->now_nsec);
}

static void tear_down(Fixture *self, gconstpointer unused)
{
	(void)unused;
	agent_watch_stop(&watch);
	close(proc.root_fd);
	fake_proc_remove(self->root);
	g_free(self->root);
}

static void append_pids(GString *out, JsonArray *array)
{
	for (guint i = 0; i < json_array_get_length(array); i++) {
		JsonNode *node = json_array_get_element(array, i);

		g_string_append_printf(
			out, " %" G_GINT64_FORMAT,
			JSON_NODE_HOLDS_OBJECT(node)
				? json_object_get_int_member(json_node_get_object(node), "pid")
				: json_node_get_int(node));
	}
}

/* The pids of the next event, "changed ... gone ..."; "" if there is none. */
static char *next_event(Fixture *self)
{
	AgentWriter writer = { .bytes = bytes, .capacity_bytes = sizeof bytes };
	g_autoptr(JsonNode) node = NULL;
	GString *out = g_string_new("changed");
	JsonObject *event, *data;

	self->now_nsec += AGENT_NSEC_PER_SEC;
	agent_watch_tick(&watch, &proc, FAKE_BOOT_ID, self->now_nsec, &writer);
	g_assert_false(writer.overflow);
	if (writer.used_bytes == 0)
		return g_string_free(g_string_assign(out, ""), FALSE);
	bytes[writer.used_bytes] = '\0';
	node = json_from_string(bytes, NULL);
	g_assert_nonnull(node);
	event = json_node_get_object(node);
	data = json_object_get_object_member(event, "data");
	g_assert_cmpstr(json_object_get_string_member(event, "event"), ==, "HVPATCH_KTHREADS");
	g_assert_cmpstr(json_object_get_string_member(data, "boot_id"), ==, FAKE_BOOT_ID);
	append_pids(out, json_object_get_array_member(data, "kthreads"));
	g_string_append(out, " gone");
	append_pids(out, json_object_get_array_member(data, "gone"));
	return g_string_free(out, FALSE);
}

static void assert_event(Fixture *self, const char *expected)
{
	g_autofree char *event = next_event(self);

	g_assert_cmpstr(event, ==, expected);
}

static void test_changes(Fixture *fixture, gconstpointer unused)
{
	FakeTask worker = fake_idle_worker;

	(void)unused;
	assert_event(fixture, "changed 2 12 gone");
	assert_event(fixture, "");
	worker.voluntary++;
	fake_proc_put_task(fixture->root, &worker);
	assert_event(fixture, "changed 12 gone");
	worker.wchan = "hvp_wait";
	fake_proc_put_task(fixture->root, &worker);
	assert_event(fixture, "changed 12 gone");
	worker.cpus = "0-1";
	fake_proc_put_task(fixture->root, &worker);
	assert_event(fixture, "changed 12 gone");
	assert_event(fixture, "");
}

static void test_comes_and_goes(Fixture *fixture, gconstpointer unused)
{
	FakeTask task = fake_idle_worker;

	(void)unused;
	assert_event(fixture, "changed 2 12 gone");
	task.pid = 7;
	fake_proc_put_task(fixture->root, &task);
	assert_event(fixture, "changed 7 gone");
	fake_proc_remove_task(fixture->root, 12);
	fake_proc_remove_task(fixture->root, 7);
	assert_event(fixture, "changed gone 7 12");
	assert_event(fixture, "");
	/* A process of a user takes the pid, and then another thread does. */
	task = fake_init;
	task.pid = 12;
	fake_proc_put_task(fixture->root, &task);
	assert_event(fixture, "");
	fake_proc_put_task(fixture->root, &fake_idle_worker);
	assert_event(fixture, "changed 12 gone");
}

static void test_pid_again(Fixture *fixture, gconstpointer unused)
{
	FakeTask task = fake_idle_worker;

	(void)unused;
	assert_event(fixture, "changed 2 12 gone");
	task.start_ticks++;
	fake_proc_put_task(fixture->root, &task);
	assert_event(fixture, "changed 12 gone 12");
	assert_event(fixture, "");
}

static void test_match(Fixture *fixture, gconstpointer unused)
{
	AgentWatchOptions options = { .interval_msec = 10,
				      .patterns = { "nobody", "kworker/?:*" },
				      .pattern_count = 2 };
	FakeTask kthreadd = fake_kthreadd;

	(void)unused;
	agent_watch_start(&watch, &options, fixture->now_nsec);
	assert_event(fixture, "changed 12 gone");
	kthreadd.voluntary++;
	fake_proc_put_task(fixture->root, &kthreadd);
	assert_event(fixture, "");
}

/* Events stay short enough, none is lost and each thread has its turn. */
static void test_many(Fixture *fixture, gconstpointer unused)
{
	FakeTask task = fake_idle_worker;
	guint told = 0, ticks = 0;

	(void)unused;
	for (task.pid = 1000; task.pid < 1600; task.pid++)
		fake_proc_put_task(fixture->root, &task);
	while (told < 602) {
		g_autofree char *event = next_event(fixture);
		g_auto(GStrv) words = g_strsplit(event, " ", -1);

		told += g_strv_length(words) > 2 ? g_strv_length(words) - 2 : 0;
		g_assert_cmpuint(ticks++, <, 1000);
	}
	g_assert_cmpuint(told, ==, 602);
	for (task.pid = 1000; task.pid < 1600; task.pid++)
		fake_proc_remove_task(fixture->root, task.pid);
	for (told = ticks = 0; told < 600;) {
		g_autofree char *event = next_event(fixture);
		g_auto(GStrv) words = g_strsplit(event, " ", -1);

		told += g_strv_length(words) > 2 ? g_strv_length(words) - 2 : 0;
		g_assert_cmpuint(ticks++, <, 1000);
	}
	g_assert_cmpuint(told, ==, 600);
	g_assert_cmpuint(watch.count, ==, 2);
	assert_event(fixture, "");
}

static void test_globs(void)
{
	static const struct {
		const char *pattern, *text;
		bool matches;
	} cases[] = {
		{ "", "", true },
		{ "", "a", false },
		{ "*", "", true },
		{ "*", "abc", true },
		{ "a", "a", true },
		{ "a", "ab", false },
		{ "ab", "a", false },
		{ "?", "a", true },
		{ "?", "", false },
		{ "a*c", "abbc", true },
		{ "a*c", "abcb", false },
		{ "*ab*", "aaab", true },
		{ "a**", "a", true },
		{ "*a?", "aab", true },
		{ "*a?", "aba", false },
		{ "a*b*c", "a1b2b3c", true },
		{ "[a]", "a", false },
		{ "\\*", "*", false },
		{ "kworker/u*:?", "kworker/u8:2", true },
		{ "*a*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false },
	};

	for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
		if (agent_watch_matches(cases[i].pattern, cases[i].text) != cases[i].matches)
			g_error("%s %s", cases[i].pattern, cases[i].text);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(Fixture *fixture, gconstpointer unused);
	} cases[] = {
		{ "/watch/changes", test_changes },
		{ "/watch/comes-and-goes", test_comes_and_goes },
		{ "/watch/pid-again", test_pid_again },
		{ "/watch/match", test_match },
		{ "/watch/many", test_many },
	};

	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/watch/globs", test_globs);
	for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
		g_test_add(cases[i].name, Fixture, NULL, set_up, cases[i].run, tear_down);
	return g_test_run();
}
