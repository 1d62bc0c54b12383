/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's own livepatch core. It is given the module objects of a patch, so that a
 * module that comes later is patched before its init runs, with no host present.
 * What is loaded already we switch ourselves: to the core all objects are unknown modules
 * under other names, until the pause of the switch gives them their own.
 *
 *   klp_patches -> struct klp_patch { mod, objs, enabled, kobj, list } -> klp_object { name, mod }
 *
 * Source: kernel/livepatch/core.c.
 */
#pragma once

#include "call/borrow.h"
#include "engine/pins.h"

typedef struct {
	HvpGva patch; /* struct klp_patch; 0: the core does not know the module */
	bool enabled;
} HvpKlpCore;

/* What the core knows of the patch module @module. */
bool hvp_klp_core_find(HvpKernel *kernel, HvpGva module, HvpKlpCore *ret_core,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The klp_patch whose transition is under way; 0 when there is none. Few reads. */
bool hvp_klp_core_read_transition(HvpKernel *kernel, HvpGva *ret_patch,
				  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * A transition that is under way looks at the tasks again only after a second, and has found the
 * borrowed one in the way: it is to look as soon as that has been released.
 */
bool hvp_klp_core_hasten(HvpBorrow *borrow, HvpKernel *kernel, HvpDeadline deadline,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* How many bytes hvp_klp_core_enable writes for so many objects under other names. */
gsize hvp_klp_core_alias_bytes(guint object_count);

/* Where among @aliases the other name of the patch's index'th object stands. */
HvpGva hvp_klp_core_alias(HvpGva aliases, guint index);

/*
 * Hands the module objects of @patch over to the core, in the borrowed thread that stands where
 * init called klp_enable_patch. There must be room at patch->aliases.
 * @patch->objects may be in another order afterwards. BUSY while the core has a transition.
 */
bool hvp_klp_core_enable(HvpBorrow *borrow, HvpKernel *kernel, HvpKlpPatch *patch,
			 HvpDeadline deadline, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * For a patch at @patch that was being handed over when its tool died: its objects begin at
 * @first again, where the module's own code looks for them.
 */
bool hvp_klp_core_restore_objects(HvpBorrow *borrow, HvpKernel *kernel, HvpGva patch, HvpGva first,
				  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Asks the core to let go of @core's patch. That takes it a transition, in which every task must
 * be seen, the borrowed one, which cannot be, included: return it, and look with
 * hvp_klp_core_find until the patch is gone; while it is still enabled, ask again. A transition
 * of the patch's own that is under way is turned round.
 */
bool hvp_klp_core_disable(HvpBorrow *borrow, HvpKernel *kernel, const HvpKlpCore *core,
			  HvpDeadline deadline, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Makes @patch's objects what their callbacks expect while the core does not know them: each has
 * its own name, and its module where that is pinned.
 */
bool hvp_klp_core_present(HvpBorrow *borrow, HvpTarget *target, const HvpKlpPatch *patch,
			  const HvpPins *pins, GError **error) G_GNUC_WARN_UNUSED_RESULT;
