/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The patches of ours that are in a guest, as the guest itself tells. */
#pragma once

#include "engine/journal.h"
#include "engine/klp-core.h"
#include "engine/record.h"
#include "engine/target.h"

typedef struct {
	char *name;
	HvpGva module; /* struct module */
	HvpGva args;   /* where the record lies */
	HvpGvaRange text;
	HvpGvaRange init_text;
	HvpRecord *record;
	HvpRecordState state;
	char *why;	  /* where the state is neither SWITCHED nor ORIGINAL; may be NULL */
	HvpKlpPatch *klp; /* NULL where the guest's memory does not show it */
	HvpKlpCore core;  /* what the guest's own livepatch core has of it */
} HvpApplied;

void hvp_applied_free(HvpApplied *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpApplied, hvp_applied_free)

/*
 * The patch of module @name, or NULL: NOT_FOUND where the guest has no such module, or one that
 * is none of ours; BAD_DATA where its record is damaged.
 */
HvpApplied *hvp_applied_read(HvpTarget *target, const char *name, GError **error);

/*
 * All of them, oldest first; @target's module list is read anew. A damaged record is among them,
 * TAMPERED.
 */
GPtrArray *hvp_applied_read_all(HvpTarget *target, GError **error);

/*
 * The klp_patches (HvpKlpPatch; the array is the caller's), oldest first, of what came before the
 * patch of @module and is in force, or was until that replaced it by journal @state (may be NULL):
 * those before it on the core's list while its own callbacks run. By @target's modules as they
 * were last read.
 */
GPtrArray *hvp_applied_read_older(HvpTarget *target, HvpGva module, const HvpJournalState *state);

/* Who sees to it that a patch's object runs new code. */
typedef enum {
	HVP_COVERAGE_SWITCH,  /* we switched it */
	HVP_COVERAGE_CORE,    /* it came later; the guest's own livepatch core patched it */
	HVP_COVERAGE_WAITING, /* it is not loaded; the core will patch it when it comes */
	HVP_COVERAGE_NONE,    /* nobody: the guest's owner has disabled the core's half */
} HvpCoverage;

/* "switch", "core", "waiting", "none". Static. */
const char *hvp_applied_coverage_name(HvpCoverage coverage);

/* Of @object, one of self->klp's. */
HvpCoverage hvp_applied_coverage(const HvpApplied *self, HvpTarget *target,
				 const HvpKlpObject *object);

/* Whether it has function @name of @object (NULL: vmlinux), loaded now or not. */
bool hvp_applied_has_function(const HvpApplied *self, const char *object, const char *name);
