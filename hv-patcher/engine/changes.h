/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All that one switch writes, in one go, and what must be true of the guest for it: text
 * (jumps behind fentry slots), data (records, the livepatch core's objects), and the modules that
 * were there when it was planned.
 */
#pragma once

#include "engine/applied.h"

typedef struct {
	HvpSite site;
	HvpGva slot_record; /* dyn_ftrace of the function; 0: its tracers do not matter */
} HvpTextChange;

/* A module that must be at the same place, or still missing, when the change is made. */
typedef struct {
	char *name;
	HvpGva module; /* struct module; 0: not loaded */
} HvpExpectedModule;

typedef struct {
	GArray *text;	  /* HvpTextChange */
	GArray *data;	  /* HvpSite */
	GArray *modules;  /* HvpExpectedModule */
	GArray *released; /* HvpGva: slots that the guest's livepatch core redirects for a patch
			     that goes */
} HvpChanges;

HvpChanges *hvp_changes_new(void);
void hvp_changes_free(HvpChanges *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpChanges, hvp_changes_free)

/* Adds a change of text. One of the same place gets its new bytes instead. */
void hvp_changes_add_text(HvpChanges *self, const HvpSite *site, HvpGva slot_record);

/* Lays over @code, a copy of the text from @start on, what the changes so far make of it. */
void hvp_changes_overlay(const HvpChanges *self, HvpGva start, guint8 *code, gsize length_bytes);

/* Whether the function with this fentry slot is redirected for a patch that goes. */
bool hvp_changes_is_released(const HvpChanges *self, HvpGva slot);

/* Changes @length_bytes (1..8) at @address, as they are now, to @value. */
bool hvp_changes_add_data(HvpChanges *self, HvpKernel *kernel, HvpGva address, gsize length_bytes,
			  guint64 value, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Likewise for member @item of the struct at @base. */
bool hvp_changes_add_member(HvpChanges *self, HvpKernel *kernel, HvpGva base, HvpLayoutItem item,
			    gsize length_bytes, guint64 value,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Module @name is to be as @modules has it. Returns it, or NULL. */
HvpModule *hvp_changes_expect_module(HvpChanges *self, HvpModules *modules, const char *name);

/* CONFLICT naming a module that came or went since. Allocates nothing on success. */
bool hvp_changes_check_modules(const HvpChanges *self, HvpModules *modules,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Adds what takes @applied out of force: its sites get their old bytes; functions that the core
 * redirects for it lead back from the new function's entry; the core is to patch no further
 * module for it and runs none of its callbacks; its record says so.
 */
bool hvp_changes_retire(HvpChanges *self, HvpTarget *target, const HvpFtrace *ftrace,
			HvpTextSites *sites, const HvpApplied *applied,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Adds what makes the core's half of @patch, whose record lies at patch->record, take part:
 * objects get their own names, and those that are loaded (their functions are among the text
 * changes) are known as such; the record says that the patch is in force.
 */
bool hvp_changes_enforce(HvpChanges *self, HvpTarget *target, const HvpKlpPatch *patch,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;
