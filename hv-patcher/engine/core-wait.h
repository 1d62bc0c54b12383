/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Waiting, while the guest runs, until its own livepatch core is done with a patch of ours. By
 * itself it looks at the tasks that are in its way once a second; it is made to look sooner, first
 * often, then more and more seldom.
 */
#pragma once

#include "engine/klp-core.h"
#include "engine/options.h"

/* Until no transition is under way; without a keeper (NULL) at the core's own pace. BUSY. */
bool hvp_core_wait_idle(HvpKeeper *keeper, HvpKernel *kernel, const HvpOptions *options,
			HvpDeadline deadline, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Until it knows nothing of the patch module at @module, which it is asked to let go. BUSY. */
bool hvp_core_wait_release(HvpKeeper *keeper, HvpKernel *kernel, HvpGva module,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
