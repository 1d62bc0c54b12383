/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/applied.h"

#include "cli/note.h"
#include "cli/options.h"
#include "cli/remote-show.h"
#include "cli/show.h"
#include "document/status-document.h"

static char *join_names(const HvpRecord *record)
{
	GString *names = g_string_new(NULL);

	for (guint i = 0; i < record->sites->len; i++)
		g_string_append_printf(names, "%s%s", i > 0 ? ", " : "",
				       g_array_index(record->sites, HvpRecordSite, i).name);
	return g_string_free(names, FALSE);
}

static char *join_objects(HvpTarget *target, const HvpApplied *patch)
{
	GString *text = g_string_new(NULL);

	for (guint i = 0; patch->klp != NULL && i < hvp_klp_patch_count(patch->klp); i++) {
		const HvpKlpObject *object = hvp_klp_patch_get(patch->klp, i);
		HvpCoverage coverage = hvp_applied_coverage(patch, target, object);

		g_string_append_printf(text, "%s%s: %s", i > 0 ? ", " : "",
				       object->name ? object->name : "vmlinux",
				       hvp_applied_coverage_name(coverage));
	}
	return g_string_free(text, FALSE);
}

static void add_line(struct libscols_table *table, HvpTarget *target, const HvpApplied *patch)
{
	const HvpRecord *record = patch->record;
	g_autofree char *applied = hvp_cli_output_time(record->applied_usec);
	g_autofree char *names = join_names(record);
	g_autofree char *objects = join_objects(target, patch);
	g_autofree char *state = g_strdup_printf("%s%s%s", hvp_record_state_name(patch->state),
						 patch->why ? ": " : "",
						 patch->why ? patch->why : "");

	hvp_cli_table_add(table, record->patch, applied,
			  patch->state == HVP_RECORD_SWITCHED ? "yes" : "no", state, objects, names,
			  record->sha256, NULL);
}

static void show_table(HvpTarget *target, const GPtrArray *patches)
{
	struct libscols_table *table = hvp_cli_show_patches_table();

	for (guint i = 0; i < patches->len; i++)
		add_line(table, target, g_ptr_array_index(patches, i));
	if (patches->len == 0)
		printf("no patch is applied\n");
	hvp_cli_table_print(table);
}

bool hvp_cli_status(HvpCli *cli, char **arguments, GError **error)
{
	GOptionEntry entries[] = { { NULL } };
	g_autoptr(HvpTarget) target = NULL;
	g_autoptr(GPtrArray) patches = NULL;

	if (!hvp_cli_options_parse(cli, arguments, entries, NULL, error))
		return false;
	if (hvp_remote_show_status(cli))
		return true;
	target = hvp_cli_open(cli, error);
	if (target == NULL)
		return false;
	patches = hvp_applied_read_all(target, error);
	if (patches == NULL)
		return false;
	if (cli->output == HVP_CLI_JSON)
		hvp_cli_json_print_node(hvp_status_document_new(target, patches));
	else
		show_table(target, patches);
	cli->exit_status = hvp_status_document_exit_status(patches);
	hvp_cli_note_update(cli, target, NULL, NULL, NULL);
	return true;
}
