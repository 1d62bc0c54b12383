/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recovery of a domain by a worker, whose half that parses the guest's memory is confined, as the
 * daemon does it. For one that cannot be confined on this host somebody else has to do it; one that
 * was confined and is lost is lost: or else a guest that crashes its worker had chosen where it is
 * parsed the next time.
 *
 *   started -> told what it did, or why not -> over
 *           -> lost -> started once more -> ...
 *           -> told that it is for later -> started again -> ...
 */
#pragma once

#include "cli/cli.h"

typedef struct HvpRecoverWorker HvpRecoverWorker;

typedef enum {
	HVP_RECOVER_WORKER_DONE,
	HVP_RECOVER_WORKER_FAILED,
	HVP_RECOVER_WORKER_UNBEGUN, /* there is no confined half; nothing of the guest was read */
} HvpRecoverWorkerEnd;

/*
 * Begins with the domain @uuid, called @name, of @uri, as the options of @cli say. Several work
 * side by side. Never NULL. It is over at @deadline, and after two minutes.
 */
HvpRecoverWorker *hvp_recover_worker_new(const HvpCli *cli, const char *uri, const char *uuid,
					 const char *name, HvpDeadline deadline);
void hvp_recover_worker_free(HvpRecoverWorker *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpRecoverWorker, hvp_recover_worker_free)

/* Whether it is over, for which the main loop has to turn. */
bool hvp_recover_worker_is_over(const HvpRecoverWorker *self);

/*
 * Once, of one that is over. DONE: *@ret_done, the caller's, is what was done, for people, "" for
 * nothing; else @error says why. UNBEGUN, NOT_FOUND: there are no workers here. FAILED,
 * INCONSISTENT: it was lost, and the guest is as it was left.
 */
HvpRecoverWorkerEnd hvp_recover_worker_take(HvpRecoverWorker *self, char **ret_done,
					    GError **error);
