/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One look at all stacks of a VM or a dump, for commands that change nothing. */
#pragma once

#include "cli/cli.h"
#include "engine/sweep.h"

/*
 * Sweeps @target, stopping a VM that runs for a moment; a VM that its owner has paused
 * stays so. The sweep is the caller's. Errors of the keeper, hvp_transaction_open_for_looking and
 * hvp_switch_look.
 */
HvpSweep *hvp_cli_look(HvpTarget *target, GError **error);
