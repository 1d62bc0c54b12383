/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/cli.h"

#define ORACLE_VARIABLE "HVPATCH_ORACLE"

/* An empty variable is as good as none. */
static char *find_oracle(const HvpCli *cli)
{
	const char *path = cli->oracle_path ? cli->oracle_path : g_getenv(ORACLE_VARIABLE);

	return path == NULL || path[0] == 0 || g_str_equal(path, "none") ? NULL : g_strdup(path);
}

/* What the options say of @target, which is taken and may be NULL. */
static HvpTarget *set_up_vm(const HvpCli *cli, HvpTarget *target, GError **error)
{
	if (target == NULL)
		return NULL;
	target->oracle_path = find_oracle(cli);
	target->trap_kind = cli->trap_kind;
	if (!hvp_target_choose_backend(target, cli->backend, error))
		g_clear_pointer(&target, hvp_target_free);
	return target;
}

HvpTarget *hvp_cli_open_domain(const HvpCli *cli, const HvpLibvirt *libvirt,
			       const HvpLibvirtDomain *domain, GError **error)
{
	const char *name = hvp_libvirt_domain_get_name(domain);
	g_autoptr(HvpTarget) target = NULL;
	HvpMonitor *monitor;

	if (!hvp_libvirt_check_reachable(libvirt, error) ||
	    !hvp_libvirt_domain_check_active(domain, error) ||
	    (cli->command->is_changing && !hvp_libvirt_domain_check_no_job(domain, error)))
		return NULL;
	monitor = hvp_monitor_new_for_domain(hvp_libvirt_get_uri(libvirt),
					     hvp_libvirt_domain_get_uuid(domain),
					     hvp_libvirt_domain_get_id(domain), name);
	target = hvp_target_open_monitor(monitor, name, error);
	if (target == NULL ||
	    !hvp_libvirt_domain_check_process(domain, hvp_machine_get_pid(target->machine), error))
		return NULL;
	target->taint = HVP_LIBVIRT_TAINT;
	return set_up_vm(cli, g_steal_pointer(&target), error);
}

/* The connection to libvirt is closed again: a daemon that hangs later is not waited for. */
static HvpTarget *find_domain(HvpCli *cli, GError **error)
{
	g_autoptr(HvpLibvirt) libvirt = hvp_libvirt_connect(cli->connect_uri, error);
	g_autoptr(HvpLibvirtDomain) domain = NULL;

	if (libvirt != NULL)
		domain = hvp_libvirt_find(libvirt, cli->domain, error);
	if (domain == NULL)
		return NULL;
	cli->found_uri = g_strdup(hvp_libvirt_get_uri(libvirt));
	cli->found_uuid = g_strdup(hvp_libvirt_domain_get_uuid(domain));
	cli->found_id = hvp_libvirt_domain_get_id(domain);
	return hvp_cli_open_domain(cli, libvirt, domain, error);
}

static HvpTarget *open_core(const HvpCli *cli, GError **error)
{
	HvpTarget *target = hvp_target_open_core(cli->core_path, error);

	if (target != NULL && !hvp_target_choose_backend(target, cli->backend, error))
		g_clear_pointer(&target, hvp_target_free);
	return target;
}

HvpTarget *hvp_cli_open(HvpCli *cli, GError **error)
{
	if (cli->qmp_path != NULL)
		return set_up_vm(cli, hvp_target_open_qmp(cli->qmp_path, error), error);
	if (cli->domain != NULL)
		return find_domain(cli, error);
	if (cli->core_path != NULL && cli->command->is_for_dumps)
		return open_core(cli, error);
	if (cli->core_path != NULL)
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: a dump cannot be changed",
			      cli->command->name);
	else
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
			      "%s: which VM? --domain NAME, --qmp SOCKET or --core FILE is missing",
			      cli->command->name);
	return NULL;
}

void hvp_cli_find_agent(const HvpCli *cli, HvpTarget *target)
{
	if (g_strcmp0(cli->agent_path, "none") != 0)
		hvp_target_find_agent(target, cli->agent_path);
}

bool hvp_cli_check_backend(const HvpTarget *target, GError **error)
{
	return !target->by_kvm || target->backend_asked_for ||
	       hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "changing Linux guests through KVM itself has not been tried yet: ask "
			     "for it by --backend kvm, or for --backend gdbstub; see hvpatch(1)");
}
