/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A command's operation, done by hvpatchd where that runs and knows the domain:
 *
 *   find domain -> UploadPatch -> StartOperation -> GetOperation ... -> its result
 *
 * It is not where the user asks for something that only this program does itself: --direct, a way
 * to the VM of his own (--backend, --trap, --agent, --oracle, --monitor), or a patch whose
 * manifest says more than the daemon is told.
 *
 * Ctrl-C, and SIGTERM, cancel the operation as long as nothing is switched.
 */
#pragma once

#include "cli/bus.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "patch/patch.h"

typedef struct HvpRemote HvpRemote;

/*
 * Finds the daemon and cli->domain there: *@ret_remote is NULL where the command has to do it
 * itself. PERMISSION: the daemon tells this user nothing.
 */
bool hvp_remote_open(const HvpCli *cli, HvpRemote **ret_remote,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;
void hvp_remote_free(HvpRemote *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpRemote, hvp_remote_free)

HvpBus *hvp_remote_get_bus(const HvpRemote *self);
const char *hvp_remote_get_uuid(const HvpRemote *self);

/* Whether the daemon can be told all that @manifest (NULL: there is none) asks for. */
bool hvp_remote_takes(const HvpManifest *manifest);

typedef struct {
	const char *verb;	   /* "check", "apply", "revert", "recover" */
	const HvpPatch *patch;	   /* NULL: it needs none */
	const char *path;	   /* the patch's, beside which its signature may lie */
	const char *name;	   /* of what is reverted, else NULL */
	const HvpOptions *options; /* what is as by default is left to the daemon */
	bool has_limits;	   /* time and pause are among them */
	const char *kthreads;	   /* as the user said; NULL: nothing */
	HvpCliProgress *progress;
} HvpRemoteRequest;

/*
 * Has it done; *@ret_operation is the document of the operation, which has ended, the caller's.
 * False: it was not begun, or it is not known what became of it (BUSY). Does not return when the
 * user has cancelled it: the program ends by his signal then.
 */
bool hvp_remote_run(HvpRemote *self, const HvpRemoteRequest *request, JsonNode **ret_operation,
		    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * The domain, looked at anew; the caller's. Where the daemon could not, the error is what this
 * program itself would say. TIMED_OUT: it has not done so yet.
 */
bool hvp_remote_look(HvpRemote *self, JsonNode **ret_domain,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether @state is one in which operations stay. */
bool hvp_remote_is_end(const char *state);
