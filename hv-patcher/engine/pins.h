/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Modules of the guest that must stay where they are while an operation works on them: each has a
 * reference of ours, as long as the operation lasts. Noted in the journal, so that a recovery
 * gives back what a killed tool held. What is pinned is also what counts as being there: a module
 * that comes meanwhile is another matter.
 */
#pragma once

#include "call/borrow.h"
#include "engine/journal.h"
#include "engine/klp-patch.h"
#include "engine/target.h"

typedef struct HvpPins HvpPins;

/* Borrows @journal. */
HvpPins *hvp_pins_new(HvpJournal *journal);
void hvp_pins_free(HvpPins *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpPins, hvp_pins_free)

/* Those that an interrupted operation held and did not give back. */
void hvp_pins_take_over(HvpPins *self, const HvpJournalState *state, HvpModules *modules);

guint hvp_pins_count(const HvpPins *self);
bool hvp_pins_has(const HvpPins *self, const HvpModule *module);

/* Whether @object is there: vmlinux, or a module that is pinned. @ret_module (may be NULL). */
bool hvp_pins_has_object(const HvpPins *self, HvpModules *modules, const HvpKlpObject *object,
			 HvpModule **ret_module);

/*
 * Takes a reference to each module of @patch's objects that is loaded, as @target knows them.
 * BUSY: one is on its way in or out.
 */
bool hvp_pins_take_objects(HvpPins *self, HvpBorrow *borrow, HvpTarget *target,
			   const HvpKlpPatch *patch, HvpDeadline deadline,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Gives all back. */
bool hvp_pins_drop(HvpPins *self, HvpBorrow *borrow, HvpDeadline deadline,
		   GError **error) G_GNUC_WARN_UNUSED_RESULT;
