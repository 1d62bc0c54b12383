// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A second ordinary module whose functions are there to be replaced, to be
 * loaded after hvp_target_a. Its init calls them and logs what they say: a
 * livepatch has to be in force by then. Seen in /proc/hvp_generation.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/module.h>

#include "hvp_generation.h"

static HVP_TARGET int hvp_b_one(unsigned int *calls)
{
	*calls += 1;
	return 0;
}

static HVP_TARGET int hvp_b_two(unsigned int *calls)
{
	*calls += 1;
	return 0;
}

static int __init hvp_init(void)
{
	unsigned int calls = 0;
	int one = hvp_b_one(&calls), two = hvp_b_two(&calls);

	pr_info("init sees %d %d in %u calls\n", one, two, calls);
	hvp_generation_join(hvp_b_one, hvp_b_two);
	return 0;
}

static void __exit hvp_exit(void)
{
	hvp_generation_leave();
}

module_init(hvp_init);
module_exit(hvp_exit);
MODULE_DESCRIPTION("hvpatch test module");
MODULE_LICENSE("GPL");
