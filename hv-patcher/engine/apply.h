/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Applying a livepatch module to a running guest, and taking it back.
 *
 *   apply:  check -> load -> (sweep, stop, prove, switch, resume)* -> post_patch
 *   revert: find the record -> pre_unpatch -> (sweep, stop, prove, restore, resume)* -> unload
 *
 * Either all functions are switched and verified, or none is and the module is gone again.
 */
#pragma once

#include "engine/check.h"
#include "engine/options.h"
#include "engine/result.h"

/*
 * Applies @patch. The result is always returned (the caller's), with what is known also on
 * failure; on failure @error says why. Applying what is applied already is a success.
 */
HvpResult *hvp_apply(HvpTarget *target, const HvpPatch *patch, const HvpOptions *options,
		     GError **error);
