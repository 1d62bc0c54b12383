// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Replaces a function of hvp_target_a in which tasks sleep (/proc/hvp_sleep).
 */
#define HVP_GENERATION 6
#include "hvp_patch.h"

#include "hvp_generation.h"

static int hvp_new_a_sleep(struct hvp_sleep *sleep)
{
	return hvp_sleep_until_woken(sleep, HVP_GENERATION);
}

static struct klp_func funcs[] = {
	{ .old_name = "hvp_a_sleep", .new_func = hvp_new_a_sleep },
	{ }
};

static struct klp_object objects[] = {
	{ .name = "hvp_target_a", .funcs = funcs },
	{ }
};

HVP_PATCH(objects);
