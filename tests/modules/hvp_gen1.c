// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Generation 1: seven functions in three objects, one of which (hvp_target_b) is
 * loaded later in some tests. See hvp_generation.h.
 */
#define HVP_GENERATION 1
#define HVP_REPLACE false
#include "hvp_gen.h"
