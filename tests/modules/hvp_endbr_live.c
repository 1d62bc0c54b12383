// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A function that is called through a pointer: its ENDBR64 is live
 * (f3 0f 1e fa) on kernels with IBT. /proc/softirqs.
 */
#include "hvp_patch.h"

#include <linux/seq_file.h>

static int hvp_show_softirqs(struct seq_file *m, void *v)
{
	seq_puts(m, "hvpatch live\n");
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "show_softirqs", .new_func = hvp_show_softirqs },
	{ }
};

HVP_PATCH_VMLINUX(funcs);
