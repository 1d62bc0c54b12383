/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A defect of kpatch-build 0.9.10: when a function changes but its `.cold` part does
 * not, the new function jumps into the old kernel's cold part. Where that leads back
 * into the old body, or returns by itself, old code would run on the new function's frame.
 */
#pragma once

#include "guest/modules.h"
#include "patch/patch.h"

/*
 * Decodes each cold part that a new function of @patch jumps into. UNSUPPORTED naming the
 * function where there is any way out of it (into the old body, to its caller, elsewhere), or
 * where it cannot be looked at because its module is not loaded; where it never returns,
 * @ret_warning (owned by the caller) says so, else it is NULL.
 */
bool hvp_cold_check(HvpKernel *kernel, HvpModules *modules, const HvpPatch *patch,
		    char **ret_warning, GError **error) G_GNUC_WARN_UNUSED_RESULT;
