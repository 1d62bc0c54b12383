/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/recover-all.h"

#include <stdio.h>

#include "cli/note.h"
#include "cli/output.h"
#include "engine/journal.h"

/* What became of one process of which something was left. */
typedef struct {
	pid_t pid;
	char *name; /* the domain's; NULL: it is none of this connection */
	char *uuid;
	char *done;
	GError *error;
} Entry;

static void entry_free(gpointer data)
{
	Entry *self = data;

	g_free(self->name);
	g_free(self->uuid);
	g_free(self->done);
	g_clear_error(&self->error);
	g_free(self);
}

static GPtrArray *list_entries(void)
{
	g_autoptr(GArray) open = hvp_journal_list_open(NULL);
	GPtrArray *entries = g_ptr_array_new_with_free_func(entry_free);

	for (guint i = 0; i < open->len; i++) {
		Entry *entry = g_new0(Entry, 1);

		entry->pid = g_array_index(open, pid_t, i);
		g_ptr_array_add(entries, entry);
	}
	return entries;
}

static Entry *find_entry(const GPtrArray *entries, pid_t pid)
{
	for (guint i = 0; i < entries->len; i++) {
		Entry *entry = g_ptr_array_index(entries, i);

		if (entry->pid == pid)
			return entry;
	}
	return NULL;
}

/* What hvp_cli_open would leave behind, for the metadata. */
static void set_found(HvpCli *cli, const HvpLibvirt *libvirt, const HvpLibvirtDomain *domain)
{
	g_free(cli->found_uri);
	g_free(cli->found_uuid);
	cli->found_uri = g_strdup(hvp_libvirt_get_uri(libvirt));
	cli->found_uuid = g_strdup(hvp_libvirt_domain_get_uuid(domain));
	cli->found_id = hvp_libvirt_domain_get_id(domain);
}

static void recover(Entry *self, HvpCli *cli, const HvpLibvirt *libvirt,
		    const HvpLibvirtDomain *domain, HvpOptions *options)
{
	g_autoptr(HvpTarget) target = hvp_cli_open_domain(cli, libvirt, domain, &self->error);

	self->name = g_strdup(hvp_libvirt_domain_get_name(domain));
	self->uuid = g_strdup(hvp_libvirt_domain_get_uuid(domain));
	if (target != NULL)
		self->done = hvp_cli_recover_one(target, options, &self->error);
	if (self->done == NULL)
		return;
	set_found(cli, libvirt, domain);
	hvp_cli_note_update(cli, target, NULL, NULL, NULL);
}

static void recover_domains(GPtrArray *entries, HvpCli *cli, const HvpLibvirt *libvirt,
			    const GPtrArray *domains, HvpOptions *options)
{
	for (guint i = 0; i < domains->len; i++) {
		const HvpLibvirtDomain *domain = g_ptr_array_index(domains, i);
		Entry *entry;
		pid_t pid;

		if (hvp_libvirt_domain_get_id(domain) < 0 ||
		    !hvp_libvirt_domain_find_process(domain, &pid, NULL))
			continue;
		entry = find_entry(entries, pid);
		if (entry != NULL && entry->name == NULL)
			recover(entry, cli, libvirt, domain, options);
	}
	for (guint i = 0; i < entries->len; i++) {
		Entry *entry = g_ptr_array_index(entries, i);

		if (entry->name == NULL)
			hvp_error_set(&entry->error, HVP_ERROR_UNSUPPORTED,
				      "it is no domain of %s: name its monitor by --qmp",
				      hvp_libvirt_get_uri(libvirt));
	}
}

static void show_json(const GPtrArray *entries)
{
	JsonBuilder *json = hvp_json_new();

	hvp_json_begin_array(json, "domains");
	for (guint i = 0; i < entries->len; i++) {
		const Entry *entry = g_ptr_array_index(entries, i);

		json_builder_begin_object(json);
		hvp_json_text(json, "domain", entry->name);
		hvp_json_text(json, "uuid", entry->uuid);
		hvp_json_integer(json, "pid", entry->pid);
		hvp_json_bool(json, "recovered", entry->done != NULL && entry->done[0] != 0);
		hvp_json_text(json, "done", entry->done);
		hvp_json_error(json, entry->error);
		json_builder_end_object(json);
	}
	json_builder_end_array(json);
	hvp_cli_json_print(json);
}

static void show_entry(const Entry *self)
{
	g_autofree char *label = self->name ? g_strdup(self->name)
					    : g_strdup_printf("process %d", (int)self->pid);
	g_autofree char *escaped = hvp_cli_output_escape(label);
	g_autofree char *done = hvp_cli_output_escape(self->done);
	g_autoptr(GError) error = self->error ? g_error_copy(self->error) : NULL;

	if (error != NULL) {
		g_prefix_error(&error, "%s: ", label);
		hvp_cli_output_error_line(error);
	} else {
		printf("%s: %s\n", escaped, done[0] != 0 ? done : "nothing to recover");
	}
}

static void show(HvpCli *cli, const GPtrArray *entries)
{
	if (cli->output == HVP_CLI_JSON)
		show_json(entries);
	else if (entries->len == 0)
		printf("nothing to recover\n");
	for (guint i = 0; i < entries->len; i++) {
		const Entry *entry = g_ptr_array_index(entries, i);
		int status = entry->error ? hvp_error_exit_status(entry->error) : 0;

		if (cli->output == HVP_CLI_TABLE)
			show_entry(entry);
		cli->exit_status = MAX(cli->exit_status, status);
	}
}

static bool check_options(const HvpCli *cli, GError **error)
{
	return (cli->domain == NULL && cli->qmp_path == NULL && cli->core_path == NULL &&
		cli->process == NULL) ||
	       hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
			     "recover: --all domains; no --domain, --qmp, --core or --pid");
}

bool hvp_recover_all(HvpCli *cli, HvpOptions *options, GError **error)
{
	g_autoptr(GPtrArray) entries = list_entries();
	g_autoptr(HvpLibvirt) libvirt = NULL;
	g_autoptr(GPtrArray) domains = NULL;

	if (!check_options(cli, error))
		return false;
	if (entries->len > 0) {
		libvirt = hvp_libvirt_connect(cli->connect_uri, error);
		domains = libvirt ? hvp_libvirt_list(libvirt, error) : NULL;
		if (domains == NULL)
			return false;
		recover_domains(entries, cli, libvirt, domains, options);
	}
	show(cli, entries);
	return true;
}
