// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmlinux agrees and hvp_target_a refuses: nothing may change, and vmlinux is
 * told by its post_unpatch.
 */
#define HVP_GENERATION 7
#include "hvp_logged.h"
#include "hvp_new.h"

static int pre_patch_refuses(struct klp_object *object)
{
	pr_info("%s pre_patch refuses\n", hvp_logged_name(object));
	return -ENODEV;
}

static struct klp_func vmlinux_funcs[] = {
	{ .old_name = "lcm", .new_func = hvp_new_lcm },
	{ }
};

static struct klp_func a_funcs[] = {
	{ .old_name = "hvp_a_one", .new_func = hvp_new_a_one },
	{ }
};

static struct klp_object objects[] = {
	{ .funcs = vmlinux_funcs, .callbacks = HVP_LOGGED },
	{
		.name = "hvp_target_a",
		.funcs = a_funcs,
		.callbacks = HVP_LOGGED_BUT(pre_patch_refuses),
	},
	{ }
};

HVP_PATCH(objects);
