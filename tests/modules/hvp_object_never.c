// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Of its two objects one is a module that nobody ever loads: no reason not to
 * patch the other.
 */
#define HVP_GENERATION 8
#include "hvp_logged.h"
#include "hvp_new.h"

static struct klp_func vmlinux_funcs[] = {
	{ .old_name = "lcm", .new_func = hvp_new_lcm },
	{ }
};

static struct klp_func never_funcs[] = {
	{ .old_name = "hvp_never_one", .new_func = hvp_new_a_one },
	{ }
};

static struct klp_object objects[] = {
	{ .funcs = vmlinux_funcs, .callbacks = HVP_LOGGED },
	{ .name = "hvp_target_never", .funcs = never_funcs, .callbacks = HVP_LOGGED },
	{ }
};

HVP_PATCH(objects);
