// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A system state of version 3, beside the patch before, see hvp_state.h.
 */
#define HVP_STATE_VERSION 3
#define HVP_STATE_BESIDE
#include "hvp_state.h"
