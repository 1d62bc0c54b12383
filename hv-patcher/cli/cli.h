/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line: what every command gets, and the commands.
 *
 *   main -> global options -> command: own options, operands -> engine -> output
 *
 * A front end without logic of its own: it names things to the engine and shows
 * what the engine says.
 */
#pragma once

#include "engine/open.h"

typedef enum { HVP_CLI_TABLE, HVP_CLI_JSON } HvpCliOutput;

typedef struct HvpCliCommand HvpCliCommand;

typedef struct {
	/* One of these four at most: what the command works on. */
	char *qmp_path;
	char *core_path;
	char *domain;
	char *process; /* its number, */
	int pid;       /* and that as a number */
	gboolean monitor; /* a domain's may be used where it takes that */
	char *connect_uri; /* libvirt's; NULL: libvirt's default */
	/* What hvp_cli_open found domain to be; NULL: nothing yet, or no domain. */
	char *found_uri;
	char *found_uuid;
	int found_id;
	char *oracle_path; /* "none": use none; NULL: as HVPATCH_ORACLE says */
	char *agent_path;  /* "none": use none; NULL: look for it */
	HvpTargetBackend backend;
	HvpKeeperTrapKind trap_kind;
	HvpCliOutput output;
	gboolean verbose;
	gboolean direct; /* without hvpatchd, whether it runs or not */
	bool listing; /* for completion: name the command's options instead of running it */
	const HvpCliCommand *command; /* NULL until it is known */
	int exit_status;	      /* of a command that ends without an error */
} HvpCli;

/*
 * Runs a command with @arguments, its own options and operands. False without an error: there was
 * nothing to run (--help). A command that shows its failure itself sets exit_status and is true.
 */
typedef bool (*HvpCliRun)(HvpCli *cli, char **arguments, GError **error);

struct HvpCliCommand {
	const char *name;
	const char *operand; /* "PATCH", "[PATCH]" if it may be missing; NULL: takes none */
	const char *summary;
	HvpCliRun run;
	bool is_for_dumps;
	bool is_changing; /* not while somebody else moves or copies the VM's RAM */
	bool may_need_monitor; /* also of a domain under KVM: an earlier hvpatch may have used it */
};

/* All commands that users see, ended by one without a name. */
extern const HvpCliCommand hvp_cli_commands[];

/* The command of that name, hidden ones included; NULL. */
const HvpCliCommand *hvp_cli_find_command(const char *name);

bool hvp_cli_info(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_tasks(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_check(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_apply(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_revert(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_status(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_blocking(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_recover(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_doctor(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_list(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_install(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_install_remove(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_watch(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_rehearse(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_domains(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_operations(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_events(HvpCli *cli, char **arguments, GError **error);
bool hvp_cli_complete(HvpCli *cli, char **arguments, GError **error);

/*
 * Attaches to what the global options name. INVALID_ARGUMENT: they name nothing, or a dump and
 * the command is not for dumps. UNSUPPORTED: the backend that they name is not for this VM, or the
 * command would change a VM whose owner cannot be asked what he does with its RAM. Of a
 * domain also errors of vm/libvirt.h; BUSY: the command changes it, and libvirt moves its RAM.
 */
HvpTarget *hvp_cli_open(HvpCli *cli, GError **error);

/*
 * Attaches to @domain, which runs, of @libvirt: one under KVM without its monitor, unless that is
 * asked for (--backend gdbstub), or allowed (--monitor, some commands) and needed.
 */
HvpTarget *hvp_cli_open_domain(const HvpCli *cli, const HvpLibvirt *libvirt,
			       const HvpLibvirtDomain *domain, GError **error);

/* Where the QEMU plugin listens, as the user says; NULL: nowhere. The caller's. */
char *hvp_cli_find_oracle(const HvpCli *cli);

/* Tells @target where the guest's agent is, for commands that have a use for it. */
void hvp_cli_find_agent(const HvpCli *cli, HvpTarget *target);
