/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking an applied patch back; see engine/apply.h for the whole. */
#pragma once

#include "engine/options.h"
#include "engine/result.h"

/*
 * Reverts the patch of module @name: of the file with that @sha256, or whichever it is (NULL). The
 * result is always returned (the caller's); on failure @error says why: NOT_FOUND: no such patch,
 * or another of that name; TAMPERED: the guest's text is not as recorded, nothing is written; BUSY:
 * somebody stands in the patch's code.
 */
HvpResult *hvp_revert(HvpTarget *target, const char *name, const char *sha256,
		      const HvpOptions *options, GError **error);
