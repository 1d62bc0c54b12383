// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The pre_patch callback refuses: nothing may change and the module has to go.
 * post_unpatch must not run then (the kernel's rule: only after a pre_patch
 * that said yes).
 */
#include "hvp_patch.h"

#include <linux/seq_file.h>

static int hvp_version_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "hvpatch that nobody should see\n");
	return 0;
}

static int pre_patch(struct klp_object *obj)
{
	pr_info("pre_patch refuses\n");
	return -ENODEV;
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
			.post_unpatch = post_unpatch,
		},
	},
	{ }
};

HVP_PATCH(objects);
