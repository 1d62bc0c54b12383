/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/callbacks.h"

#include "engine/loader.h"

#define UNDONE "undone"

static bool is_called(const HvpJournalState *state, const HvpKlpObject *object,
		      HvpKlpCallback which)
{
	return hvp_journal_state_has_begun(state, hvp_loader_get_step(which), object->key.value);
}

void hvp_callbacks_drop_post_unpatch(HvpKlpPatch *klp, const HvpJournalState *state)
{
	bool loading = hvp_journal_state_has(state, "klp", klp->address.value);

	for (guint i = 0; i < hvp_klp_patch_count(klp); i++) {
		HvpKlpObject *object = hvp_klp_patch_get(klp, i);
		bool due = !loading ||
			   (is_called(state, object, HVP_KLP_PRE_PATCH) &&
			    !hvp_journal_state_has(state, "pre-patch-refused", object->key.value));

		if (!due || is_called(state, object, HVP_KLP_POST_UNPATCH) ||
		    hvp_journal_state_has(state, UNDONE, object->key.value))
			object->callbacks[HVP_KLP_POST_UNPATCH] = hvp_gva(0);
	}
}

bool hvp_callbacks_drop_undone(HvpKlpPatch *klp, HvpJournal *journal, GError **error)
{
	static const HvpKlpCallback dropped[] = { HVP_KLP_PRE_UNPATCH, HVP_KLP_POST_UNPATCH,
						  HVP_KLP_POST_PATCH };

	for (guint i = 0; i < hvp_klp_patch_count(klp); i++) {
		HvpKlpObject *object = hvp_klp_patch_get(klp, i);

		if (object->name == NULL || object->is_due)
			continue;
		if (!hvp_journal_step(journal, UNDONE, object->key.value, error))
			return false;
		for (guint which = 0; which < G_N_ELEMENTS(dropped); which++)
			object->callbacks[dropped[which]] = hvp_gva(0);
	}
	return true;
}

void hvp_callbacks_drop_post_patch(HvpKlpPatch *klp, const HvpJournalState *state, bool applied)
{
	for (guint i = 0; i < hvp_klp_patch_count(klp); i++) {
		HvpKlpObject *object = hvp_klp_patch_get(klp, i);
		bool due = applied || is_called(state, object, HVP_KLP_PRE_UNPATCH);

		if (!due || is_called(state, object, HVP_KLP_POST_PATCH))
			object->callbacks[HVP_KLP_POST_PATCH] = hvp_gva(0);
	}
}
