/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where in the guest's text traps can be, by their kind. A breakpoint can be anywhere. A spin
 * trap is written: behind a function's fentry slot, never in it (a tracer that is started
 * meanwhile would find it and give up on all tracing), and only over the beginning of one
 * instruction, so that no task can stand within what is overwritten; not on what the guest
 * rewrites or looks up by itself (jump labels, static calls, exception table, kprobes); and, where
 * others come by, only over an instruction that can be done for them.
 */
#pragma once

#include "guest/kernel.h"
#include "keeper/keeper.h"

typedef struct HvpPlaces HvpPlaces;

/* For traps of @kind; borrows @kernel. Reads the guest's tables, so not while it stands still. */
HvpPlaces *hvp_places_new(HvpKernel *kernel, HvpKeeperTrapKind kind, GError **error);
void hvp_places_free(HvpPlaces *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpPlaces, hvp_places_free)

/* What becomes of those who come to a trap and are not meant. */
typedef enum {
	HVP_PLACES_PASS,   /* they are let past, one by one */
	HVP_PLACES_REMOVE, /* the trap is removed, for all of them */
} HvpPlacesOthers;

/*
 * All of these: the place is in the set from then on, and may be asked for again, also while the
 * guest stands still. UNSUPPORTED: there can be none; CONFLICT: a kprobe is there.
 *
 * At the beginning of @function, where nothing has been pushed yet.
 */
bool hvp_places_add_entry(HvpPlaces *self, HvpGva function, HvpPlacesOthers others, HvpGva *ret_pc,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* At the instruction at @pc, such as a call. */
bool hvp_places_add_instruction(HvpPlaces *self, HvpGva pc,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Somewhere near @function where nobody ever comes: padding behind a function. */
bool hvp_places_add_unused(HvpPlaces *self, HvpGva function, HvpGva *ret_pc,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Tells @keeper of all spin traps in the set that it has not been told of. */
bool hvp_places_announce(HvpPlaces *self, HvpKeeper *keeper,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;
