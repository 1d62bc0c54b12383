// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Replaces hvp_threads_turn() of hvp_threads by one that does nothing for a moment.
 */
#include "hvp_patch.h"

#include <linux/sched.h>

static void hvp_new_turn(void)
{
	schedule_timeout_interruptible(1);
}

static struct klp_func funcs[] = {
	{ .old_name = "hvp_threads_turn", .new_func = hvp_new_turn },
	{ }
};

static struct klp_object objects[] = {
	{ .name = "hvp_threads", .funcs = funcs },
	{ }
};

HVP_PATCH(objects);
