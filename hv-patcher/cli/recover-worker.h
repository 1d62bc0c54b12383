/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recovery of a domain by a worker, whose half that parses the guest's memory is confined, as the
 * daemon does it. For one that cannot be confined on this host somebody else has to do it; one that
 * was confined and is lost is lost: or else a guest that crashes its worker had chosen where it is
 * parsed the next time.
 *
 *   started -> told what it did, or why not -> over
 *           -> lost -> started once more -> ...
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
 * side by side, while one is waited for. Never NULL.
 */
HvpRecoverWorker *hvp_recover_worker_new(const HvpCli *cli, const char *uri, const char *uuid,
					 const char *name);
void hvp_recover_worker_free(HvpRecoverWorker *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpRecoverWorker, hvp_recover_worker_free)

/*
 * Waits until it is over, two minutes from its beginning at most. DONE: *@ret_done, the caller's,
 * is what was done, for people, "" for nothing; else @error says why. UNBEGUN, NOT_FOUND: there are
 * no workers here. FAILED, INCONSISTENT: it was lost, and the guest is as it was left.
 */
HvpRecoverWorkerEnd hvp_recover_worker_wait(HvpRecoverWorker *self, char **ret_done,
					    GError **error);
