/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What hvpatchd did, shown as if this program had done it itself: the documents are the same, and
 * tables are made of what is in them.
 */
#pragma once

#include "cli/remote.h"

/*
 * Does @request, where the daemon is there for it, and shows what came of it; sets the exit status.
 * False: it has to be done here.
 */
bool hvp_remote_show_run(HvpCli *cli, const HvpRemoteRequest *request);

/* The same for status. */
bool hvp_remote_show_status(HvpCli *cli);
