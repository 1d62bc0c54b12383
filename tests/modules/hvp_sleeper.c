// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Replaces a function in which tasks sleep for long: wait_for_partner, see
 * hvp_wait.h. /sys/module/hvp_sleeper/parameters/entered counts calls of the
 * new one; all else is as before.
 */
#include "hvp_patch.h"
#include "hvp_wait.h"

static unsigned int entered;
module_param(entered, uint, 0444);

static int hvp_wait_for_partner(struct pipe_inode_info *pipe, unsigned int *cnt)
{
	WRITE_ONCE(entered, entered + 1);
	return hvp_wait_until_changed(pipe, cnt);
}

static struct klp_func funcs[] = {
	{ .old_name = "wait_for_partner", .new_func = hvp_wait_for_partner },
	{ }
};

HVP_PATCH_VMLINUX(funcs);
