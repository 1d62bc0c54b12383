/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/peers.h"

struct HvpPeers {
	GHashTable *counts; /* of each principal that has any */
	guint count, max_all, max_each;
};

HvpPeers *hvp_peers_new(guint max_all, guint max_each)
{
	HvpPeers *self = g_new0(HvpPeers, 1);

	self->counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	self->max_all = max_all;
	self->max_each = max_each;
	return self;
}

void hvp_peers_free(HvpPeers *self)
{
	if (self == NULL)
		return;
	g_hash_table_unref(self->counts);
	g_free(self);
}

bool hvp_peers_add(HvpPeers *self, const char *principal)
{
	guint count = GPOINTER_TO_UINT(g_hash_table_lookup(self->counts, principal));

	if (self->count >= self->max_all || count >= self->max_each)
		return false;
	self->count++;
	g_hash_table_insert(self->counts, g_strdup(principal), GUINT_TO_POINTER(count + 1));
	return true;
}

void hvp_peers_remove(HvpPeers *self, const char *principal)
{
	guint count = GPOINTER_TO_UINT(g_hash_table_lookup(self->counts, principal));

	g_return_if_fail(count > 0);
	self->count--;
	if (count == 1)
		g_hash_table_remove(self->counts, principal);
	else
		g_hash_table_insert(self->counts, g_strdup(principal), GUINT_TO_POINTER(count - 1));
}

guint hvp_peers_count(const HvpPeers *self)
{
	return self->count;
}
