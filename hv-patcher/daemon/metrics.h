/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers for Prometheus, in its text format 0.0.4. Label values come from guests and users: they
 * are escaped, and of each name only so many are told apart.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct HvpMetrics HvpMetrics;

typedef enum {
	HVP_METRICS_ATTEMPTS,
	HVP_METRICS_WORKER_CRASHES,
	HVP_METRICS_RECOVERIES,
	HVP_METRICS_EVENTS,
	HVP_METRICS_COUNTER_COUNT,
} HvpMetricsCounter;

/* How things are at the moment of asking. */
typedef struct {
	const char *domain; /* NULL: the last */
	const char *uuid;
	guint patches;
} HvpMetricsDomain;

typedef struct {
	guint queued;
	guint running;
	guint domains;
	guint patched_domains;
	guint stored_patches;
	const HvpMetricsDomain *patched; /* ended by an empty one */
} HvpMetricsNow;

HvpMetrics *hvp_metrics_new(void);
void hvp_metrics_free(HvpMetrics *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpMetrics, hvp_metrics_free)

void hvp_metrics_count(HvpMetrics *self, HvpMetricsCounter counter, guint64 by);
void hvp_metrics_count_operation(HvpMetrics *self, const char *verb, const char *result,
				 const char *code);
/* A task in @function was in the way. */
void hvp_metrics_count_blocker(HvpMetrics *self, const char *function);
void hvp_metrics_observe_pause(HvpMetrics *self, gint64 usec);

/* The whole text; the caller's. */
char *hvp_metrics_to_text(const HvpMetrics *self, const HvpMetricsNow *now);

/* @value fit for a label, without the quotes; the caller's. */
char *hvp_metrics_escape(const char *value);
