// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Generation 2: the functions of generation 1, which it replaces.
 */
#define HVP_GENERATION 2
#define HVP_REPLACE true
#include "hvp_gen.h"
