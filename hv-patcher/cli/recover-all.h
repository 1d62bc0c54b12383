/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recovery of all domains of which an operation has left something: before hvpatchd starts and
 * behind it. Where there is nothing, libvirt is not asked. What root does it leaves to workers
 * (recover-worker.h), four at a time.
 */
#pragma once

#include "cli/cli.h"
#include "engine/options.h"

/*
 * Recovers and shows each; the exit status is the highest of all. Fails only where libvirt does not
 * tell of its domains.
 */
bool hvp_recover_all(HvpCli *cli, HvpOptions *options, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Recovers one (recover.c): what was done, for people, "" for nothing; NULL with @error. */
char *hvp_cli_recover_one(HvpTarget *target, HvpOptions *options, GError **error);
