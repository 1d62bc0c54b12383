/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/open.h"

#include "agent/port.h"
#include "vm/domain-channel.h"

HvpTarget *hvp_open_set_up(const HvpOpenWay *way, HvpTarget *target, GError **error)
{
	if (target == NULL)
		return NULL;
	target->oracle_path = g_strdup(way->oracle_path);
	target->trap_kind = way->trap_kind;
	if (!hvp_target_choose_backend(target, way->backend, error))
		g_clear_pointer(&target, hvp_target_free);
	return target;
}

/* Through the monitor that libvirt has to itself. */
static HvpTarget *open_by_monitor(const HvpLibvirt *libvirt, const HvpLibvirtDomain *domain,
				  GError **error)
{
	const char *name = hvp_libvirt_domain_get_name(domain);
	HvpMonitor *monitor = hvp_monitor_new_for_domain(hvp_libvirt_get_uri(libvirt),
							 hvp_libvirt_domain_get_uuid(domain),
							 hvp_libvirt_domain_get_id(domain), name);
	g_autoptr(HvpTarget) target = hvp_target_open_monitor(monitor, name, error);

	if (target == NULL ||
	    !hvp_libvirt_domain_check_process(domain, hvp_machine_get_pid(target->machine), error))
		return NULL;
	target->taint = HVP_LIBVIRT_TAINT;
	return g_steal_pointer(&target);
}

/* A domain, to be found again: a connection that is kept would be one that may hang. */
typedef struct {
	char *uri;
	char *uuid;
	char *name;
	int id;
} Owner;

static void owner_free(gpointer data)
{
	Owner *self = data;

	g_free(self->uri);
	g_free(self->uuid);
	g_free(self->name);
	g_free(self);
}

static bool owner_check_no_job(gpointer data, GError **error)
{
	const Owner *self = data;
	g_autoptr(HvpLibvirt) libvirt = hvp_libvirt_connect(self->uri, error);
	g_autoptr(HvpLibvirtDomain) domain =
		libvirt ? hvp_libvirt_find(libvirt, self->uuid, error) : NULL;

	return domain != NULL && hvp_libvirt_domain_check_no_job(domain, error);
}

static char *owner_describe_jobs(gpointer data, GError **error)
{
	const Owner *self = data;
	g_autoptr(HvpLibvirt) libvirt = hvp_libvirt_connect(self->uri, error);
	g_autoptr(HvpLibvirtDomain) domain = libvirt ? hvp_libvirt_find(libvirt, self->uuid, error)
						     : NULL;

	return domain ? hvp_libvirt_domain_describe_jobs(domain, error) : NULL;
}

static HvpMonitor *owner_find_monitor(gpointer data)
{
	const Owner *self = data;

	return hvp_monitor_new_for_domain(self->uri, self->uuid, self->id, self->name);
}

char *hvp_open_find_agent(const HvpLibvirtDomain *domain)
{
	g_autofree char *xml = hvp_libvirt_domain_read_xml(domain, NULL);

	return xml ? hvp_domain_channel_find(xml, HVP_PORT_NAME) : NULL;
}

static char *owner_find_agent(gpointer data)
{
	const Owner *self = data;
	g_autoptr(HvpLibvirt) libvirt = hvp_libvirt_connect(self->uri, NULL);
	g_autoptr(HvpLibvirtDomain) domain = libvirt ? hvp_libvirt_find(libvirt, self->uuid, NULL)
						     : NULL;

	return domain ? hvp_open_find_agent(domain) : NULL;
}

static void set_owner(HvpTarget *target, const HvpLibvirt *libvirt, const HvpLibvirtDomain *domain)
{
	Owner *owner = g_new0(Owner, 1);

	owner->uri = g_strdup(hvp_libvirt_get_uri(libvirt));
	owner->uuid = g_strdup(hvp_libvirt_domain_get_uuid(domain));
	owner->name = g_strdup(hvp_libvirt_domain_get_name(domain));
	owner->id = hvp_libvirt_domain_get_id(domain);
	target->owner = (HvpTargetOwner){ .check_no_job = owner_check_no_job,
					  .describe_jobs = owner_describe_jobs,
					  .find_monitor = owner_find_monitor,
					  .find_agent = owner_find_agent,
					  .taint = HVP_LIBVIRT_TAINT,
					  .data = owner,
					  .free_data = owner_free };
}

bool hvp_open_check_running(const HvpLibvirtDomain *domain, GError **error)
{
	const char *state;

	if (!hvp_libvirt_domain_read_state(domain, &state, error))
		return false;
	return g_str_equal(state, "running") || g_str_equal(state, "idle") ||
	       hvp_error_set(error, HVP_ERROR_CONFLICT,
			     "domain %s is %s: under KVM nothing is seen of it without its monitor",
			     hvp_libvirt_domain_get_name(domain), state);
}

static HvpTarget *open_by_process(const HvpLibvirt *libvirt, const HvpLibvirtDomain *domain,
				  pid_t pid, GError **error)
{
	g_autoptr(HvpTarget) target = NULL;

	if (!hvp_open_check_running(domain, error))
		return NULL;
	target = hvp_target_open_process(pid, hvp_libvirt_domain_get_name(domain), error);
	if (target == NULL || !hvp_libvirt_domain_check_process(domain, pid, error))
		return NULL;
	set_owner(target, libvirt, domain);
	return g_steal_pointer(&target);
}

bool hvp_open_find_kvm(const HvpLibvirtDomain *domain, pid_t *ret_pid, GError **error)
{
	g_autoptr(HvpMachine) machine = NULL;
	GError *local = NULL;

	if (!hvp_libvirt_domain_find_process(domain, ret_pid, error))
		return false;
	machine = hvp_machine_open_process(*ret_pid, &local);
	if (machine != NULL)
		return true;
	*ret_pid = 0;
	if (!g_error_matches(local, HVP_ERROR, HVP_ERROR_NOT_FOUND)) {
		g_propagate_error(error, local);
		return false;
	}
	g_error_free(local);
	return true;
}

/* Whether the monitor, if it may be used, may have an answer. */
static bool may_ask_monitor(const HvpOpenWay *way, const GError *reason)
{
	return way->may_use_monitor && (g_error_matches(reason, HVP_ERROR, HVP_ERROR_UNSUPPORTED) ||
				g_error_matches(reason, HVP_ERROR, HVP_ERROR_AMBIGUOUS) ||
				g_error_matches(reason, HVP_ERROR, HVP_ERROR_CONFLICT));
}

static HvpTarget *open_active_domain(const HvpOpenWay *way, const HvpLibvirt *libvirt,
				     const HvpLibvirtDomain *domain, GError **error)
{
	g_autoptr(GError) reason = NULL;
	HvpTarget *target;
	pid_t pid;

	if (way->backend == HVP_TARGET_BACKEND_GDBSTUB)
		return open_by_monitor(libvirt, domain, error);
	if (!hvp_open_find_kvm(domain, &pid, error))
		return NULL;
	if (pid == 0)
		return open_by_monitor(libvirt, domain, error);
	target = open_by_process(libvirt, domain, pid, &reason);
	if (target != NULL)
		return target;
	if (!may_ask_monitor(way, reason)) {
		g_propagate_error(error, g_steal_pointer(&reason));
		return NULL;
	}
	g_message("%s; the monitor is asked, for which libvirt marks the domain", reason->message);
	return open_by_monitor(libvirt, domain, error);
}

HvpTarget *hvp_open_domain(const HvpOpenWay *way, const HvpLibvirt *libvirt,
			       const HvpLibvirtDomain *domain, GError **error)
{
	if (!hvp_libvirt_check_reachable(libvirt, error) ||
	    !hvp_libvirt_domain_check_active(domain, error) ||
	    !hvp_libvirt_domain_check_has_arrived(domain, error) ||
	    (way->is_changing && !hvp_libvirt_domain_check_no_job(domain, error)))
		return NULL;
	return hvp_open_set_up(way, open_active_domain(way, libvirt, domain, error), error);
}

bool hvp_open_refuse_ownerless(GError **error)
{
	return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "whether its RAM is being moved or copied is not told by a process "
			     "alone: name the VM by --domain or --qmp");
}

bool hvp_open_check_owner(const HvpTarget *target, GError **error)
{
	return hvp_machine_has_monitor(target->machine) || target->owner.check_no_job != NULL ||
	       hvp_open_refuse_ownerless(error);
}
