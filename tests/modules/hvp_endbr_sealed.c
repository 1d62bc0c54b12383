// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A global function that is never called through a pointer: on kernels with
 * IBT its ENDBR64 is sealed at boot (66 0f 1f 00, newer 0f 1f 40 d6).
 * /proc/loadavg says 4242 running tasks.
 */
#include "hvp_patch.h"

static unsigned int hvp_nr_running(void)
{
	return 4242;
}

static struct klp_func funcs[] = {
	{ .old_name = "nr_running", .new_func = hvp_nr_running },
	{ }
};

HVP_PATCH_VMLINUX(funcs);
