/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How many of something each principal holds, and all of them together. */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct HvpPeers HvpPeers;

/* At most @max_all in all and @max_each of one principal. */
HvpPeers *hvp_peers_new(guint max_all, guint max_each);
void hvp_peers_free(HvpPeers *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpPeers, hvp_peers_free)

/* One more of @principal; false: that would be too many. */
bool hvp_peers_add(HvpPeers *self, const char *principal) G_GNUC_WARN_UNUSED_RESULT;
/* One that was added less. */
void hvp_peers_remove(HvpPeers *self, const char *principal);
guint hvp_peers_count(const HvpPeers *self);
