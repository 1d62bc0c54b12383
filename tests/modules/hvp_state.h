/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole of hvp_state1 and hvp_state2: a patch that carries a system state of
 * version HVP_STATE_VERSION and replaces those before it. Its pre_patch logs the
 * version that the patch before left behind.
 */
#ifndef HVP_STATE_H
#define HVP_STATE_H

#define HVP_GENERATION (20 + HVP_STATE_VERSION)
#define HVP_STATE_ID 0x6876UL

#include "hvp_logged.h"
#include "hvp_new.h"

static struct klp_patch patch;

static int pre_patch(struct klp_object *object)
{
	struct klp_state *own = klp_get_state(&patch, HVP_STATE_ID);
	struct klp_state *previous = klp_get_prev_state(HVP_STATE_ID);

	pr_info("%s pre_patch: state %u after %u\n", hvp_logged_name(object),
		own ? own->version : 0, previous ? previous->version : 0);
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "hvp_a_one", .new_func = hvp_new_a_one },
	{ }
};

static struct klp_object objects[] = {
	{
		.name = "hvp_target_a",
		.funcs = funcs,
		.callbacks = HVP_LOGGED_BUT(pre_patch),
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
	.replace = true,
};

HVP_MODULE(patch);

#endif
