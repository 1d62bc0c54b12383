/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What hvp_target_a, hvp_target_b and the livepatches over them (hvp_gen1, 2, 3
 * and others) share: the functions that are replaced, and the one that calls
 * them all.
 *
 * Each function tells its generation: 0 is the original, 1, 2, ... the livepatch
 * that it comes from. hvp_generation_read() is replaced together with those that
 * it calls; nobody can be inside of it at the switch, so one call of it has to
 * see one generation.
 */
#ifndef HVP_GENERATION_H
#define HVP_GENERATION_H

#include <linux/compiler.h>
#include <linux/sched/signal.h>
#include <linux/string.h>
#include <linux/types.h>
#include <linux/wait.h>

/* The compiler may neither inline, specialize nor look through it. */
#define HVP_TARGET noinline __attribute__((__noipa__))

/* Arguments that nobody else has, and results, of two functions of vmlinux. */
#define HVP_LCM_PROBE 0x6876UL
#define HVP_NOT_ZERO_PROBE 0x7668UL

/* So many times each is called by one hvp_generation_read(). */
#define HVP_GENERATION_PASSES 8U

/* In the place of a generation: hvp_target_b is not loaded. */
#define HVP_GENERATION_ABSENT (-1)

enum {
	HVP_GENERATION_READ,
	HVP_GENERATION_LCM,
	HVP_GENERATION_NOT_ZERO,
	HVP_GENERATION_A_ONE,
	HVP_GENERATION_A_TWO,
	HVP_GENERATION_B_ONE,
	HVP_GENERATION_B_TWO,
	HVP_GENERATION_COUNT,
};

/* Through pointers: lcm and lcm_not_zero are "const", the compiler would call them once. */
struct hvp_generation_calls {
	unsigned long (*lcm)(unsigned long a, unsigned long b);
	unsigned long (*not_zero)(unsigned long a, unsigned long b);
	/* Each adds one to *calls. */
	int (*a_one)(unsigned int *calls);
	int (*a_two)(unsigned int *calls);
	/* NULL while hvp_target_b is not loaded. */
	int (*b_one)(unsigned int *calls);
	int (*b_two)(unsigned int *calls);
};

struct hvp_generation {
	int values[HVP_GENERATION_COUNT];
	/* Passes that saw something else than the first. */
	unsigned int unsteady;
	/* Calls that were made and did not come to their function, or came twice. */
	unsigned int lost;
};

/* Where hvp_a_sleep() sleeps until somebody adds to @wakes. */
struct hvp_sleep {
	wait_queue_head_t queue;
	unsigned int wakes;
};

/* In hvp_target_a: the functions of hvp_target_b come and go. */
typedef int hvp_generation_function(unsigned int *calls);
void hvp_generation_join(hvp_generation_function *one, hvp_generation_function *two);
void hvp_generation_leave(void);

static __always_inline void hvp_generation_pass(const struct hvp_generation_calls *calls,
						int *values, unsigned int *count)
{
	values[HVP_GENERATION_LCM] = calls->lcm(HVP_LCM_PROBE, HVP_LCM_PROBE) - HVP_LCM_PROBE;
	values[HVP_GENERATION_A_ONE] = calls->a_one(count);
	values[HVP_GENERATION_B_ONE] = calls->b_one ? calls->b_one(count) : HVP_GENERATION_ABSENT;
	values[HVP_GENERATION_NOT_ZERO] =
		calls->not_zero(HVP_NOT_ZERO_PROBE, HVP_NOT_ZERO_PROBE) - HVP_NOT_ZERO_PROBE;
	values[HVP_GENERATION_A_TWO] = calls->a_two(count);
	values[HVP_GENERATION_B_TWO] = calls->b_two ? calls->b_two(count) : HVP_GENERATION_ABSENT;
}

/* What hvp_generation_read() does, the original and each that replaces it. */
static __always_inline void hvp_generation_fill(const struct hvp_generation_calls *calls,
						int generation, struct hvp_generation *result)
{
	unsigned int expected = HVP_GENERATION_PASSES * (calls->b_one ? 4 : 2);
	unsigned int count = 0, pass;
	int values[HVP_GENERATION_COUNT];

	memset(result, 0, sizeof(*result));
	values[HVP_GENERATION_READ] = generation;
	for (pass = 0; pass < HVP_GENERATION_PASSES; pass++) {
		hvp_generation_pass(calls, values, &count);
		if (pass == 0)
			memcpy(result->values, values, sizeof(values));
		else if (memcmp(result->values, values, sizeof(values)))
			result->unsteady++;
	}
	result->lost = expected - count;
}

/* What hvp_a_sleep() does: -ERESTARTSYS if a signal came first. */
static __always_inline int hvp_sleep_until_woken(struct hvp_sleep *sleep, int generation)
{
	unsigned int before = READ_ONCE(sleep->wakes);
	int error = wait_event_interruptible(sleep->queue, READ_ONCE(sleep->wakes) != before);

	return error ? error : generation;
}

#endif
