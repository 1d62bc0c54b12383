// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A system state of version 1, see hvp_state.h.
 */
#define HVP_STATE_VERSION 1
#include "hvp_state.h"
