/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Does a job with the engine, and tells the daemon how it goes and what came of it. */
#pragma once

#include "worker/channel.h"
#include "worker/place.h"

/*
 * In the half without privileges: does @job on the VM of @place, whose monitor is taken, with the
 * patch that @patch_fd (borrowed; -1: none) is open for. False: the daemon has not got the result.
 */
bool hvp_work_run(const HvpJob *job, HvpPlace *place, int patch_fd, HvpChannel *channel);

/* Tells the daemon that nothing could be begun. @job may be NULL: it could not be read. */
bool hvp_work_fail(const HvpJob *job, HvpChannel *channel, const GError *reason);
