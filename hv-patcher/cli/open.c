/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/cli.h"

#define ORACLE_VARIABLE "HVPATCH_ORACLE"

/* An empty variable is as good as none. */
static char *find_oracle(const HvpCli *cli)
{
	const char *path = cli->oracle_path ? cli->oracle_path : g_getenv(ORACLE_VARIABLE);

	return path == NULL || path[0] == 0 || g_str_equal(path, "none") ? NULL : g_strdup(path);
}

static HvpTarget *open_vm(const HvpCli *cli, GError **error)
{
	HvpTarget *target = hvp_target_open_qmp(cli->qmp_path, error);

	if (target == NULL)
		return NULL;
	target->oracle_path = find_oracle(cli);
	target->trap_kind = cli->trap_kind;
	if (!hvp_target_choose_backend(target, cli->backend, error))
		g_clear_pointer(&target, hvp_target_free);
	return target;
}

static HvpTarget *open_core(const HvpCli *cli, GError **error)
{
	HvpTarget *target = hvp_target_open_core(cli->core_path, error);

	if (target != NULL && !hvp_target_choose_backend(target, cli->backend, error))
		g_clear_pointer(&target, hvp_target_free);
	return target;
}

HvpTarget *hvp_cli_open(const HvpCli *cli, GError **error)
{
	if (cli->qmp_path != NULL)
		return open_vm(cli, error);
	if (cli->core_path != NULL && cli->command->is_for_dumps)
		return open_core(cli, error);
	if (cli->core_path != NULL)
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: a dump cannot be changed",
			      cli->command->name);
	else
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
			      "%s: which VM? --qmp SOCKET or --core FILE is missing",
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
	return !target->by_kvm ||
	       hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "this version does not change guests through the kvm backend, it only "
			     "looks at them; see --backend");
}
