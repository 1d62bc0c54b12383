// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * All four callbacks for vmlinux; each tells the kernel log that it ran, in the
 * order pre_patch, post_patch, pre_unpatch, post_unpatch.
 */
#include "hvp_patch.h"

#include <linux/seq_file.h>

static int hvp_version_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "hvpatch with callbacks\n");
	return 0;
}

static int pre_patch(struct klp_object *obj)
{
	pr_info("pre_patch\n");
	return 0;
}

static void post_patch(struct klp_object *obj)
{
	pr_info("post_patch\n");
}

static void pre_unpatch(struct klp_object *obj)
{
	pr_info("pre_unpatch\n");
}

static void post_unpatch(struct klp_object *obj)
{
	pr_info("post_unpatch\n");
}

static struct klp_func funcs[] = {
	{ .old_name = "version_proc_show", .new_func = hvp_version_proc_show },
	{ }
};

static struct klp_object objects[] = {
	{
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

HVP_PATCH(objects);
