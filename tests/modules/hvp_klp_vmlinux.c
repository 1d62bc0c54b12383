// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Generation 10 of one function of vmlinux, which needs nr_running(), not
 * exported. For make-klp-build.
 */
#define HVP_GENERATION 10
#include "hvp_logged.h"
#include "hvp_new.h"

#include "hvp_klp_build.h"

extern unsigned int kernel_nr_running(void) HVP_KLP_SYMBOL(vmlinux, nr_running, 0);

/* The task that calls is running. */
static unsigned long hvp_klp_lcm(unsigned long a, unsigned long b)
{
	return kernel_nr_running() ? hvp_new_lcm(a, b) : 0;
}

static struct hvp_klp_func_ext funcs[] HVP_KLP_FUNCS = {
	{ .old_name = "lcm", .new_func = hvp_klp_lcm },
};

static struct hvp_klp_object_ext objects[] HVP_KLP_OBJECTS = {
	{ .funcs = funcs, .nr_funcs = 1, .callbacks = HVP_LOGGED },
};
