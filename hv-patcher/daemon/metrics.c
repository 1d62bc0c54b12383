/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/metrics.h"

#include <string.h>

#include "base/text.h"

#define MAX_SERIES 256U
#define MAX_LABEL_BYTES 256
#define OTHER "other"

/* Upper bounds in seconds. */
static const double bounds[] = { 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
				 0.01,	  0.025,  0.05,	   0.1,	   0.25,  0.5,	  1 };

struct HvpMetrics {
	guint64 counters[HVP_METRICS_COUNTER_COUNT];
	GHashTable *operations; /* labels, ready to print: guint64 */
	GHashTable *blockers;	/* likewise */
	guint64 pauses[G_N_ELEMENTS(bounds) + 1];
	guint64 pause_count;
	double pause_seconds;
};

static const struct {
	const char *name;
	const char *help;
} counters[] = {
	[HVP_METRICS_ATTEMPTS] = { "hvpatch_attempts_total", "Attempts to switch a VM over." },
	[HVP_METRICS_WORKER_CRASHES] = { "hvpatch_worker_crashes_total",
					 "Workers that had no result or had to be ended." },
	[HVP_METRICS_RECOVERIES] = { "hvpatch_journal_recoveries_total",
				     "Journals of interrupted operations that were finished." },
	[HVP_METRICS_EVENTS] = { "hvpatch_events_total", "Events since the start." },
};

HvpMetrics *hvp_metrics_new(void)
{
	HvpMetrics *self = g_new0(HvpMetrics, 1);

	self->operations = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	self->blockers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	return self;
}

void hvp_metrics_free(HvpMetrics *self)
{
	if (self == NULL)
		return;
	g_hash_table_unref(self->operations);
	g_hash_table_unref(self->blockers);
	g_free(self);
}

char *hvp_metrics_escape(const char *value)
{
	g_autofree char *plain = hvp_text_escape(value, HVP_TEXT_TERMINATED, MAX_LABEL_BYTES);
	GString *text = g_string_new(NULL);

	/* What is left is printable; of that the format gives these two a meaning. */
	for (const char *at = plain; *at != '\0'; at++) {
		if (*at == '"' || *at == '\\')
			g_string_append_c(text, '\\');
		g_string_append_c(text, *at);
	}
	return g_string_free(text, FALSE);
}

static void increase(GHashTable *series, const char *labels, const char *other)
{
	guint64 *count = g_hash_table_lookup(series, labels);

	if (count == NULL && g_hash_table_size(series) >= MAX_SERIES) {
		labels = other;
		count = g_hash_table_lookup(series, labels);
	}
	if (count == NULL) {
		count = g_new0(guint64, 1);
		g_hash_table_insert(series, g_strdup(labels), count);
	}
	(*count)++;
}

void hvp_metrics_count(HvpMetrics *self, HvpMetricsCounter counter, guint64 by)
{
	self->counters[counter] += by;
}

void hvp_metrics_count_operation(HvpMetrics *self, const char *verb, const char *result,
				 const char *code)
{
	g_autofree char *safe_code = hvp_metrics_escape(code);
	g_autofree char *labels = g_strdup_printf("verb=\"%s\",result=\"%s\",code=\"%s\"", verb,
						  result, safe_code);

	increase(self->operations, labels,
		 "verb=\"" OTHER "\",result=\"" OTHER "\",code=\"" OTHER "\"");
}

void hvp_metrics_count_blocker(HvpMetrics *self, const char *function)
{
	g_autofree char *safe = hvp_metrics_escape(function);
	g_autofree char *labels = g_strdup_printf("function=\"%s\"", safe);

	increase(self->blockers, labels, "function=\"" OTHER "\"");
}

void hvp_metrics_observe_pause(HvpMetrics *self, gint64 usec)
{
	double seconds = (double)usec / G_USEC_PER_SEC;
	guint i = 0;

	while (i < G_N_ELEMENTS(bounds) && seconds > bounds[i])
		i++;
	self->pauses[i]++;
	self->pause_count++;
	self->pause_seconds += seconds;
}

static void begin(GString *text, const char *name, const char *type, const char *help)
{
	g_string_append_printf(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void add_gauge(GString *text, const char *name, const char *help, guint64 value)
{
	begin(text, name, "gauge", help);
	g_string_append_printf(text, "%s %" G_GUINT64_FORMAT "\n", name, value);
}

static void add_series(GString *text, const char *name, const char *help, GHashTable *series)
{
	g_autoptr(GList) labels = g_list_sort(g_hash_table_get_keys(series), (GCompareFunc)strcmp);

	begin(text, name, "counter", help);
	for (GList *label = labels; label != NULL; label = label->next)
		g_string_append_printf(text, "%s{%s} %" G_GUINT64_FORMAT "\n", name,
				       (const char *)label->data,
				       *(guint64 *)g_hash_table_lookup(series, label->data));
}

static void add_pauses(const HvpMetrics *self, GString *text)
{
	char number[G_ASCII_DTOSTR_BUF_SIZE];
	guint64 sum = 0;

	begin(text, "hvpatch_pause_seconds", "histogram",
	      "How long a VM stood in the stop in which it was switched over.");
	for (guint i = 0; i < G_N_ELEMENTS(bounds); i++) {
		sum += self->pauses[i];
		g_ascii_formatd(number, sizeof number, "%g", bounds[i]);
		g_string_append_printf(
			text, "hvpatch_pause_seconds_bucket{le=\"%s\"} %" G_GUINT64_FORMAT "\n",
			number, sum);
	}
	g_ascii_formatd(number, sizeof number, "%.6f", self->pause_seconds);
	g_string_append_printf(text,
			       "hvpatch_pause_seconds_bucket{le=\"+Inf\"} %" G_GUINT64_FORMAT "\n"
			       "hvpatch_pause_seconds_sum %s\n"
			       "hvpatch_pause_seconds_count %" G_GUINT64_FORMAT "\n",
			       self->pause_count, number, self->pause_count);
}

static void add_patched(GString *text, const HvpMetricsDomain *domains)
{
	begin(text, "hvpatch_domain_patches", "gauge", "Patches in force in a domain.");
	for (; domains->domain != NULL; domains++) {
		g_autofree char *name = hvp_metrics_escape(domains->domain);
		g_autofree char *uuid = hvp_metrics_escape(domains->uuid);

		g_string_append_printf(text,
				       "hvpatch_domain_patches{domain=\"%s\",uuid=\"%s\"} %u\n",
				       name, uuid, domains->patches);
	}
}

char *hvp_metrics_to_text(const HvpMetrics *self, const HvpMetricsNow *now)
{
	GString *text = g_string_new(NULL);

	begin(text, "hvpatch_build_info", "gauge", "The version that runs.");
	g_string_append(text, "hvpatch_build_info{version=\"" HVP_VERSION "\"} 1\n");
	add_series(text, "hvpatch_operations_total", "Operations that have ended.",
		   self->operations);
	add_gauge(text, "hvpatch_operations_queued", "Operations that wait for their turn.",
		  now->queued);
	add_gauge(text, "hvpatch_operations_running", "Operations at work.", now->running);
	add_pauses(self, text);
	for (guint i = 0; i < HVP_METRICS_COUNTER_COUNT; i++) {
		begin(text, counters[i].name, "counter", counters[i].help);
		g_string_append_printf(text, "%s %" G_GUINT64_FORMAT "\n", counters[i].name,
				       self->counters[i]);
	}
	add_series(text, "hvpatch_blockers_total", "Tasks that were in the way, by function.",
		   self->blockers);
	add_gauge(text, "hvpatch_domains", "Domains that are known.", now->domains);
	add_gauge(text, "hvpatch_patched_domains", "Domains with a patch in force.",
		  now->patched_domains);
	add_gauge(text, "hvpatch_patches", "Patches that are stored.", now->stored_patches);
	add_patched(text, now->patched);
	return g_string_free(text, FALSE);
}
