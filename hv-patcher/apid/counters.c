/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/counters.h"

static void add(GString *text, const char *name, const char *type, const char *help, guint64 value)
{
	g_string_append_printf(text,
			       "# HELP hvpatch_api_%s %s\n# TYPE hvpatch_api_%s %s\n"
			       "hvpatch_api_%s %" G_GUINT64_FORMAT "\n",
			       name, help, name, type, name, value);
}

char *hvp_counters_text(const HvpCounters *self)
{
	GString *text = g_string_new(NULL);

	add(text, "connections", "gauge", "Connections of clients.", self->connections);
	add(text, "event_readers", "gauge", "Clients that follow events.", self->event_readers);
	add(text, "event_readers_dropped_total", "counter",
	    "Readers of events that were too slow and disconnected.", self->event_readers_dropped);
	add(text, "connections_refused_total", "counter",
	    "Connections beyond a limit or without a good certificate.", self->connections_refused);
	add(text, "accept_failures_total", "counter", "Connections that could not be accepted.",
	    self->accept_failures);
	g_string_append(text, "# HELP hvpatch_api_answers_total Answers by class of their status.\n"
			      "# TYPE hvpatch_api_answers_total counter\n");
	for (guint i = 2; i < G_N_ELEMENTS(self->answers); i++)
		g_string_append_printf(
			text, "hvpatch_api_answers_total{status=\"%uxx\"} %" G_GUINT64_FORMAT "\n",
			i, self->answers[i]);
	return g_string_free(text, FALSE);
}
