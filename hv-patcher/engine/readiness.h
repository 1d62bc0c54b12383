/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether a VM may be stopped, or changed, at this moment. */
#pragma once

#include "engine/target.h"

/*
 * Whether there is a way to change @target. UNSUPPORTED: no monitor, through which what was written
 * may have to be written again (echo.h).
 */
bool hvp_readiness_check_way(const HvpTarget *target, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * CONFLICT: it is not running, or somebody debugs it; BUSY: a job copies its RAM; INCONSISTENT: an
 * earlier hvpatch left something in QEMU.
 */
bool hvp_readiness_check(HvpTarget *target, GError **error) G_GNUC_WARN_UNUSED_RESULT;
