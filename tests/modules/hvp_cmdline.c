// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One function: /proc/cmdline tells that the new code runs.
 */
#include "hvp_patch.h"

#include <linux/seq_file.h>

static int hvp_cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "hvpatch was here\n");
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = hvp_cmdline_proc_show },
	{ }
};

HVP_PATCH_VMLINUX(funcs);
