// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The new function ends in a jump to a helper of this module, in which the task
 * then sleeps: its stack shows the helper and never the new function. While it
 * sleeps the module must not go, although nobody is "in" the patched function.
 * (The guest's own livepatch does not see that: never rmmod it then.)
 *
 * tests/vm/test-modules.py proves that the jump is one. Enter and leave as with
 * hvp_sleeper; /sys/module/hvp_tailcall/parameters/entered counts.
 */
#include "hvp_patch.h"
#include "hvp_wait.h"

static unsigned int entered;
module_param(entered, uint, 0444);

static noinline __noclone int hvp_tailcall_helper(struct pipe_inode_info *pipe, unsigned int *cnt)
{
	WRITE_ONCE(entered, entered + 1);
	return hvp_wait_until_changed(pipe, cnt);
}

static int hvp_tailcall_new(struct pipe_inode_info *pipe, unsigned int *cnt)
{
	return hvp_tailcall_helper(pipe, cnt);
}

static struct klp_func funcs[] = {
	{ .old_name = "wait_for_partner", .new_func = hvp_tailcall_new },
	{ }
};

HVP_PATCH_VMLINUX(funcs);
