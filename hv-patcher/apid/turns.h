/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who may go now: so many go at a time, in all and of each principal, the others wait. They go in
 * the order in which they came, but that who has as many going as may be is passed over. So nobody
 * waits behind what one principal alone has too much of.
 *
 *   join -> waiting -> next -> going -> end
 *              | leave, drop
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct HvpTurns HvpTurns;

typedef struct {
	guint going, going_each;
	guint waiting, waiting_each;
} HvpTurnsLimits;

HvpTurns *hvp_turns_new(const HvpTurnsLimits *limits);
/* Nobody may wait any more; see hvp_turns_drop(). NULL: nothing. */
void hvp_turns_free(HvpTurns *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpTurns, hvp_turns_free)

/* @item, borrowed, waits from now on; false: too many do, in all or of @principal. */
bool hvp_turns_join(HvpTurns *self, const char *principal, void *item) G_GNUC_WARN_UNUSED_RESULT;
/* @item waits no longer; false: it did not. */
bool hvp_turns_leave(HvpTurns *self, const void *item);
/* Whose turn it is: it goes from now on. NULL: nobody's. */
void *hvp_turns_next(HvpTurns *self);
/* One of @principal that was going has ended. */
void hvp_turns_end(HvpTurns *self, const char *principal);
/* The first of those that wait, which does so no longer; NULL: there is none. */
void *hvp_turns_drop(HvpTurns *self);
