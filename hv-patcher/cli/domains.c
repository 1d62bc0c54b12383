/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The domains that hvpatchd knows. Unlike list it looks into none of them, and needs no root. */
#include "cli/answer.h"
#include "cli/bus.h"
#include "cli/options.h"
#include "cli/output.h"

static char *join_patches(JsonObject *domain)
{
	JsonArray *patches = hvp_answer_array(domain, "patches");
	GString *text = g_string_new(NULL);

	for (guint i = 0; patches != NULL && i < json_array_get_length(patches); i++) {
		JsonObject *patch = hvp_answer_object_at(patches, i);
		const char *name = hvp_answer_text(patch, "name");

		g_string_append_printf(text, "%s%s", i > 0 ? ", " : "", name ? name : "?");
		if (!hvp_answer_bool(patch, "verified"))
			g_string_append_printf(text, " (%s)", hvp_answer_text(patch, "state"));
	}
	return g_string_free(text, FALSE);
}

/* Nothing where that is not known yet. */
static char *describe_patchable(JsonObject *domain)
{
	g_autofree char *reasons = hvp_answer_join(domain, "reasons", "; ");
	JsonNode *node = json_object_get_member(domain, "patchable");
	const char *verdict = node == NULL || JSON_NODE_HOLDS_NULL(node) ? ""
			      : hvp_answer_bool(domain, "patchable")	 ? "yes"
									 : "no";

	return g_strconcat(verdict, verdict[0] != 0 && reasons[0] != 0 ? ": " : "", reasons, NULL);
}

static void add_line(struct libscols_table *table, JsonObject *domain)
{
	JsonObject *kernel = hvp_answer_object(domain, "kernel");
	g_autofree char *patches = join_patches(domain);
	g_autofree char *patchable = describe_patchable(domain);

	hvp_cli_table_add(table, hvp_answer_text(domain, "name"), hvp_answer_text(domain, "uuid"),
			  hvp_answer_text(domain, "state"), hvp_answer_text(kernel, "release"),
			  patches, patchable, hvp_answer_text(domain, "operation"), NULL);
}

static void show_table(JsonArray *domains)
{
	static const HvpCliColumn columns[] = {
		{ "NAME", 0 },	  { "UUID", 0 },      { "STATE", 0 },	  { "KERNEL", 0 },
		{ "PATCHES", 0 }, { "PATCHABLE", 0 }, { "OPERATION", 0 }, { NULL },
	};
	struct libscols_table *table = hvp_cli_table_new(columns);

	if (json_array_get_length(domains) == 0)
		printf("there are no domains\n");
	for (guint i = 0; i < json_array_get_length(domains); i++) {
		JsonObject *domain = hvp_answer_object_at(domains, i);

		if (domain != NULL)
			add_line(table, domain);
	}
	hvp_cli_table_print(table);
}

bool hvp_cli_domains(HvpCli *cli, char **arguments, GError **error)
{
	GOptionEntry entries[] = { { NULL } };
	g_autoptr(HvpBus) bus = NULL;
	g_autoptr(JsonNode) list = NULL;

	if (!hvp_cli_options_parse(cli, arguments, entries, NULL, error) ||
	    !hvp_cli_bus_check_options(cli, error))
		return false;
	bus = hvp_cli_bus_require(error);
	list = bus ? hvp_bus_get(bus, "ListDomains", NULL, error) : NULL;
	return list != NULL && hvp_cli_bus_show_list(cli, list, "domains", show_table, error);
}
