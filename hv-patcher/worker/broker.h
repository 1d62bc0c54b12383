/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The half of a worker that has privileges, and parses nothing of the guest's and nothing of the
 * patch: it does for the other half, which has none, what vm/helper.h lists. Whatever that half
 * asks for, it gets of the one VM that was found before it was started, and at most:
 *
 *   keeper      one at a time, which may stop and write to that VM alone
 *   monitor     questions from a list; the keeper alone gets QEMU's own connection
 *   memory      the process's, for reading; files that it has mapped, for reading
 *   journal     the VM's
 *   sockets     the agent's and the plugin's, where the daemon or QEMU said they are
 *   numbers     of that process
 *
 * so that a half that its guest has taken over can do to that guest what the guest's QEMU could,
 * and nothing to others.
 */
#pragma once

#include "worker/place.h"

/*
 * Serves the other half at @fd (taken), @job's and of @place, until that has ended, asks for what
 * is no request, takes no answer, or @deadline has passed. Returns whether it has asked for
 * anything: one that has not knows nothing of the guest.
 */
bool hvp_broker_run(int fd, const HvpJob *job, HvpPlace *place, HvpDeadline deadline);
