// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * c_start is a static function of several files of the kernel (cpuinfo,
 * consoles, crypto): with sympos 0 nobody can tell which one is meant.
 */
#include "hvp_patch.h"

#include <linux/seq_file.h>

static void *hvp_c_start(struct seq_file *m, loff_t *pos)
{
	return NULL;
}

static struct klp_func funcs[] = {
	{ .old_name = "c_start", .new_func = hvp_c_start },
	{ }
};

HVP_PATCH_VMLINUX(funcs);
