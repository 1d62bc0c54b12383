/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All domains of a libvirt connection. What cannot be looked at says why, and does not keep the
 * others from being listed.
 */
#include "cli/options.h"
#include "cli/output.h"
#include "document/patchable.h"
#include "engine/applied.h"

/* What is known of one domain. */
typedef struct {
	const HvpLibvirtDomain *domain;
	const char *state;
	char *kernel;	     /* NULL: not looked into */
	const char *backend; /* likewise */
	GPtrArray *patches;  /* HvpApplied; NULL: not known */
	HvpPatchable may; /* its reasons are NULL where nothing was asked */
} Entry;

static void entry_free(gpointer data)
{
	Entry *self = data;

	if (self->patches != NULL)
		g_ptr_array_unref(self->patches);
	hvp_patchable_clear(&self->may);
	g_free(self->kernel);
	g_free(self);
}

static bool look_into(Entry *self, const HvpCli *cli, const HvpLibvirt *libvirt, GError **error)
{
	g_autoptr(HvpTarget) target = hvp_cli_open_domain(cli, libvirt, self->domain, error);

	if (target == NULL)
		return false;
	self->kernel = g_strdup(hvp_kernel_get_release(target->kernel));
	self->backend = hvp_patchable_backend(target);
	self->patches = hvp_applied_read_all(target, error);
	return self->patches != NULL && hvp_patchable_read(target, &self->may, error);
}

static void set_reason(Entry *self, const GError *reason)
{
	self->may = (HvpPatchable){ false, g_ptr_array_new_with_free_func(g_free) };
	g_ptr_array_add(self->may.reasons, hvp_cli_output_escape(reason->message));
}

static Entry *entry_new(const HvpCli *cli, const HvpLibvirt *libvirt,
			const HvpLibvirtDomain *domain, bool states_only)
{
	Entry *self = g_new0(Entry, 1);
	g_autoptr(GError) reason = NULL;

	self->domain = domain;
	self->state = "no state";
	if (!hvp_libvirt_domain_read_state(domain, &self->state, &reason) ||
	    (!states_only && !look_into(self, cli, libvirt, &reason)))
		set_reason(self, reason);
	return self;
}

/* --- JSON --- */

static void show_id_json(JsonBuilder *json, int id)
{
	if (id >= 0)
		hvp_json_integer(json, "id", id);
	else
		hvp_json_text(json, "id", NULL);
}

static void show_patches_json(JsonBuilder *json, const GPtrArray *patches)
{
	hvp_json_begin_array(json, "patches");
	for (guint i = 0; patches != NULL && i < patches->len; i++) {
		const HvpApplied *patch = g_ptr_array_index(patches, i);

		json_builder_begin_object(json);
		hvp_json_text(json, "name", patch->record->patch);
		hvp_json_text(json, "sha256", patch->record->sha256);
		hvp_json_bool(json, "verified", patch->state == HVP_RECORD_SWITCHED);
		hvp_json_text(json, "state", hvp_record_state_name(patch->state));
		json_builder_end_object(json);
	}
	json_builder_end_array(json);
}

static void show_entry_json(JsonBuilder *json, const Entry *self)
{
	json_builder_begin_object(json);
	hvp_json_text(json, "name", hvp_libvirt_domain_get_name(self->domain));
	hvp_json_text(json, "uuid", hvp_libvirt_domain_get_uuid(self->domain));
	show_id_json(json, hvp_libvirt_domain_get_id(self->domain));
	hvp_json_text(json, "state", self->state);
	hvp_json_text(json, "kernel", self->kernel);
	hvp_json_text(json, "backend", self->backend);
	if (self->may.reasons != NULL)
		hvp_patchable_add(&self->may, json);
	show_patches_json(json, self->patches);
	json_builder_end_object(json);
}

static void show_json(const GPtrArray *entries)
{
	JsonBuilder *json = hvp_json_new();

	hvp_json_begin_array(json, "domains");
	for (guint i = 0; i < entries->len; i++)
		show_entry_json(json, g_ptr_array_index(entries, i));
	json_builder_end_array(json);
	hvp_cli_json_print(json);
}

/* --- table --- */

static char *join_patches(const GPtrArray *patches)
{
	GString *text = g_string_new(NULL);

	for (guint i = 0; patches != NULL && i < patches->len; i++) {
		const HvpApplied *patch = g_ptr_array_index(patches, i);

		g_string_append_printf(text, "%s%s", i > 0 ? ", " : "", patch->record->patch);
		if (patch->state != HVP_RECORD_SWITCHED)
			g_string_append_printf(text, " (%s)", hvp_record_state_name(patch->state));
	}
	return g_string_free(text, FALSE);
}

static char *join_reasons(const HvpPatchable *may)
{
	GString *text = g_string_new(NULL);

	if (may->reasons == NULL)
		return g_string_free(text, FALSE);
	g_string_append(text, may->patchable ? "yes" : "no");
	for (guint i = 0; i < may->reasons->len; i++)
		g_string_append_printf(text, "%s%s", i > 0 ? "; " : ": ",
				       (const char *)g_ptr_array_index(may->reasons, i));
	return g_string_free(text, FALSE);
}

static void add_line(struct libscols_table *table, const Entry *self)
{
	int number = hvp_libvirt_domain_get_id(self->domain);
	g_autofree char *id = number >= 0 ? g_strdup_printf("%d", number) : g_strdup("-");
	g_autofree char *patches = join_patches(self->patches);
	g_autofree char *patchable = join_reasons(&self->may);

	hvp_cli_table_add(table, id, hvp_libvirt_domain_get_name(self->domain), self->state,
			  self->kernel ? self->kernel : "", patches, patchable, NULL);
}

static void show_table(const GPtrArray *entries)
{
	static const HvpCliColumn columns[] = {
		{ "ID", SCOLS_FL_RIGHT }, { "NAME", 0 },      { "STATE", 0 }, { "KERNEL", 0 },
		{ "PATCHES", 0 },	  { "PATCHABLE", 0 }, { NULL },
	};
	struct libscols_table *table = hvp_cli_table_new(columns);

	for (guint i = 0; i < entries->len; i++)
		add_line(table, g_ptr_array_index(entries, i));
	if (entries->len == 0)
		printf("there are no domains\n");
	hvp_cli_table_print(table);
}

static bool check_options(const HvpCli *cli, GError **error)
{
	return (cli->domain == NULL && cli->qmp_path == NULL && cli->core_path == NULL &&
		cli->process == NULL) ||
	       hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
			     "list: it lists all domains and cannot be combined with --domain, "
			     "--qmp, --core or --pid");
}

bool hvp_cli_list(HvpCli *cli, char **arguments, GError **error)
{
	gboolean states_only = FALSE;
	GOptionEntry entries[] = {
		{ "states", 0, 0, G_OPTION_ARG_NONE, &states_only,
		  "look into no domain, send no monitor command", NULL },
		{ NULL },
	};
	g_autoptr(HvpLibvirt) libvirt = NULL;
	g_autoptr(GPtrArray) domains = NULL;
	g_autoptr(GPtrArray) shown = g_ptr_array_new_with_free_func(entry_free);

	if (!hvp_cli_options_parse(cli, arguments, entries, NULL, error) ||
	    !check_options(cli, error))
		return false;
	libvirt = hvp_libvirt_connect(cli->connect_uri, error);
	domains = libvirt ? hvp_libvirt_list(libvirt, error) : NULL;
	if (domains == NULL)
		return false;
	for (guint i = 0; i < domains->len; i++)
		g_ptr_array_add(
			shown, entry_new(cli, libvirt, g_ptr_array_index(domains, i), states_only));
	if (cli->output == HVP_CLI_JSON)
		show_json(shown);
	else
		show_table(shown);
	return true;
}
