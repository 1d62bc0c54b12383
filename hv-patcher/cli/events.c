/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What hvpatchd tells, a line or an object on a line for each event. */
#include <stdio.h>

#include "cli/answer.h"
#include "cli/bus.h"
#include "cli/options.h"
#include "cli/output.h"

#define AT_A_TIME 500U
#define FOLLOW_USEC (300 * 1000)
/* What a number of JSON holds exactly. */
#define MAX_SEQUENCE ((G_GUINT64_CONSTANT(1) << 53) - 1)

typedef struct {
	HvpCli *cli;
	HvpBus *bus;
	guint64 since;
	guint64 newest;
} Reader;

/* The document in a few words. */
static char *describe(JsonObject *event)
{
	JsonObject *document = hvp_answer_object(event, "document");
	const char *const words[] = {
		hvp_answer_text(document, "domain_name"),
		hvp_answer_text(document, "verb"),
		hvp_answer_text(document, "name"),
		hvp_answer_text(document, "state"),
		hvp_answer_text(document, "step"),
		hvp_answer_text(hvp_answer_object(document, "error"), "detail"),
	};
	GString *text = g_string_new(NULL);

	for (guint i = 0; i < G_N_ELEMENTS(words); i++)
		if (words[i] != NULL && words[i][0] != 0)
			g_string_append_printf(text, " %s", words[i]);
	return g_string_free(text, FALSE);
}

static void show_line(JsonObject *event)
{
	g_autofree char *words = describe(event);
	g_autofree char *text = g_strdup_printf("%s %s %s%s", hvp_answer_text(event, "at"),
						hvp_answer_text(event, "type"),
						hvp_answer_text(event, "id"), words);
	g_autofree char *escaped = hvp_cli_output_escape(text);

	printf("%s\n", escaped);
}

static void show(Reader *self, JsonArray *events)
{
	for (guint i = 0; i < json_array_get_length(events); i++) {
		JsonObject *event = hvp_answer_object_at(events, i);

		if (event == NULL)
			continue;
		self->since = MAX(self->since, (guint64)hvp_answer_integer(event, "seq"));
		if (self->cli->output == HVP_CLI_JSON)
			hvp_cli_json_print_node_line(
				json_node_ref(json_array_get_element(events, i)));
		else
			show_line(event);
	}
}

/* Those that are no longer there are not passed over in silence. */
static void tell_gap(Reader *self, guint64 oldest, guint64 newest)
{
	/* A daemon that has begun anew counts on; one that lost its state does not. */
	if (newest < self->since) {
		fprintf(stderr, "hvpatch: hvpatchd counts its events from the beginning again\n");
		self->since = 0;
	} else if (oldest > self->since + 1 && self->since > 0) {
		fprintf(stderr,
			"hvpatch: events %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " are lost\n",
			self->since + 1, oldest - 1);
	}
}

/* *@ret_count: of those that came. */
static bool read_some(Reader *self, guint *ret_count, GError **error)
{
	g_autoptr(GVariant)
		reply = hvp_bus_call(self->bus, "GetEvents",
				     g_variant_new("(tu)", self->since, AT_A_TIME), "(stt)", error);
	g_autoptr(JsonNode) events = NULL;
	const char *text;
	guint64 oldest;

	if (reply == NULL)
		return false;
	g_variant_get(reply, "(&stt)", &text, &oldest, &self->newest);
	events = hvp_answer_parse(text, "GetEvents", error);
	if (events == NULL)
		return false;
	if (!JSON_NODE_HOLDS_ARRAY(events))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "GetEvents: it is no list");
	tell_gap(self, oldest, self->newest);
	*ret_count = json_array_get_length(json_node_get_array(events));
	show(self, json_node_get_array(events));
	/* Those that this user may not see are passed over; the daemon may give fewer at a time. */
	if (*ret_count == 0)
		self->since = MAX(self->since, self->newest);
	return true;
}

static bool run(Reader *self, bool follows, GError **error)
{
	guint count = 0;

	do {
		if (!read_some(self, &count, error))
			return false;
		if (fflush(stdout) != 0)
			return true;
		if (count == 0 && follows)
			g_usleep(FOLLOW_USEC);
	} while (follows || count > 0);
	return true;
}

bool hvp_cli_events(HvpCli *cli, char **arguments, GError **error)
{
	gboolean follows = FALSE;
	g_autofree char *since = NULL;
	GOptionEntry entries[] = {
		{ "follow", 'f', 0, G_OPTION_ARG_NONE, &follows, "go on with those to come", NULL },
		{ "since", 0, 0, G_OPTION_ARG_STRING, &since,
		  "only those behind that number (0: all that are still there)", "N" },
		{ NULL },
	};
	Reader reader = { .cli = cli };
	g_autoptr(HvpBus) bus = NULL;

	if (!hvp_cli_options_parse(cli, arguments, entries, NULL, error) ||
	    !hvp_cli_bus_check_options(cli, error))
		return false;
	if (since != NULL &&
	    !hvp_cli_options_count("--since", since, 0, MAX_SEQUENCE, &reader.since, error))
		return false;
	reader.bus = bus = hvp_cli_bus_require(error);
	return bus != NULL && run(&reader, follows, error);
}
