/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For docs/completion: what may come next, one candidate a line.
 *
 *   complete            commands
 *   complete COMMAND    the options of COMMAND
 *   complete accept     what --accept takes
 *   complete applied    what revert takes; nothing where there is no VM at hand
 *   complete installed  what uninstall takes
 *   complete running    running domains of libvirt; nothing where there is none
 *   complete ids        of hvpatchd's operations; nothing where it does not run
 */
#include "cli/answer.h"
#include "cli/bus.h"
#include "cli/options.h"
#include "cli/output.h"
#include "engine/check.h"
#include "engine/applied.h"
#include "patch/store.h"

#include <stdio.h>
#include <string.h>

static bool list_commands(void)
{
	for (const HvpCliCommand *command = hvp_cli_commands; command->name != NULL; command++)
		printf("%s\n", command->name);
	return true;
}

static bool list_items(void)
{
	for (const char *const *name = hvp_check_acceptable_items; *name != NULL; name++)
		printf("%s\n", *name);
	return true;
}

/* Whoever presses TAB wants no error messages. */
static bool list_applied(HvpCli *cli)
{
	g_autoptr(HvpTarget) target = hvp_cli_open(cli, NULL);
	g_autoptr(GPtrArray) patches = target ? hvp_applied_read_all(target, NULL) : NULL;

	for (guint i = 0; patches != NULL && i < patches->len; i++) {
		const HvpApplied *patch = g_ptr_array_index(patches, i);
		g_autofree char *name = hvp_cli_output_escape(patch->record->patch);

		printf("%s\n", name);
	}
	return true;
}

static bool list_installed(const HvpCli *cli)
{
	g_autoptr(HvpLibvirt) libvirt = hvp_libvirt_connect(cli->connect_uri, NULL);
	g_autoptr(HvpLibvirtDomain) domain = libvirt && cli->domain
						     ? hvp_libvirt_find(libvirt, cli->domain, NULL)
						     : NULL;
	g_autofree char *folder = hvp_store_default_folder();
	g_autoptr(GPtrArray)
		entries = domain ? hvp_store_list(folder, hvp_libvirt_domain_get_uuid(domain), NULL)
				 : NULL;

	for (guint i = 0; entries != NULL && i < entries->len; i++)
		printf("%s\n", ((const HvpStoreEntry *)g_ptr_array_index(entries, i))->name);
	return true;
}

static bool list_domains(const HvpCli *cli)
{
	g_autoptr(HvpLibvirt) libvirt = hvp_libvirt_connect(cli->connect_uri, NULL);
	g_autoptr(GPtrArray) domains = libvirt ? hvp_libvirt_list(libvirt, NULL) : NULL;

	for (guint i = 0; domains != NULL && i < domains->len; i++) {
		const HvpLibvirtDomain *domain = g_ptr_array_index(domains, i);
		g_autofree char *name = hvp_cli_output_escape(hvp_libvirt_domain_get_name(domain));

		if (hvp_libvirt_domain_get_id(domain) >= 0)
			printf("%s\n", name);
	}
	return true;
}

static bool list_ids(void)
{
	g_autoptr(HvpBus) bus = hvp_bus_open();
	g_autoptr(JsonNode)
		list = bus ? hvp_bus_get(bus, "ListOperations", g_variant_new("(s)", ""), NULL)
			   : NULL;
	JsonArray *operations = list != NULL && JSON_NODE_HOLDS_ARRAY(list)
					? json_node_get_array(list)
					: NULL;

	for (guint i = 0; operations != NULL && i < json_array_get_length(operations); i++) {
		const char *id = hvp_answer_text(hvp_answer_object_at(operations, i), "id");
		g_autofree char *escaped = hvp_cli_output_escape(id);

		printf("%s\n", escaped);
	}
	return true;
}

bool hvp_cli_complete(HvpCli *cli, char **arguments, GError **error)
{
	const HvpCliCommand *command;

	if (arguments[1] == NULL)
		return list_commands();
	if (strcmp(arguments[1], "accept") == 0)
		return list_items();
	if (strcmp(arguments[1], "applied") == 0)
		return list_applied(cli);
	if (strcmp(arguments[1], "installed") == 0)
		return list_installed(cli);
	if (strcmp(arguments[1], "running") == 0)
		return list_domains(cli);
	if (strcmp(arguments[1], "ids") == 0)
		return list_ids();
	command = hvp_cli_find_command(arguments[1]);
	if (command == NULL || command->run == hvp_cli_complete)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "complete: there is no list of '%s'", arguments[1]);
	cli->listing = true;
	return command->run(cli, arguments + 1, error);
}
