/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New functions of generation HVP_GENERATION, to be defined before, for those of
 * vmlinux, hvp_target_a and hvp_target_b that hvp_generation.h is about. In
 * vmlinux they do what the originals do for everybody else.
 */
#ifndef HVP_NEW_H
#define HVP_NEW_H

#include <linux/gcd.h>

#include "hvp_generation.h"

static __maybe_unused unsigned long hvp_new_lcm(unsigned long a, unsigned long b)
{
	if (a == HVP_LCM_PROBE && b == HVP_LCM_PROBE)
		return HVP_LCM_PROBE + HVP_GENERATION;
	return a && b ? a / gcd(a, b) * b : 0;
}

static __maybe_unused unsigned long hvp_new_lcm_not_zero(unsigned long a, unsigned long b)
{
	if (a == HVP_NOT_ZERO_PROBE && b == HVP_NOT_ZERO_PROBE)
		return HVP_NOT_ZERO_PROBE + HVP_GENERATION;
	if (a && b)
		return a / gcd(a, b) * b;
	return b ? b : a;
}

static __maybe_unused int hvp_new_a_one(unsigned int *calls)
{
	*calls += 1;
	return HVP_GENERATION;
}

static __maybe_unused int hvp_new_a_two(unsigned int *calls)
{
	*calls += 1;
	return HVP_GENERATION;
}

static __maybe_unused int hvp_new_b_one(unsigned int *calls)
{
	*calls += 1;
	return HVP_GENERATION;
}

static __maybe_unused int hvp_new_b_two(unsigned int *calls)
{
	*calls += 1;
	return HVP_GENERATION;
}

static __maybe_unused void hvp_new_generation_read(const struct hvp_generation_calls *calls,
						   struct hvp_generation *result)
{
	hvp_generation_fill(calls, HVP_GENERATION, result);
}

#endif
