// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Generation 9 of two functions, each of which needs something that is not
 * exported: nr_running() of the kernel, hvp_a_secret() of hvp_target_a. For
 * make-klp-build.
 */
#define HVP_GENERATION 9
#include "hvp_logged.h"
#include "hvp_new.h"

#include "hvp_klp_build.h"

extern unsigned int kernel_nr_running(void) HVP_KLP_SYMBOL(vmlinux, nr_running, 0);
extern int a_secret(void) HVP_KLP_SYMBOL(hvp_target_a, hvp_a_secret, 1);

/* The task that calls is running. */
static unsigned long hvp_klp_lcm(unsigned long a, unsigned long b)
{
	return kernel_nr_running() ? hvp_new_lcm(a, b) : 0;
}

static int hvp_klp_a_one(unsigned int *calls)
{
	return hvp_new_a_one(calls) + a_secret();
}

static struct hvp_klp_func_ext funcs[] HVP_KLP_FUNCS = {
	{ .old_name = "lcm", .new_func = hvp_klp_lcm },
	{ .old_name = "hvp_a_one", .new_func = hvp_klp_a_one, .sympos = 1 },
};

static struct hvp_klp_object_ext objects[] HVP_KLP_OBJECTS = {
	{ .funcs = &funcs[0], .nr_funcs = 1, .callbacks = HVP_LOGGED },
	{ .name = "hvp_target_a", .funcs = &funcs[1], .nr_funcs = 1, .callbacks = HVP_LOGGED },
};
