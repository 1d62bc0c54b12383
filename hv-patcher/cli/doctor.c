/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "doctor/doctor.h"

#include <stdio.h>

#include "cli/options.h"
#include "cli/output.h"
#include "doctor/domain-facts.h"
#include "doctor/host-facts.h"
#include "doctor/qmp-facts.h"

static bool check_options(const HvpCli *cli, GError **error)
{
	if (cli->core_path != NULL)
		return hvp_error_set(
			error, HVP_ERROR_INVALID_ARGUMENT,
			"doctor: it takes --domain or --qmp, not --core: a dump needs nothing "
			"of the host");
	return cli->process == NULL ||
	       hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
			     "doctor: it takes --domain or --qmp, not --pid: a process alone tells "
			     "too little");
}

/* Each line of a remedy is escaped by itself: those are its own newlines. */
static char *escape_lines(const char *text, const char *indent)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	GString *whole = g_string_new(NULL);

	for (char **line = lines; *line != NULL; line++) {
		g_autofree char *escaped = hvp_cli_output_escape(*line);

		g_string_append_printf(whole, "%s%s%s", indent, escaped,
				       line[1] != NULL ? "\n" : "");
	}
	return g_string_free(whole, FALSE);
}

static void show_remedy_json(JsonBuilder *json, const char *remedy)
{
	g_autofree char *lines = remedy ? escape_lines(remedy, "") : NULL;

	json_builder_set_member_name(json, "remedy");
	if (lines == NULL)
		json_builder_add_null_value(json);
	else
		json_builder_add_string_value(json, lines);
}

static void show_json(const GPtrArray *items)
{
	JsonBuilder *json = hvp_json_new();

	hvp_json_bool(json, "healthy", hvp_doctor_is_healthy(items));
	hvp_json_begin_array(json, "items");
	for (guint i = 0; i < items->len; i++) {
		const HvpItem *item = g_ptr_array_index(items, i);

		json_builder_begin_object(json);
		hvp_json_text(json, "item", item->name);
		hvp_json_text(json, "state", hvp_item_state_name(item->state));
		hvp_json_text(json, "why", item->why);
		show_remedy_json(json, item->remedy);
		json_builder_end_object(json);
	}
	json_builder_end_array(json);
	hvp_cli_json_print(json);
}

/* What is fine could be better: that is said to those alone who want to hear more. */
static void show_table(const HvpCli *cli, const GPtrArray *items)
{
	static const HvpCliColumn columns[] = {
		{ "ITEM", 0 }, { "STATE", 0 }, { "WHAT", 0 }, { NULL }
	};
	HvpCliListing listing = hvp_cli_listing_begin(columns);

	for (guint i = 0; i < items->len; i++) {
		const HvpItem *item = g_ptr_array_index(items, i);
		GString *note = hvp_cli_listing_note(&listing);

		if (item->remedy != NULL && (item->state != HVP_ITEM_OK || cli->verbose)) {
			g_autofree char *lines = escape_lines(item->remedy, "    ");

			g_string_append_printf(note, "%s\n", lines);
		}
		hvp_cli_table_add(listing.table, item->name, hvp_item_state_name(item->state),
				  item->why, NULL);
	}
	hvp_cli_listing_print(&listing);
}

/* With a socket, libvirt is of no concern. */
static GPtrArray *examine(const HvpCli *cli)
{
	g_auto(HvpFactsHost) host = { 0 };
	g_auto(HvpFactsVm) vm = { 0 };
	bool has_vm = cli->qmp_path != NULL || cli->domain != NULL;

	hvp_host_facts_gather(&host);
	if (cli->qmp_path != NULL)
		hvp_qmp_facts_gather(cli->qmp_path, &vm);
	else
		hvp_domain_facts_gather(cli->connect_uri, cli->domain, &host, &vm);
	return hvp_doctor_examine(&host, has_vm ? &vm : NULL);
}

bool hvp_cli_doctor(HvpCli *cli, char **arguments, GError **error)
{
	GOptionEntry entries[] = { { NULL } };
	g_autoptr(GPtrArray) items = NULL;

	if (!hvp_cli_options_parse(cli, arguments, entries, NULL, error) ||
	    !check_options(cli, error))
		return false;
	items = examine(cli);
	cli->exit_status = hvp_doctor_get_exit_status(items);
	if (cli->output == HVP_CLI_JSON)
		show_json(items);
	else
		show_table(cli, items);
	return true;
}
