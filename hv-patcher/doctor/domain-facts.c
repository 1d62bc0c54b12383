/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "doctor/domain-facts.h"

#include <string.h>

#include "doctor/domain-xml.h"
#include "doctor/process-facts.h"
#include "vm/libvirt.h"

static HvpLibvirt *connect_libvirt(const char *uri, HvpFactsHost *host)
{
	g_autoptr(HvpLibvirt) libvirt = NULL;
	HvpLibvirtVersions versions;

	host->libvirt_was_asked = true;
	/* A look must not leave a daemon behind (libvirt's own variable, see its remote driver). */
	g_setenv("LIBVIRT_AUTOSTART", "0", FALSE);
	libvirt = hvp_libvirt_connect(uri, &host->libvirt_error);
	if (libvirt == NULL) {
		host->libvirt_uri = g_strdup(uri);
		return NULL;
	}
	host->libvirt_uri = g_strdup(hvp_libvirt_get_uri(libvirt));
	if (!hvp_libvirt_read_versions(libvirt, &versions, &host->libvirt_error))
		return NULL;
	host->libvirt_version = versions.library_version;
	return g_steal_pointer(&libvirt);
}

static bool read_configuration(const HvpLibvirtDomain *domain, HvpFactsVm *vm, GError **error)
{
	g_autofree char *xml = hvp_libvirt_domain_read_xml(domain, error);

	return xml != NULL && hvp_domain_xml_parse(xml, vm, error);
}

/* What is in the way of an operation is what it is about; all else is not known. */
static void ask_job(const HvpLibvirtDomain *domain, HvpFactsVm *vm)
{
	g_autoptr(GError) reason = NULL;

	if (hvp_libvirt_domain_check_no_job(domain, &reason))
		return;
	if (g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY))
		vm->job = g_strdup(reason->message);
	else
		vm->job_error = g_steal_pointer(&reason);
}

static bool look_at(const HvpLibvirtDomain *domain, HvpFactsVm *vm, GError **error)
{
	const char *state;

	vm->is_persistent = hvp_libvirt_domain_is_persistent(domain);
	vm->is_active = hvp_libvirt_domain_get_id(domain) >= 0;
	if (!hvp_libvirt_domain_read_state(domain, &state, error) ||
	    !read_configuration(domain, vm, error))
		return false;
	g_free(vm->state);
	vm->state = g_strdup(state);
	/* "idle" is a running one, too: no VM of QEMU is ever called so. */
	vm->is_running = vm->is_active && strcmp(state, "running") == 0;
	if (!vm->is_active)
		return true;
	ask_job(domain, vm);
	/* Not to be found: its items say that they do not know. */
	if (hvp_libvirt_domain_find_process(domain, &vm->pid, NULL))
		hvp_process_facts_gather(vm);
	return true;
}

void hvp_domain_facts_gather(const char *uri, const char *which, HvpFactsHost *host, HvpFactsVm *vm)
{
	g_autoptr(HvpLibvirt) libvirt = connect_libvirt(uri, host);
	g_autoptr(HvpLibvirtDomain) domain = NULL;

	if (which == NULL)
		return;
	vm->kind = HVP_FACTS_DOMAIN;
	vm->name = g_strdup(which);
	if (libvirt == NULL) {
		hvp_error_set(&vm->reach_error, HVP_ERROR_NOT_FOUND,
			      "there is no connection to libvirt");
		return;
	}
	if (!hvp_libvirt_check_reachable(libvirt, &vm->reach_error))
		return;
	domain = hvp_libvirt_find(libvirt, which, &vm->reach_error);
	if (domain == NULL)
		return;
	g_free(vm->name);
	vm->name = g_strdup(hvp_libvirt_domain_get_name(domain));
	vm->uuid = g_strdup(hvp_libvirt_domain_get_uuid(domain));
	(void)!look_at(domain, vm, &vm->reach_error);
}
