/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole of hvp_gen1 and hvp_gen2: HVP_GENERATION, HVP_REPLACE, and all
 * functions. A module of its own each, so that all their symbols may be alike.
 */
#ifndef HVP_GEN_H
#define HVP_GEN_H

#include "hvp_logged.h"
#include "hvp_new.h"

static struct klp_func vmlinux_funcs[] = {
	{ .old_name = "lcm", .new_func = hvp_new_lcm },
	{ .old_name = "lcm_not_zero", .new_func = hvp_new_lcm_not_zero },
	{ }
};

static struct klp_func a_funcs[] = {
	{ .old_name = "hvp_a_one", .new_func = hvp_new_a_one },
	{ .old_name = "hvp_a_two", .new_func = hvp_new_a_two },
	{ .old_name = "hvp_generation_read", .new_func = hvp_new_generation_read },
	{ }
};

static struct klp_func b_funcs[] = {
	{ .old_name = "hvp_b_one", .new_func = hvp_new_b_one },
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
	.replace = HVP_REPLACE,
};

HVP_MODULE(patch);

#endif
