/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole of hvp_state1, hvp_state2 and hvp_state3: a patch that carries a system
 * state of version HVP_STATE_VERSION and replaces those before it, or, with
 * HVP_STATE_BESIDE, stands beside them. Each callback logs the version that the
 * patch before has.
 */
#ifndef HVP_STATE_H
#define HVP_STATE_H

#define HVP_GENERATION (20 + HVP_STATE_VERSION)
#define HVP_STATE_ID 0x6876UL

#include "hvp_logged.h"
#include "hvp_new.h"

static struct klp_patch patch;

static void hvp_state_log(struct klp_object *object, const char *callback)
{
	struct klp_state *own = klp_get_state(&patch, HVP_STATE_ID);
	struct klp_state *previous = klp_get_prev_state(HVP_STATE_ID);

	pr_info("%s %s: state %u after %u\n", hvp_logged_name(object), callback,
		own ? own->version : 0, previous ? previous->version : 0);
}

static int pre_patch(struct klp_object *object)
{
	hvp_state_log(object, "pre_patch");
	return 0;
}

static void post_patch(struct klp_object *object)
{
	hvp_state_log(object, "post_patch");
}

static void pre_unpatch(struct klp_object *object)
{
	hvp_state_log(object, "pre_unpatch");
}

static void post_unpatch(struct klp_object *object)
{
	hvp_state_log(object, "post_unpatch");
}

static struct klp_func funcs[] = {
#ifdef HVP_STATE_BESIDE
	{ .old_name = "hvp_a_two", .new_func = hvp_new_a_two },
#else
	{ .old_name = "hvp_a_one", .new_func = hvp_new_a_one },
#endif
	{ }
};

static struct klp_object objects[] = {
	{
		.name = "hvp_target_a",
		.funcs = funcs,
		.callbacks = {
			.pre_patch = pre_patch,
			.post_patch = post_patch,
			.pre_unpatch = pre_unpatch,
			.post_unpatch = post_unpatch,
		},
	},
	{ }
};

static struct klp_state states[] = {
	{ .id = HVP_STATE_ID, .version = HVP_STATE_VERSION },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objects,
	.states = states,
#ifndef HVP_STATE_BESIDE
	.replace = true,
#endif
};

HVP_MODULE(patch);

#endif
