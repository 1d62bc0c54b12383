// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A system state of version 2, see hvp_state.h.
 */
#define HVP_STATE_VERSION 2
#include "hvp_state.h"
