// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Patch 1 of two that share a shadow variable, see hvp_shadow.h.
 */
#define HVP_SHADOW_PATCH 1
#include "hvp_shadow.h"
