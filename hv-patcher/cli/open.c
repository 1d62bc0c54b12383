/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/cli.h"

#define ORACLE_VARIABLE "HVPATCH_ORACLE"

/* An empty variable is as good as none. */
char *hvp_cli_find_oracle(const HvpCli *cli)
{
	const char *path = cli->oracle_path ? cli->oracle_path : g_getenv(ORACLE_VARIABLE);

	return path == NULL || path[0] == 0 || g_str_equal(path, "none") ? NULL : g_strdup(path);
}

static HvpOpenWay make_way(const HvpCli *cli, const char *oracle_path)
{
	return (HvpOpenWay){ .backend = cli->backend,
			     .trap_kind = cli->trap_kind,
			     .oracle_path = oracle_path,
			     .may_use_monitor = cli->monitor || cli->command->may_need_monitor,
			     .is_changing = cli->command->is_changing };
}

/* What the options say of @target, which is taken and may be NULL. */
static HvpTarget *set_up(const HvpCli *cli, HvpTarget *target, GError **error)
{
	g_autofree char *oracle = hvp_cli_find_oracle(cli);
	HvpOpenWay way = make_way(cli, oracle);

	return hvp_open_set_up(&way, target, error);
}

HvpTarget *hvp_cli_open_domain(const HvpCli *cli, const HvpLibvirt *libvirt,
			       const HvpLibvirtDomain *domain, GError **error)
{
	g_autofree char *oracle = hvp_cli_find_oracle(cli);
	HvpOpenWay way = make_way(cli, oracle);

	return hvp_open_domain(&way, libvirt, domain, error);
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

/* --- all others --- */

static HvpTarget *open_process(const HvpCli *cli, GError **error)
{
	g_autofree char *name = g_strdup_printf("process %d", cli->pid);

	if ((cli->command->is_changing || cli->command->may_need_monitor) &&
	    !hvp_open_refuse_ownerless(error))
		return NULL;
	return set_up(cli, hvp_target_open_process(cli->pid, name, error), error);
}

static HvpTarget *open_core(const HvpCli *cli, GError **error)
{
	HvpTarget *target = hvp_target_open_core(cli->core_path, error);

	if (target != NULL && !hvp_target_choose_backend(target, cli->backend, error))
		g_clear_pointer(&target, hvp_target_free);
	return target;
}

/* The options that the command takes a VM by. */
static const char *name_ways(const HvpCliCommand *command)
{
	if (command->is_for_dumps)
		return "--domain NAME, --qmp SOCKET, --pid PID or --core FILE";
	if (command->run == hvp_cli_recover)
		return "--domain NAME, --qmp SOCKET or --all";
	return "--domain NAME or --qmp SOCKET";
}

HvpTarget *hvp_cli_open(HvpCli *cli, GError **error)
{
	if (cli->qmp_path != NULL)
		return set_up(cli, hvp_target_open_qmp(cli->qmp_path, error), error);
	if (cli->domain != NULL)
		return find_domain(cli, error);
	if (cli->process != NULL)
		return open_process(cli, error);
	if (cli->core_path != NULL && cli->command->is_for_dumps)
		return open_core(cli, error);
	if (cli->core_path != NULL)
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: a dump cannot be changed",
			      cli->command->name);
	else
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: which VM? %s is missing",
			      cli->command->name, name_ways(cli->command));
	return NULL;
}

void hvp_cli_find_agent(const HvpCli *cli, HvpTarget *target)
{
	if (g_strcmp0(cli->agent_path, "none") != 0)
		hvp_target_find_agent(target, cli->agent_path);
}
