/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/turns.h"

#include "apid/peers.h"

struct HvpTurns {
	HvpPeers *going, *waiting;
	GQueue queue; /* Turn, as they came */
};

/* One that waits. */
typedef struct {
	char *principal;
	void *item;
} Turn;

HvpTurns *hvp_turns_new(const HvpTurnsLimits *limits)
{
	HvpTurns *self = g_new0(HvpTurns, 1);

	self->going = hvp_peers_new(limits->going, limits->going_each);
	self->waiting = hvp_peers_new(limits->waiting, limits->waiting_each);
	g_queue_init(&self->queue);
	return self;
}

void hvp_turns_free(HvpTurns *self)
{
	if (self == NULL)
		return;
	g_warn_if_fail(g_queue_is_empty(&self->queue));
	hvp_peers_free(self->going);
	hvp_peers_free(self->waiting);
	g_free(self);
}

bool hvp_turns_join(HvpTurns *self, const char *principal, void *item)
{
	Turn *turn;

	if (!hvp_peers_add(self->waiting, principal))
		return false;
	turn = g_new0(Turn, 1);
	*turn = (Turn){ g_strdup(principal), item };
	g_queue_push_tail(&self->queue, turn);
	return true;
}

/* Takes @link from the queue; returns its item. */
static void *take(HvpTurns *self, GList *link)
{
	Turn *turn = link->data;
	void *item = turn->item;

	hvp_peers_remove(self->waiting, turn->principal);
	g_queue_delete_link(&self->queue, link);
	g_free(turn->principal);
	g_free(turn);
	return item;
}

bool hvp_turns_leave(HvpTurns *self, const void *item)
{
	for (GList *link = self->queue.head; link != NULL; link = link->next) {
		if (((Turn *)link->data)->item != item)
			continue;
		take(self, link);
		return true;
	}
	return false;
}

void *hvp_turns_next(HvpTurns *self)
{
	for (GList *link = self->queue.head; link != NULL; link = link->next)
		if (hvp_peers_add(self->going, ((Turn *)link->data)->principal))
			return take(self, link);
	return NULL;
}

void hvp_turns_end(HvpTurns *self, const char *principal)
{
	hvp_peers_remove(self->going, principal);
}

void *hvp_turns_drop(HvpTurns *self)
{
	return self->queue.head != NULL ? take(self, self->queue.head) : NULL;
}
