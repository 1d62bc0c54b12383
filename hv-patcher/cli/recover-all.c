/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/recover-all.h"

#include <stdio.h>
#include <unistd.h>

#include "cli/note.h"
#include "cli/output.h"
#include "cli/recover-worker.h"
#include "engine/journal.h"

/* As many as the daemon has at work. */
#define MAX_AT_WORK 4U
/* For all of them: the service's start, which waits for longer, is not to depend on any guest. */
#define WORKERS_USEC (150 * G_USEC_PER_SEC)

typedef enum { FINISHED, WAITING, AT_WORK } State;

/* What became of one process of which something was left. */
typedef struct {
	State state;
	pid_t pid;
	char *name; /* the domain's; NULL: it is none of this connection */
	char *uuid;
	const HvpLibvirtDomain *domain; /* borrowed; NULL likewise */
	HvpRecoverWorker *worker;
	char *done;
	GError *error;
} Entry;

static void entry_free(gpointer data)
{
	Entry *self = data;

	g_free(self->name);
	g_free(self->uuid);
	hvp_recover_worker_free(self->worker);
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

/* By this process, with all that it may. */
static void recover_unconfined(Entry *self, HvpCli *cli, const HvpLibvirt *libvirt,
			       HvpOptions *options)
{
	g_autoptr(HvpTarget) target = hvp_cli_open_domain(cli, libvirt, self->domain, &self->error);

	if (target != NULL)
		self->done = hvp_cli_recover_one(target, options, &self->error);
	if (self->done == NULL)
		return;
	set_found(cli, libvirt, self->domain);
	hvp_cli_note_update(cli, target, NULL, NULL, NULL);
}

static void begin(Entry *self, const HvpCli *cli, const HvpLibvirt *libvirt, HvpDeadline deadline)
{
	self->state = AT_WORK;
	/* Workers are root's: a user's guest finds nothing here that is not that user's. */
	if (geteuid() == 0)
		self->worker = hvp_recover_worker_new(cli, hvp_libvirt_get_uri(libvirt), self->uuid,
						      self->name, deadline);
}

static void warn_unconfined(const Entry *self, const GError *reason)
{
	g_autofree char *name = hvp_cli_output_escape(self->name);
	g_autofree char *message = hvp_cli_output_escape(reason->message);

	fprintf(stderr, "hvpatch: warning: %s: is recovered without a sandbox: %s\n", name,
		message);
}

/* A guest that stands is worse than one that is parsed without a sandbox. */
static void finish(Entry *self, HvpCli *cli, const HvpLibvirt *libvirt, HvpOptions *options)
{
	g_autoptr(GError) reason = NULL;

	if (self->worker != NULL && hvp_recover_worker_take(self->worker, &self->done, &reason) !=
					    HVP_RECOVER_WORKER_UNBEGUN) {
		self->error = g_steal_pointer(&reason);
		return;
	}
	if (reason != NULL)
		warn_unconfined(self, reason);
	recover_unconfined(self, cli, libvirt, options);
}

/* Whether its worker is at work, after it was begun, or finished, where that was due. */
static bool attend(Entry *self, HvpCli *cli, const HvpLibvirt *libvirt, HvpOptions *options,
		   HvpDeadline deadline)
{
	if (self->state == WAITING)
		begin(self, cli, libvirt, deadline);
	if (self->state == AT_WORK && self->worker != NULL &&
	    !hvp_recover_worker_is_over(self->worker))
		return true;
	if (self->state == AT_WORK)
		finish(self, cli, libvirt, options);
	self->state = FINISHED;
	return false;
}

/* How many are at work. They are begun in their order, so that none is left. */
static guint attend_all(GPtrArray *entries, HvpCli *cli, const HvpLibvirt *libvirt,
			HvpOptions *options, HvpDeadline deadline)
{
	guint at_work = 0;

	for (guint i = 0; i < entries->len && at_work < MAX_AT_WORK; i++)
		if (attend(g_ptr_array_index(entries, i), cli, libvirt, options, deadline))
			at_work++;
	return at_work;
}

static void set_domain(Entry *self, const HvpLibvirtDomain *domain)
{
	self->state = WAITING;
	self->domain = domain;
	self->name = g_strdup(hvp_libvirt_domain_get_name(domain));
	self->uuid = g_strdup(hvp_libvirt_domain_get_uuid(domain));
}

static void refuse_others(const GPtrArray *entries, const HvpLibvirt *libvirt)
{
	for (guint i = 0; i < entries->len; i++) {
		Entry *entry = g_ptr_array_index(entries, i);

		if (entry->domain == NULL)
			hvp_error_set(&entry->error, HVP_ERROR_UNSUPPORTED,
				      "it is no domain of %s: name its monitor by --qmp",
				      hvp_libvirt_get_uri(libvirt));
	}
}

static void recover_domains(GPtrArray *entries, HvpCli *cli, const HvpLibvirt *libvirt,
			    const GPtrArray *domains, HvpOptions *options)
{
	HvpDeadline deadline = hvp_deadline_in(WORKERS_USEC);

	for (guint i = 0; i < domains->len; i++) {
		const HvpLibvirtDomain *domain = g_ptr_array_index(domains, i);
		Entry *entry;
		pid_t pid;

		if (hvp_libvirt_domain_get_id(domain) < 0 ||
		    !hvp_libvirt_domain_find_process(domain, &pid, NULL))
			continue;
		entry = find_entry(entries, pid);
		if (entry != NULL && entry->domain == NULL)
			set_domain(entry, domain);
	}
	refuse_others(entries, libvirt);
	while (attend_all(entries, cli, libvirt, options, deadline) > 0)
		g_main_context_iteration(NULL, TRUE);
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
			     "recover: --all cannot be combined with --domain, --qmp, --core or "
			     "--pid");
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
