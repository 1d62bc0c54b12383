/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdint.h>
#include <time.h>

#define AGENT_NSEC_PER_MSEC 1000000LL
#define AGENT_NSEC_PER_SEC 1000000000LL

static inline int64_t agent_clock_nsec(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * AGENT_NSEC_PER_SEC + now.tv_nsec;
}
