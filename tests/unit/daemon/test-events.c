/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/events.h"

#include <glib/gstdio.h>
#include <string.h>

#include "daemon/metrics.h"

typedef struct {
	char *folder;
	HvpEvents *events;
} Scene;

static void scene_open(Scene *self)
{
	g_autoptr(GError) error = NULL;

	self->events = hvp_events_new(self->folder, &error);
	g_assert_no_error(error);
}

static void set_up(Scene *self, gconstpointer data)
{
	(void)data;
	self->folder = g_dir_make_tmp("hvpatchd-XXXXXX", NULL);
	scene_open(self);
}

static void tear_down(Scene *self, gconstpointer data)
{
	g_autofree char *path = g_build_filename(self->folder, "events.json", NULL);

	(void)data;
	hvp_events_free(self->events);
	g_unlink(path);
	g_rmdir(self->folder);
	g_free(self->folder);
}

static void add_text(Scene *self, const char *uuid, gsize bytes)
{
	g_autofree char *text = g_strnfill(bytes, 'x');
	g_autoptr(JsonNode) node = json_node_init_string(json_node_alloc(), text);

	hvp_events_add(self->events, HVP_EVENT_DOMAIN, "id", uuid, uuid, node);
}

static bool may_view(const HvpEvent *event, gpointer data)
{
	return data == NULL || g_strcmp0(event->domain_uuid, data) == 0;
}

static guint count(Scene *self, guint64 since, guint limit, const char *only)
{
	g_autofree char *text = hvp_events_read(self->events, since, limit, may_view,
						(gpointer)only);
	g_autoptr(JsonNode) node = json_from_string(text, NULL);

	g_assert_nonnull(node);
	return json_array_get_length(json_node_get_array(node));
}

static void test_read(Scene *self, gconstpointer data)
{
	(void)data;
	g_assert_cmpuint(hvp_events_get_oldest(self->events), ==, 1);
	g_assert_cmpuint(hvp_events_get_newest(self->events), ==, 0);
	g_assert_cmpuint(count(self, 0, 10, NULL), ==, 0);
	for (guint i = 0; i < 10; i++)
		add_text(self, i % 2 ? "odd" : "even", 1);
	g_assert_cmpuint(count(self, 0, 100, NULL), ==, 10);
	g_assert_cmpuint(count(self, 0, 3, NULL), ==, 3);
	g_assert_cmpuint(count(self, 7, 100, NULL), ==, 3);
	g_assert_cmpuint(count(self, 10, 100, NULL), ==, 0);
	g_assert_cmpuint(count(self, G_MAXUINT64, 100, NULL), ==, 0);
	g_assert_cmpuint(count(self, 0, 100, "odd"), ==, 5);
	g_assert_cmpuint(count(self, 0, 2, "odd"), ==, 2);
}

static void test_bounded(Scene *self, gconstpointer data)
{
	(void)data;
	for (guint i = 0; i < HVP_EVENTS_MAX + 10; i++)
		add_text(self, "a", 1);
	g_assert_cmpuint(hvp_events_get_oldest(self->events), ==, 11);
	g_assert_cmpuint(count(self, 0, 5000, NULL), ==, HVP_EVENTS_MAX_READ);
	/* A few large ones push all others out. */
	for (guint i = 0; i < 20; i++)
		add_text(self, "a", 1 << 20);
	g_assert_cmpuint(hvp_events_get_newest(self->events) - hvp_events_get_oldest(self->events),
			 <, 16);
	g_assert_cmpuint(count(self, 0, 5000, NULL), <, 17);
}

static void test_restart_GOES_UP(Scene *self, gconstpointer data)
{
	guint64 newest;

	(void)data;
	for (guint start = 0; start < 3; start++) {
		add_text(self, "a", 1);
		newest = hvp_events_get_newest(self->events);
		hvp_events_free(self->events);
		scene_open(self);
		g_assert_cmpuint(hvp_events_get_newest(self->events), >, newest);
	}
}

/* --- metrics --- */

static void test_labels(void)
{
	static const struct {
		const char *value;
		const char *escaped;
	} cases[] = {
		{ "plain-1", "plain-1" },
		{ "a\"b", "a\\\"b" },
		{ "a\\b", "a\\\\b" },
		{ "a\nb 1\n", "a\\\\x0ab 1\\\\x0a" },
		{ "\xff\x1b[0m", "\\\\xff\\\\x1b[0m" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *escaped = hvp_metrics_escape(cases[i].value);

		g_assert_cmpstr(escaped, ==, cases[i].escaped);
	}
}

static void test_metrics(void)
{
	static const HvpMetricsDomain none = { NULL };
	const HvpMetricsNow now = { .queued = 3, .patched = &none };
	g_autoptr(HvpMetrics) metrics = hvp_metrics_new();
	g_autofree char *text = NULL;

	/* However many names a guest has, memory has an end. */
	for (guint i = 0; i < 5000; i++) {
		g_autofree char *name = g_strdup_printf("function_%u", i);

		hvp_metrics_count_blocker(metrics, name);
	}
	hvp_metrics_count_operation(metrics, "apply", "failed", "BUSY");
	hvp_metrics_count_operation(metrics, "apply", "failed", "BUSY");
	hvp_metrics_observe_pause(metrics, 85);
	hvp_metrics_observe_pause(metrics, 2000000);
	text = hvp_metrics_to_text(metrics, &now);
	g_assert_nonnull(strstr(text, "\nhvpatch_blockers_total{function=\"other\"} 4744\n"));
	g_assert_nonnull(strstr(text, "\nhvpatch_operations_total{verb=\"apply\","
				      "result=\"failed\",code=\"BUSY\"} 2\n"));
	g_assert_nonnull(strstr(text, "\nhvpatch_pause_seconds_bucket{le=\"5e-05\"} 0\n"));
	g_assert_nonnull(strstr(text, "\nhvpatch_pause_seconds_bucket{le=\"0.0001\"} 1\n"));
	g_assert_nonnull(strstr(text, "\nhvpatch_pause_seconds_bucket{le=\"1\"} 1\n"));
	g_assert_nonnull(strstr(text, "\nhvpatch_pause_seconds_bucket{le=\"+Inf\"} 2\n"));
	g_assert_nonnull(strstr(text, "\nhvpatch_pause_seconds_sum 2.000085\n"));
	g_assert_nonnull(strstr(text, "\nhvpatch_operations_queued 3\n"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add("/events/read", Scene, NULL, set_up, test_read, tear_down);
	g_test_add("/events/bounded", Scene, NULL, set_up, test_bounded, tear_down);
	g_test_add("/events/restart-GOES-UP", Scene, NULL, set_up, test_restart_GOES_UP, tear_down);
	g_test_add_func("/metrics/labels", test_labels);
	g_test_add_func("/metrics/text", test_metrics);
	return g_test_run();
}
