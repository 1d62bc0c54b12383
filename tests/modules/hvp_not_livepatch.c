// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * An ordinary module: no livepatch=Y, no klp_patch. Never to be loaded by
 * hvpatch; its log line would tell.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/module.h>

static int __init hvp_init(void)
{
	pr_info("loaded\n");
	return 0;
}

static void __exit hvp_exit(void)
{
}

module_init(hvp_init);
module_exit(hvp_exit);
MODULE_DESCRIPTION("hvpatch test module");
MODULE_LICENSE("GPL");
