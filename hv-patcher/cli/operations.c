/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hvpatchd's operations: all that it remembers, or one of them, once or until it has ended. */
#include <stdio.h>

#include "cli/answer.h"
#include "cli/bus.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/remote.h"

#define WATCH_USEC (200 * 1000)

static const HvpCliColumn columns[] = {
	{ "ID", 0 },	  { "DOMAIN", 0 }, { "VERB", 0 }, { "PATCH", 0 }, { "STATE", 0 },
	{ "CREATED", 0 }, { "BY", 0 },	   { "WHY", 0 },  { NULL },
};

/* The step that it is at, or what it failed of. */
static const char *describe(JsonObject *operation)
{
	const char *detail = hvp_answer_text(hvp_answer_object(operation, "error"), "detail");

	return detail ? detail : hvp_answer_text(operation, "step");
}

static void add_line(struct libscols_table *table, JsonObject *operation)
{
	hvp_cli_table_add(
		table, hvp_answer_text(operation, "id"), hvp_answer_text(operation, "domain_name"),
		hvp_answer_text(operation, "verb"), hvp_answer_text(operation, "name"),
		hvp_answer_text(operation, "state"), hvp_answer_text(operation, "created_at"),
		hvp_answer_text(operation, "principal"), describe(operation), NULL);
}

static void show_table(JsonArray *operations)
{
	struct libscols_table *table = hvp_cli_table_new(columns);

	if (json_array_get_length(operations) == 0)
		printf("there are no operations\n");
	for (guint i = 0; i < json_array_get_length(operations); i++)
		add_line(table, hvp_answer_object_at(operations, i));
	hvp_cli_table_print(table);
}

/* --- one --- */

static void show_one(const HvpCli *cli, JsonNode *operation)
{
	struct libscols_table *table;

	if (cli->output == HVP_CLI_JSON) {
		hvp_cli_json_print_node(json_node_ref(operation));
		return;
	}
	table = hvp_cli_table_new(columns);
	add_line(table, json_node_get_object(operation));
	hvp_cli_table_print(table);
}

/* While it goes on: a line, or an object on a line, for each change. False: nobody reads them. */
static bool show_change(const HvpCli *cli, JsonNode *operation, char **last)
{
	JsonObject *object = json_node_get_object(operation);
	const char *step = describe(object);
	const char *colon = step != NULL && step[0] != 0 ? ": " : "";
	g_autofree char *now = g_strdup_printf("%s%s%s", hvp_answer_text(object, "state"), colon,
					       step ? step : "");
	g_autofree char *escaped = hvp_cli_output_escape(now);

	if (g_strcmp0(*last, now) == 0)
		return true;
	if (cli->output == HVP_CLI_JSON)
		hvp_cli_json_print_node_line(json_node_ref(operation));
	else
		printf("%s\n", escaped);
	g_free(*last);
	*last = g_steal_pointer(&now);
	return fflush(stdout) == 0;
}

static JsonNode *read_one(HvpBus *bus, const char *id, GError **error)
{
	g_autoptr(JsonNode)
		operation = hvp_bus_get(bus, "GetOperation", g_variant_new("(s)", id), error);

	if (operation != NULL && !JSON_NODE_HOLDS_OBJECT(operation)) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "GetOperation: it is no operation");
		return NULL;
	}
	return g_steal_pointer(&operation);
}

static bool watch(HvpCli *cli, HvpBus *bus, const char *id, GError **error)
{
	g_autofree char *last = NULL;

	while (true) {
		g_autoptr(JsonNode) operation = read_one(bus, id, error);
		JsonObject *object = operation ? json_node_get_object(operation) : NULL;

		if (operation == NULL)
			return false;
		if (!show_change(cli, operation, &last) ||
		    hvp_remote_is_end(hvp_answer_text(object, "state")))
			return true;
		g_usleep(WATCH_USEC);
	}
}

static bool show_by_id(HvpCli *cli, HvpBus *bus, const char *id, bool watches, GError **error)
{
	g_autoptr(JsonNode) operation = NULL;

	if (watches)
		return watch(cli, bus, id, error);
	operation = read_one(bus, id, error);
	if (operation == NULL)
		return false;
	show_one(cli, operation);
	return true;
}

bool hvp_cli_operations(HvpCli *cli, char **arguments, GError **error)
{
	gboolean watches = FALSE;
	GOptionEntry entries[] = {
		{ "watch", 0, 0, G_OPTION_ARG_NONE, &watches,
		  "tell what becomes of the one until it has ended", NULL },
		{ NULL },
	};
	g_autoptr(HvpBus) bus = NULL;
	g_autoptr(JsonNode) list = NULL;
	g_autofree char *id = NULL;

	if (!hvp_cli_options_parse(cli, arguments, entries, &id, error) ||
	    !hvp_cli_bus_check_options(cli, error))
		return false;
	if (watches && id == NULL)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "operations: --watch: which one? its ID is missing");
	bus = hvp_cli_bus_require(error);
	if (bus == NULL)
		return false;
	if (id != NULL)
		return show_by_id(cli, bus, id, watches, error);
	list = hvp_bus_get(bus, "ListOperations", g_variant_new("(s)", ""), error);
	return list != NULL && hvp_cli_bus_show_list(cli, list, "operations", show_table, error);
}
