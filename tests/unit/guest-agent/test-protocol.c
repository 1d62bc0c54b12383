/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "protocol.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "fake-proc.h"

#define KTHREADS "\"execute\":\"guest-hvpatch-get-kthreads\""
#define WATCH "\"execute\":\"guest-hvpatch-watch-kthreads\""
#define MODULES "\"execute\":\"guest-hvpatch-get-modules\""
/* As session.c has it. */
#define OUTGOING_BYTES 65535

static AgentProtocol protocol;

typedef struct {
	char *root;
} Fixture;

static void set_up(Fixture *self, gconstpointer unused)
{
	(void)unused;
	self->root = fake_proc_new();
	g_assert_true(agent_protocol_start(&protocol, self->root));
}

static void tear_down(Fixture *self, gconstpointer unused)
{
	(void)unused;
	close(protocol.proc.root_fd);
	fake_proc_remove(self->root);
	g_free(self->root);
}

/* The answer without its newline. */
static char *answer_bytes(const char *request, gsize size_bytes)
{
	static char bytes[OUTGOING_BYTES];
	AgentWriter writer = { .bytes = bytes, .capacity_bytes = sizeof bytes };
	/* Of the exact size, for the address sanitizer. */
	g_autofree char *line = g_memdup2(request, size_bytes);

	agent_protocol_answer(&protocol, line, size_bytes, &writer);
	g_assert_false(writer.overflow);
	if (writer.used_bytes == 0)
		return g_strdup("");
	g_assert_cmpint(bytes[writer.used_bytes - 1], ==, '\n');
	g_assert_null(memchr(bytes, '\n', writer.used_bytes - 1));
	return g_strndup(bytes, writer.used_bytes - 1);
}

static char *answer(const char *request)
{
	return answer_bytes(request, strlen(request));
}

static void assert_answer(const char *request, const char *expected)
{
	g_autofree char *text = answer(request);

	g_assert_cmpstr(text, ==, expected);
}

/* What another JSON reader makes of the answer. */
static JsonObject *answer_object(const char *request)
{
	g_autofree char *text = answer(request);
	g_autoptr(JsonNode) node = json_from_string(text, NULL);

	g_assert_nonnull(node);
	return json_object_ref(json_node_get_object(node));
}

static JsonObject *returned(JsonObject *object)
{
	g_assert_true(json_object_has_member(object, "return"));
	return json_object_get_object_member(object, "return");
}

static void assert_error(const char *request, const char *class, const char *words)
{
	g_autoptr(JsonObject) object = answer_object(request);
	JsonObject *error;

	if (!json_object_has_member(object, "error"))
		g_error("taken: %s", request);
	error = json_object_get_object_member(object, "error");
	g_assert_cmpstr(json_object_get_string_member(error, "class"), ==, class);
	if (strstr(json_object_get_string_member(error, "desc"), words) == NULL)
		g_error("%s: %s", request, json_object_get_string_member(error, "desc"));
}

static void assert_refused(const char *request, const char *words)
{
	assert_error(request, "GenericError", words);
}

static void test_simple(Fixture *fixture, gconstpointer unused)
{
	(void)fixture;
	(void)unused;
	assert_answer("{\"execute\":\"guest-ping\"}", "{\"return\":{}}");
	assert_answer("{\"execute\":\"guest-ping\",\"arguments\":{},\"id\":[1, {\"a\" : null}]}",
		      "{\"return\":{},\"id\":[1, {\"a\" : null}]}");
	assert_answer(" {\"id\":\"\\u0000\",\"execute\":\"guest\\u002dping\"}\r",
		      "{\"return\":{},\"id\":\"\\u0000\"}");
	assert_answer("", "");
	assert_answer(" \t\r", "");
	assert_answer("{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":-5}}",
		      "\xff{\"return\":-5}");
	assert_answer("{\"execute\":\"guest-sync-delimited\","
		      "\"arguments\":{\"id\":9223372036854775807},\"id\":1}",
		      "\xff{\"return\":9223372036854775807,\"id\":1}");
}

static void test_info(Fixture *fixture, gconstpointer unused)
{
	g_autoptr(JsonObject) object = answer_object("{\"execute\":\"guest-info\"}");
	JsonObject *info = returned(object);
	JsonArray *commands = json_object_get_array_member(info, "supported_commands");

	(void)fixture;
	(void)unused;
	g_assert_cmpint(json_object_get_int_member(info, "protocol"), ==, 1);
	g_assert_cmpstr(json_object_get_string_member(info, "version"), !=, "");
	g_assert_cmpuint(json_array_get_length(commands), ==, 6);
	for (guint i = 0; i < json_array_get_length(commands); i++) {
		JsonObject *command = json_array_get_object_element(commands, i);

		g_assert_true(json_object_get_boolean_member(command, "enabled"));
	}
}

static void test_refuses(Fixture *fixture, gconstpointer unused)
{
	g_autofree char *long_id = g_strnfill(1025, '1');
	g_autofree char *request = g_strdup_printf("{\"execute\":\"guest-ping\",\"id\":%s}",
						   long_id);

	(void)fixture;
	(void)unused;
	assert_error("{\"execute\":\"guest-shutdown\",\"id\":1}", "CommandNotFound", "no such");
	assert_error("{\"execute\":\"guest-ping\\u0000\"}", "CommandNotFound", "no such");
	assert_refused("garbage", "no JSON");
	assert_refused("[]", "no object");
	assert_refused("{}", "execute");
	assert_refused("{\"execute\":1}", "execute");
	assert_refused("{\"execute\":\"guest-ping\",\"more\":1}", "unknown");
	assert_refused("{\"execute\":\"guest-ping\",\"execute\":\"guest-ping\"}", "twice");
	assert_refused("{\"execute\":\"guest-ping\",\"arguments\":[]}", "no object");
	assert_refused("{\"execute\":\"guest-ping\",\"arguments\":null}", "no object");
	assert_refused("{\"execute\":\"guest-ping\",\"arguments\":{\"a\":1}}", "unknown");
	assert_refused("{\"execute\":\"guest-info\",\"arguments\":{\"a\":1}}", "unknown");
	assert_refused("{\"execute\":\"guest-sync-delimited\"}", "id");
	assert_refused("{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":\"1\"}}", "id");
	assert_refused("{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":1.0}}", "id");
	assert_refused(request, "too long");
	assert_answer("{\"execute\":\"guest-ping\",\"arguments\":{\"a\":1},\"id\":7}",
		      "{\"error\":{\"class\":\"GenericError\",\"desc\":\"an unknown member\"},"
		      "\"id\":7}");
}

static void test_refuses_arguments(Fixture *fixture, gconstpointer unused)
{
	(void)fixture;
	(void)unused;
	assert_refused("{" KTHREADS ",\"arguments\":{\"start\":-1}}", "start");
	assert_refused("{" KTHREADS ",\"arguments\":{\"start\":2147483648}}", "start");
	assert_refused("{" KTHREADS ",\"arguments\":{\"limit\":0}}", "limit");
	assert_refused("{" KTHREADS ",\"arguments\":{\"limit\":4097}}", "limit");
	assert_refused("{" KTHREADS ",\"arguments\":{\"stack\":1}}", "stack");
	assert_refused("{" KTHREADS ",\"arguments\":{\"stacks\":true}}", "unknown");
	assert_refused("{" WATCH "}", "enable");
	assert_refused("{" WATCH ",\"arguments\":{\"enable\":1}}", "enable");
	assert_refused("{" WATCH ",\"arguments\":{\"enable\":true,\"interval_ms\":9}}", "interval");
	assert_refused("{" WATCH ",\"arguments\":{\"enable\":true,\"interval_ms\":60001}}",
		       "interval");
	assert_refused("{" WATCH ",\"arguments\":{\"enable\":true,\"match\":\"*\"}}", "array");
	assert_refused("{" WATCH ",\"arguments\":{\"enable\":true,\"match\":[]}}", "empty");
	assert_refused("{" WATCH ",\"arguments\":{\"enable\":true,\"match\":[[\"a\"]]}}",
		       "63 bytes");
	assert_refused("{" WATCH
		       ",\"arguments\":{\"enable\":true,\"match\":[\"1\",\"2\",\"3\",\"4\","
		       "\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\",\"13\",\"14\",\"15\","
		       "\"16\",\"17\"]}}",
		       "16 patterns");
	assert_refused("{" WATCH
		       ",\"arguments\":{\"enable\":true,\"match\":[\"0123456789012345678901"
		       "234567890123456789012345678901234567890123\"]}}",
		       "63 bytes");
	g_assert_false(protocol.watch.enabled);
	assert_refused("{" MODULES ",\"arguments\":{\"start\":-1}}", "start");
}

static JsonArray *kthreads_of(JsonObject *object)
{
	return json_object_get_array_member(returned(object), "kthreads");
}

static void test_kthreads(Fixture *fixture, gconstpointer unused)
{
	g_autoptr(JsonObject) all = NULL, one = NULL, later = NULL;

	(void)unused;
	fake_proc_put_task(fixture->root, &fake_idle_worker);
	fake_proc_put_task(fixture->root, &fake_init);
	fake_proc_put_task(fixture->root, &fake_kthreadd);
	all = answer_object("{" KTHREADS ",\"arguments\":{\"stack\":true}}");
	g_assert_cmpstr(json_object_get_string_member(returned(all), "boot_id"), ==, FAKE_BOOT_ID);
	g_assert_cmpuint(json_array_get_length(kthreads_of(all)), ==, 2);
	g_assert_cmpint(json_object_get_int_member(returned(all), "next"), ==, 0);
	g_assert_false(json_object_has_member(json_array_get_object_element(kthreads_of(all), 0),
					      "stack"));
	g_assert_true(json_object_has_member(json_array_get_object_element(kthreads_of(all), 1),
					     "stack"));
	one = answer_object("{" KTHREADS ",\"arguments\":{\"limit\":1}}");
	g_assert_cmpuint(json_array_get_length(kthreads_of(one)), ==, 1);
	g_assert_cmpint(json_object_get_int_member(returned(one), "next"), ==, 12);
	later = answer_object("{" KTHREADS ",\"arguments\":{\"start\":3}}");
	g_assert_cmpuint(json_array_get_length(kthreads_of(later)), ==, 1);
}

/* Collects all pages; each is a line of its own and short enough. */
static guint count_by_pages(const char *arguments, guint *ret_pages)
{
	gint64 start = 0, last = 0;
	guint count = 0;

	*ret_pages = 0;
	do {
		g_autofree char *request = g_strdup_printf(
			"{" KTHREADS ",\"arguments\":{\"start\":%" G_GINT64_FORMAT "%s}}", start,
			arguments);
		g_autoptr(JsonObject) object = answer_object(request);
		JsonArray *kthreads = kthreads_of(object);

		for (guint i = 0; i < json_array_get_length(kthreads); i++) {
			JsonObject *kthread = json_array_get_object_element(kthreads, i);

			g_assert_cmpint(json_object_get_int_member(kthread, "pid"), >, last);
			last = json_object_get_int_member(kthread, "pid");
		}
		count += json_array_get_length(kthreads);
		start = json_object_get_int_member(returned(object), "next");
		g_assert_true(start == 0 || start > last);
		++*ret_pages;
	} while (start != 0);
	return count;
}

static void test_pages(Fixture *fixture, gconstpointer unused)
{
	FakeTask task = fake_idle_worker;
	guint pages;

	(void)unused;
	for (task.pid = 1000; task.pid < 1600; task.pid++)
		fake_proc_put_task(fixture->root, &task);
	g_assert_cmpuint(count_by_pages("", &pages), ==, 600);
	g_assert_cmpuint(pages, >=, 2);
	g_assert_cmpuint(count_by_pages(",\"limit\":100", &pages), ==, 600);
	g_assert_cmpuint(pages, >=, 6);
	g_assert_cmpuint(count_by_pages(",\"stack\":true", &pages), ==, 600);
}

/* A stack of control characters: each takes six bytes in JSON, more than a page has. */
static void test_stack_too_long(Fixture *fixture, gconstpointer unused)
{
	g_autofree char *stack = g_strnfill(AGENT_KTHREAD_STACK_CAPACITY - 1, '\x01');
	FakeTask task = fake_idle_worker;
	g_autoptr(JsonObject) object = NULL;
	JsonObject *kthread;

	(void)unused;
	task.stack = stack;
	fake_proc_put_task(fixture->root, &task);
	object = answer_object("{" KTHREADS ",\"arguments\":{\"stack\":true}}");
	kthread = json_array_get_object_element(kthreads_of(object), 0);
	g_assert_false(json_object_has_member(kthread, "stack"));
	g_assert_cmpint(json_object_get_int_member(returned(object), "next"), ==, 0);
}

static void test_modules(Fixture *fixture, gconstpointer unused)
{
	(void)unused;
	fake_proc_put(fixture->root, "modules",
		      "loop 40960 2 - Live 0x0000000000000000\n"
		      "hvp_a 16384 -1 b,c, Unloading 0xffffffffc0000000 (OEK+)\n"
		      "no_count 1 - - Loading 0x0\n"
		      "broken\n");
	assert_answer("{" MODULES "}",
		      "{\"return\":{\"modules\":["
		      "{\"name\":\"loop\",\"size\":40960,\"refcount\":2,\"state\":\"Live\","
		      "\"taint\":\"\"},"
		      "{\"name\":\"hvp_a\",\"size\":16384,\"refcount\":-1,\"state\":\"Unloading\","
		      "\"taint\":\"OEK+\"},"
		      "{\"name\":\"no_count\",\"size\":1,\"refcount\":-1,\"state\":\"Loading\","
		      "\"taint\":\"\"}]}}");
}

static void test_many_modules(Fixture *fixture, gconstpointer unused)
{
	GString *text = g_string_new(NULL);
	g_autofree char *path = NULL;
	gint64 start = 0;
	guint count = 0;

	(void)unused;
	for (guint i = 0; i < 2000; i++)
		g_string_append_printf(text, "module_%u 1 0 - Live 0x0\n", i);
	fake_proc_put(fixture->root, "modules", text->str);
	g_string_free(text, TRUE);
	do {
		g_autofree char *request = g_strdup_printf(
			"{" MODULES ",\"arguments\":{\"start\":%" G_GINT64_FORMAT "}}", start);
		g_autoptr(JsonObject) object = answer_object(request);

		count += json_array_get_length(
			json_object_get_array_member(returned(object), "modules"));
		start = json_object_get_int_member_with_default(returned(object), "next", 0);
	} while (start != 0);
	g_assert_cmpuint(count, ==, 2000);
	path = g_build_filename(fixture->root, "modules", NULL);
	g_assert_cmpint(g_unlink(path), ==, 0);
	assert_refused("{" MODULES "}", "cannot be read");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(Fixture *fixture, gconstpointer unused);
	} cases[] = {
		{ "/protocol/simple", test_simple },
		{ "/protocol/info", test_info },
		{ "/protocol/requests-REFUSED", test_refuses },
		{ "/protocol/arguments-REFUSED", test_refuses_arguments },
		{ "/protocol/kthreads", test_kthreads },
		{ "/protocol/pages", test_pages },
		{ "/protocol/stack-too-long-LEFT-OUT", test_stack_too_long },
		{ "/protocol/modules", test_modules },
		{ "/protocol/many-modules", test_many_modules },
	};

	g_test_init(&argc, &argv, NULL);
	for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
		g_test_add(cases[i].name, Fixture, NULL, set_up, cases[i].run, tear_down);
	return g_test_run();
}
