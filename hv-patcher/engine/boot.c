/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/boot.h"

/* 0: not known. */
static guint64 value_of(HvpKernel *kernel, const char *name)
{
	guint64 value;

	return hvp_kernel_has_symbol(kernel, name) &&
			       hvp_kernel_read_u64(kernel, name, &value, NULL)
		       ? value
		       : 0;
}

guint64 hvp_boot_get_place(HvpKernel *kernel)
{
	guint64 text = hvp_kernel_get_location(kernel)->range.start.value;

	/* Each is aligned, to 2 MiB or 1 GiB, and has its random bits elsewhere. */
	return value_of(kernel, "page_offset_base") ^ value_of(kernel, "vmalloc_base") >> 16 ^
	       text >> 21;
}

bool hvp_boot_note(HvpKernel *kernel, HvpJournal *journal, GError **error)
{
	return hvp_journal_step(journal, "boot", hvp_boot_get_place(kernel), error) &&
	       hvp_journal_step(journal, "boot-id", value_of(kernel, "sysctl_bootid"),
				error);
}

bool hvp_boot_has_changed(HvpKernel *kernel, const HvpJournalState *state)
{
	guint64 place, id;

	if (hvp_journal_state_find(state, "boot", &place) && place != hvp_boot_get_place(kernel))
		return true;
	return hvp_journal_state_find(state, "boot-id", &id) && id != 0 &&
	       id != value_of(kernel, "sysctl_bootid");
}
