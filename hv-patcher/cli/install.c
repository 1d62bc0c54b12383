/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The patches that `watch --reapply` applies whenever a domain has started. The copies of their
 * files are what counts; the domain's metadata say so to people.
 */
#include <time.h>

#include "cli/note.h"
#include "cli/options.h"
#include "cli/output.h"
#include "patch/store.h"
#include "vm/libvirt-metadata.h"

static HvpLibvirtDomain *find_domain(const HvpCli *cli, HvpLibvirt **ret_libvirt, GError **error)
{
	if (cli->domain == NULL) {
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
			      "%s: which domain? --domain NAME is missing", cli->command->name);
		return NULL;
	}
	*ret_libvirt = hvp_libvirt_connect(cli->connect_uri, error);
	if (*ret_libvirt == NULL || !hvp_libvirt_check_reachable(*ret_libvirt, error))
		return NULL;
	return hvp_libvirt_find(*ret_libvirt, cli->domain, error);
}

static void show_json(const HvpLibvirtDomain *domain, const GPtrArray *entries)
{
	JsonBuilder *json = hvp_json_new();

	hvp_json_text(json, "domain", hvp_libvirt_domain_get_name(domain));
	hvp_json_text(json, "uuid", hvp_libvirt_domain_get_uuid(domain));
	hvp_json_begin_array(json, "installed");
	for (guint i = 0; i < entries->len; i++) {
		const HvpStoreEntry *entry = g_ptr_array_index(entries, i);

		json_builder_begin_object(json);
		hvp_json_text(json, "name", entry->name);
		hvp_json_text(json, "sha256", entry->sha256);
		hvp_json_text(json, "file", entry->path);
		json_builder_end_object(json);
	}
	json_builder_end_array(json);
	hvp_cli_json_print(json);
}

static void show_table(const GPtrArray *entries)
{
	static const HvpCliColumn columns[] = { { "NAME", 0 }, { "SHA256", 0 }, { NULL } };
	struct libscols_table *table = hvp_cli_table_new(columns);

	for (guint i = 0; i < entries->len; i++) {
		const HvpStoreEntry *entry = g_ptr_array_index(entries, i);

		hvp_cli_table_add(table, entry->name, entry->sha256, NULL);
	}
	if (entries->len == 0)
		printf("no patch is installed\n");
	hvp_cli_table_print(table);
}

/* What is installed now: the answer of each of these commands. */
static bool show(const HvpCli *cli, const HvpLibvirtDomain *domain, const char *folder,
		 GError **error)
{
	g_autoptr(GPtrArray)
		entries = hvp_store_list(folder, hvp_libvirt_domain_get_uuid(domain), error);

	if (entries == NULL)
		return false;
	if (cli->output == HVP_CLI_JSON)
		show_json(domain, entries);
	else
		show_table(entries);
	return true;
}

static bool install(const HvpLibvirtDomain *domain, const char *folder, const HvpPatch *patch,
		    const HvpManifest *manifest, const char *path, GError **error)
{
	g_autoptr(HvpDomainNotePatch) note = hvp_cli_note_describe(patch, manifest);
	g_autoptr(GError) reason = NULL;

	if (!hvp_store_add(folder, hvp_libvirt_domain_get_uuid(domain), patch, path, error))
		return false;
	note->at = time(NULL);
	hvp_domain_note_patch_set_user(note);
	if (!hvp_libvirt_metadata_install(domain, note, &reason))
		hvp_cli_note_warn(reason);
	return true;
}

bool hvp_cli_install(HvpCli *cli, char **arguments, GError **error)
{
	GOptionEntry entries[] = { { NULL } };
	g_autofree char *path = NULL, *folder = hvp_store_default_folder();
	g_autoptr(HvpManifest) manifest = NULL;
	g_autoptr(HvpPatch) patch = NULL;
	g_autoptr(HvpLibvirt) libvirt = NULL;
	g_autoptr(HvpLibvirtDomain) domain = NULL;

	if (!hvp_cli_options_parse(cli, arguments, entries, &path, error))
		return false;
	patch = path ? hvp_patch_open(path, error) : NULL;
	manifest = patch ? hvp_manifest_open(patch, path, error) : NULL;
	if (path != NULL && (manifest == NULL || !hvp_manifest_check(manifest, error)))
		return false;
	domain = find_domain(cli, &libvirt, error);
	if (domain == NULL ||
	    (patch != NULL && !install(domain, folder, patch, manifest, path, error)))
		return false;
	return show(cli, domain, folder, error);
}

bool hvp_cli_install_remove(HvpCli *cli, char **arguments, GError **error)
{
	GOptionEntry entries[] = { { NULL } };
	g_autofree char *name = NULL, *folder = hvp_store_default_folder();
	g_autoptr(HvpLibvirt) libvirt = NULL;
	g_autoptr(HvpLibvirtDomain) domain = NULL;
	g_autoptr(GError) reason = NULL;

	if (!hvp_cli_options_parse(cli, arguments, entries, &name, error))
		return false;
	domain = find_domain(cli, &libvirt, error);
	if (domain == NULL ||
	    !hvp_store_remove(folder, hvp_libvirt_domain_get_uuid(domain), name, error))
		return false;
	if (!hvp_libvirt_metadata_uninstall(domain, name, &reason))
		hvp_cli_note_warn(reason);
	return show(cli, domain, folder, error);
}
