/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kvm backend writes sets no dirty bit: a page that a migration, dump or snapshot had
 * read before stays old in its copy, page by page. No operation begins while there is such a job;
 * whether one began on the way is asked when it is over, and then one byte of each page that was
 * written is written once more, as it is, through QEMU itself, which sends those pages again.
 *
 * The guest could do that as well (text_poke), but only under its text_mutex, which a tool that
 * is killed between two guest calls would leave locked for ever.
 */
#pragma once

#include "engine/journal.h"
#include "engine/target.h"

typedef struct HvpEcho HvpEcho;

/*
 * Remembers which jobs @target (borrowed) has had, as its monitor or its owner tells; none is under
 * way. UNSUPPORTED: neither is there.
 */
HvpEcho *hvp_echo_new(HvpTarget *target, GError **error);
/* The same for an operation that began when these were @jobs. */
HvpEcho *hvp_echo_new_since(HvpTarget *target, guint64 jobs);
guint64 hvp_echo_get_jobs(const HvpEcho *self);
void hvp_echo_free(HvpEcho *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpEcho, hvp_echo_free)

/* Whether any job has begun since, or got on. */
bool hvp_echo_is_needed(const HvpEcho *self, bool *ret_needed,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Adds to @pages (HvpGpa) all places at which the journal says that something was written. */
void hvp_echo_add_places(GArray *pages, const HvpJournalState *state);

/*
 * Writes to all of @pages (HvpGpa) through @keeper, which is attached by the gdb stub. Pages that
 * are no memory of the guest's any more are left out.
 */
bool hvp_echo_write(HvpMachine *machine, HvpKeeper *keeper, const GArray *pages,
		    GError **error) G_GNUC_WARN_UNUSED_RESULT;
