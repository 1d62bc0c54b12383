/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes to the guest's text: verified, journalled, all or none, undone unless they
 * are committed. Through the backend, so that QEMU's translator sees them. Called while stopped.
 */
#pragma once

#include "keeper/keeper.h"
#include "vm/backend.h"

typedef struct {
	int journal_fd;
	/* Written and not committed, in order. */
	HvpKeeperWrite writes[HVP_KEEPER_MAX_WRITES];
	gsize count;
	gint64 journal_at; /* where the first one's record stands, or -1 */
	bool foreign; /* write found other bytes than the old ones, and wrote nothing */
	bool cold;    /* write could not look at the old ones, and wrote nothing */
} HvpSites;

/*
 * hvp_keeper_write. INVALID_ARGUMENT, CONFLICT with `foreign` set or BUSY with `cold` set: nothing
 * was written. After any other error some may be written: undo.
 */
bool hvp_sites_write(HvpSites *self, HvpBackend *backend, const HvpKeeperWrite *writes,
		     gsize count, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Puts the old bytes back, last first, and reads them back. INCONSISTENT: some place
 * holds neither old nor new bytes (it is left alone, all others are undone). After any other error
 * those that could be are undone, and all may be tried again.
 */
bool hvp_sites_undo(HvpSites *self, HvpBackend *backend,
		    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* All writes so far are final. */
bool hvp_sites_commit(HvpSites *self, HvpBackend *backend,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* For recovery: takes over a dead keeper's writes. INVALID_ARGUMENT. */
bool hvp_sites_adopt(HvpSites *self, const HvpKeeperWrite *writes, gsize count,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* For recovery: INCONSISTENT unless every write is done; then commits them. */
bool hvp_sites_roll_forward(HvpSites *self, HvpBackend *backend,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;
