/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clients that follow events. Each has a number up to which it was served, and is asked for what
 * comes behind that once all before is written: nothing piles up for a slow one, who falls behind
 * what the core holds in the end, or takes nothing for a while, and is disconnected. What many
 * readers of one principal wait for is asked of the core once.
 */
#pragma once

#include "apid/exchange.h"

HvpFeed *hvp_feed_new(HvpApi *api);
void hvp_feed_free(HvpFeed *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpFeed, hvp_feed_free)

/* Follows the events, or reads what there is, for @exchange, which it takes. */
void hvp_feed_read(HvpExchange *exchange);
