/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What tells one boot of the guest from another: where its kernel lies, and the random id that it
 * has made once somebody asked for it. After a reboot nothing is left of frames, writes, buffers
 * and modules: all addresses in a journal are void.
 */
#pragma once

#include "engine/journal.h"
#include "guest/kernel.h"

/* A number of where the kernel lies, for this boot. */
guint64 hvp_boot_get_place(HvpKernel *kernel);

/* Notes the boot that an operation begins in. */
bool hvp_boot_note(HvpKernel *kernel, HvpJournal *journal,
		   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether what @state was noted in is another boot than @kernel's. */
bool hvp_boot_has_changed(HvpKernel *kernel, const HvpJournalState *state);
