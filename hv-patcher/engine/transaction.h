/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One changing operation's hold on a VM: its lock and journal, and the keeper. Opening
 * it also finishes what an earlier, killed operation left.
 */
#pragma once

#include "engine/echo.h"
#include "engine/journal.h"
#include "engine/loader.h"
#include "engine/oracle.h"
#include "engine/options.h"
#include "engine/recovery.h"
#include "engine/result.h"

typedef struct {
	HvpTarget *target; /* borrowed */
	HvpJournal *journal;
	HvpKeeper *keeper;
	HvpPins *pins;	   /* given back when it is closed */
	HvpEcho *echo;	   /* NULL: QEMU sees what is written */
	HvpOracle *oracle; /* NULL: none */
} HvpTransaction;

/*
 * Takes the lock, recovers if need be, starts the keeper and attaches. CONFLICT: the VM is
 * paused, or somebody debugs it; BUSY: another hvpatch, or a job that copies RAM.
 */
HvpTransaction *hvp_transaction_open(HvpTarget *target, const char *operation, const char *patch,
				     const char *sha256, const HvpOptions *options, GError **error);

/*
 * Gives the pinned modules back, detaches and closes the journal; recovers where the keeper died.
 * Where that fails, recover has the rest.
 */
bool hvp_transaction_close(HvpTransaction *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Lets go after a failure: the keeper puts things right, then the journal is ended if it could. */
void hvp_transaction_free(HvpTransaction *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpTransaction, hvp_transaction_free)

/* What became of a transaction that failed on its way. */
typedef enum {
	HVP_TRANSACTION_LEFT,	  /* nothing of it is left */
	HVP_TRANSACTION_FINISHED, /* a keeper that died had decided the switch: all is finished */
	HVP_TRANSACTION_OPEN,	  /* its journal is: recover has the rest */
} HvpTransactionEnd;

/*
 * Ends a transaction that failed before anything was switched, and frees it: closes it where the
 * keeper is still there, recovers where it rolled back by itself or died. Adds to *@error where
 * that was not clean, and clears it where all is finished.
 */
HvpTransactionEnd hvp_transaction_abandon(HvpTransaction *self, const HvpOptions *options,
					  GError **error);

/* Whether @error, of @self, is one after which hvp_transaction_recover_undone goes on. */
bool hvp_transaction_is_undone(const HvpTransaction *self, const GError *error);

/* Borrows a guest thread; the guest stands still afterwards. */
HvpBorrow *hvp_transaction_borrow(HvpTransaction *self, const HvpOptions *options, GError **error);

/*
 * Runs callback @which of @patch in a borrowed thread, for vmlinux and the pinned modules. @older
 * (may be NULL): see hvp_loader_callbacks. *@longest_usec is raised to the longest time that the
 * guest stood still for it.
 */
bool hvp_transaction_run_callbacks(HvpTransaction *self, const HvpOptions *options,
				   const HvpKlpPatch *patch, HvpKlpCallback which,
				   const GPtrArray *older, gint64 *longest_usec,
				   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Pins the modules of @patch's objects that are loaded. */
bool hvp_transaction_pin_objects(HvpTransaction *self, const HvpOptions *options,
				 const HvpKlpPatch *patch, gint64 *longest_usec,
				 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Runs the post_unpatch callbacks (@patch may be NULL: none are to be run; @older as above) and
 * unloads module @name at @module, of which nothing is in force any more.
 */
bool hvp_transaction_unload(HvpTransaction *self, const HvpOptions *options,
			    const HvpKlpPatch *patch, const GPtrArray *older, const char *name,
			    HvpGva module, gint64 *longest_usec,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Frees a transaction (NULL: it is closed already) on @target whose keeper rolled back what was
 * under way (UNDONE), or died, and recovers: back before the switch, forward behind it.
 * *@ret_recovery as below.
 */
bool hvp_transaction_recover_undone(HvpTransaction *self, HvpTarget *target,
				    const HvpOptions *options, HvpRecovery **ret_recovery,
				    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Finishes what a killed tool (and keeper) left on @target. *@ret_recovery (@ret_recovery may be
 * NULL) is the caller's, and NULL where nothing was left.
 */
bool hvp_transaction_recover(HvpTarget *target, const HvpOptions *options,
			     HvpRecovery **ret_recovery, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * A keeper for looking only, for commands that change nothing: takes the lock, so that two
 * never stop a VM at once. NULL without an error for a dump and where the VM is paused.
 */
bool hvp_transaction_open_for_looking(HvpTarget *target, HvpTransaction **ret_transaction,
				      GError **error) G_GNUC_WARN_UNUSED_RESULT;
