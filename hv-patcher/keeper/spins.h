/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Traps without a debugger: a jump to itself, written over the first two bytes of an
 * instruction. A vCPU that comes there stays there, interrupts and all, until it is looked for;
 * whoever is not meant has the instruction done for it by the host. When the old bytes are
 * back, a task that was switched out there executes them as if nothing had been. Called
 * while stopped.
 *
 * Nobody reports such a trap: see loop.c for who looks and when.
 */
#pragma once

#include "keeper/keeper.h"
#include "vm/backend.h"

typedef struct {
	HvpKeeperSpin sites[HVP_KEEPER_MAX_SPINS];
	gsize count; /* 0: traps are breakpoints */
} HvpSpins;

/* Replaces the table. INVALID_ARGUMENT: a site that cannot be one, and nothing is changed. */
bool hvp_spins_set(HvpSpins *self, const HvpKeeperSpin *sites, gsize count,
		   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The site at @pc, or NULL. */
const HvpKeeperSpin *hvp_spins_find(const HvpSpins *self, HvpGva pc);

/* CONFLICT: other than its old bytes stand there; FAULT: the write did not arrive. */
bool hvp_spins_plant(const HvpKeeperSpin *site, HvpBackend *backend,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Puts the old bytes back. CONFLICT: somebody wrote there meanwhile; that is left as it is, and
 * *@ret_removed true as well.
 */
bool hvp_spins_remove(const HvpKeeperSpin *site, HvpBackend *backend, bool *ret_removed,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether the jump stands at @site. */
bool hvp_spins_is_planted(const HvpKeeperSpin *site, HvpBackend *backend, bool *ret_planted,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;
