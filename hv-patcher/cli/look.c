/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/look.h"

#include "engine/switch.h"
#include "engine/transaction.h"

HvpSweep *hvp_cli_look(HvpTarget *target, GError **error)
{
	g_autoptr(HvpTransaction) transaction = NULL;
	g_autoptr(HvpSweep) sweep = NULL;

	if (!hvp_transaction_open_for_looking(target, &transaction, error))
		return NULL;
	sweep = hvp_switch_look(target, transaction ? transaction->keeper : NULL, error);
	/* A look that failed is still left properly; its own error is the one that tells. */
	if (transaction != NULL &&
	    !hvp_transaction_close(g_steal_pointer(&transaction), sweep ? error : NULL))
		return NULL;
	return g_steal_pointer(&sweep);
}
