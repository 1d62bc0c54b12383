/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the front end counts of itself, for /metrics. */
#pragma once

#include <glib.h>

typedef struct {
	guint connections;	       /* now */
	guint event_readers;	       /* now */
	guint64 event_readers_dropped; /* they did not take what they were sent, or fell behind */
	guint64 connections_refused;   /* one too many, or a certificate that is not good */
	guint64 accept_failures;       /* such as no descriptor left */
	guint64 answers[6];	       /* by the first digit of their status */
} HvpCounters;

/* In Prometheus' text format, owned by the caller. */
char *hvp_counters_text(const HvpCounters *self);
