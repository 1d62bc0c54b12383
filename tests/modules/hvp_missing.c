// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Names a function that no kernel has, so it does not apply.
 */
#include "hvp_patch.h"

#include <linux/seq_file.h>

static int hvp_no_such_function_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "hvpatch that nobody should see\n");
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "no_such_function_proc_show", .new_func = hvp_no_such_function_proc_show },
	{ }
};

HVP_PATCH_VMLINUX(funcs);
