/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A point on the monotonic clock by which something must have happened. */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct {
	gint64 at_usec;
} HvpDeadline;

static inline HvpDeadline hvp_deadline_in(gint64 usec)
{
	return (HvpDeadline){ g_get_monotonic_time() + usec };
}

static inline bool hvp_deadline_passed(HvpDeadline self)
{
	return g_get_monotonic_time() >= self.at_usec;
}

/* What is left, never negative. */
static inline gint64 hvp_deadline_left_usec(HvpDeadline self)
{
	gint64 left_usec = self.at_usec - g_get_monotonic_time();

	/* Not with the difference in it: MAX() would ask for the time again. */
	return MAX(0, left_usec);
}

/* What is left for poll(2), rounded up, at most one hour. */
static inline int hvp_deadline_left_msec(HvpDeadline self)
{
	return (int)MIN((hvp_deadline_left_usec(self) + 999) / 1000, 3600 * 1000);
}

/* The earlier of the two. */
static inline HvpDeadline hvp_deadline_min(HvpDeadline a, HvpDeadline b)
{
	return a.at_usec < b.at_usec ? a : b;
}
