// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A second patch, independent of all others: /proc/execdomains.
 */
#include "hvp_patch.h"

#include <linux/seq_file.h>

static int hvp_execdomains_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "hvpatch second\n");
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "execdomains_proc_show", .new_func = hvp_execdomains_proc_show },
	{ }
};

HVP_PATCH_VMLINUX(funcs);
