/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/recovery.h"

HvpRecovery *hvp_recovery_new(const HvpJournalState *state)
{
	HvpRecovery *self = g_new0(HvpRecovery, 1);

	self->operation = g_strdup(g_hash_table_lookup(state->begin, "operation"));
	self->patch = g_strdup(g_hash_table_lookup(state->begin, "patch"));
	self->sha256 = g_strdup(g_hash_table_lookup(state->begin, "sha256"));
	self->finished = state->committed;
	return self;
}

void hvp_recovery_free(HvpRecovery *self)
{
	if (self == NULL)
		return;
	g_free(self->operation);
	g_free(self->patch);
	g_free(self->sha256);
	g_free(self);
}

char *hvp_recovery_describe(const HvpRecovery *self)
{
	return g_strdup_printf(
		"an interrupted %s of %s was %s", self->operation ? self->operation : "operation",
		self->patch ? self->patch : "a patch", self->finished ? "finished" : "rolled back");
}
