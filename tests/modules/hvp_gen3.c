// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Generation 3 replaces the others and names fewer functions:
 * lcm_not_zero, hvp_a_two and hvp_b_one return to the original.
 */
#define HVP_GENERATION 3
#include "hvp_logged.h"
#include "hvp_new.h"

static struct klp_func vmlinux_funcs[] = {
	{ .old_name = "lcm", .new_func = hvp_new_lcm },
	{ }
};

static struct klp_func a_funcs[] = {
	{ .old_name = "hvp_a_one", .new_func = hvp_new_a_one },
	{ .old_name = "hvp_generation_read", .new_func = hvp_new_generation_read },
	{ }
};

static struct klp_func b_funcs[] = {
	{ .old_name = "hvp_b_two", .new_func = hvp_new_b_two },
	{ }
};

static struct klp_object objects[] = {
	{ .funcs = vmlinux_funcs, .callbacks = HVP_LOGGED },
	{ .name = "hvp_target_a", .funcs = a_funcs, .callbacks = HVP_LOGGED },
	{ .name = "hvp_target_b", .funcs = b_funcs, .callbacks = HVP_LOGGED },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objects,
	.replace = true,
};

HVP_MODULE(patch);
