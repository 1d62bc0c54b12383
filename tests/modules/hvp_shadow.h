/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole of hvp_shadow1 and hvp_shadow2, each of which replaces the other: a
 * shadow variable of the first task. The first patch to come makes it, with
 * 100 times its own number as its value; the next finds it; the one that is
 * reverted frees it. hvp_a_two() tells the value plus the patch's number.
 */
#ifndef HVP_SHADOW_H
#define HVP_SHADOW_H

#include <linux/sched/task.h>

#include "hvp_logged.h"
#include "hvp_generation.h"

#define HVP_SHADOW_ID 0x6876UL

static int hvp_new_a_two(unsigned int *calls)
{
	int *value = klp_shadow_get(&init_task, HVP_SHADOW_ID);

	*calls += 1;
	return (value ? *value : 0) + HVP_SHADOW_PATCH;
}

static int construct(void *object, void *shadow, void *argument)
{
	*(int *)shadow = *(int *)argument;
	return 0;
}

static int pre_patch(struct klp_object *object)
{
	int first = 100 * HVP_SHADOW_PATCH;
	int *found = klp_shadow_get(&init_task, HVP_SHADOW_ID);
	int *value = klp_shadow_get_or_alloc(&init_task, HVP_SHADOW_ID, sizeof(*value), GFP_KERNEL,
					     construct, &first);

	if (!value)
		return -ENOMEM;
	pr_info("%s pre_patch: shadow %s %d\n", hvp_logged_name(object), found ? "found" : "made",
		*value);
	return 0;
}

static void post_unpatch(struct klp_object *object)
{
	klp_shadow_free_all(HVP_SHADOW_ID, NULL);
	pr_info("%s post_unpatch: shadow freed\n", hvp_logged_name(object));
}

static struct klp_func funcs[] = {
	{ .old_name = "hvp_a_two", .new_func = hvp_new_a_two },
	{ }
};

static struct klp_object objects[] = {
	{
		.name = "hvp_target_a",
		.funcs = funcs,
		.callbacks = {
			.pre_patch = pre_patch,
			.post_patch = hvp_logged_post_patch,
			.pre_unpatch = hvp_logged_pre_unpatch,
			.post_unpatch = post_unpatch,
		},
	},
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objects,
	.replace = true,
};

HVP_MODULE(patch);

#endif
