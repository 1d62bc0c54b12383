// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Only hvp_a_two: independent of hvp_alone_one, overlaps with hvp_gen1.
 */
#define HVP_GENERATION 5
#include "hvp_logged.h"
#include "hvp_new.h"

static struct klp_func funcs[] = {
	{ .old_name = "hvp_a_two", .new_func = hvp_new_a_two },
	{ }
};

static struct klp_object objects[] = {
	{ .name = "hvp_target_a", .funcs = funcs, .callbacks = HVP_LOGGED },
	{ }
};

HVP_PATCH(objects);
