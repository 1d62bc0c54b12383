/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Places in the kernel's text that the guest kernel rewrites by itself, or finds by
 * address: jump labels, static calls, exception-table entries, kprobes, SMP-lock
 * prefixes. Text that is to be overwritten must contain none of them.
 *
 * Source: kernel/jump_label.c, kernel/static_call_inline.c, kernel/kprobes.c,
 * arch/x86/kernel/alternative.c, lib/extable.c.
 */
#pragma once

#include "guest/modules.h"

typedef struct HvpTextSites HvpTextSites;

/* Copies the image's tables, which do not change after boot. */
HvpTextSites *hvp_text_sites_read(HvpKernel *kernel, GError **error);
void hvp_text_sites_free(HvpTextSites *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpTextSites, hvp_text_sites_free)

/* Adds the places in @module's text. */
bool hvp_text_sites_add_module(HvpTextSites *self, HvpKernel *kernel, const HvpModule *module,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* UNSUPPORTED naming the kind and address of a site in @range. */
bool hvp_text_sites_check(const HvpTextSites *self, HvpGvaRange range,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* UNSUPPORTED naming a site in @range from which execution may go on elsewhere, as it is a jump
 * label or has an exception-table entry. */
bool hvp_text_sites_check_exits(const HvpTextSites *self, HvpGvaRange range,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * CONFLICT naming a kprobe (enabled, disabled or optimised) inside @range. Reads the guest's
 * table anew: a few reads and as many as there are probes; may be called while stopped.
 */
bool hvp_text_sites_check_kprobes(HvpKernel *kernel, HvpGvaRange range,
				  GError **error) G_GNUC_WARN_UNUSED_RESULT;
