/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The modules loaded in the guest: where each one's code is, its ORC table and
 * symbols, what it keeps as its arguments.
 *
 * A list is a snapshot. hvp_modules_still_hold() tells, by a few batched reads, whether
 * the guest's list is still the one that was read.
 */
#pragma once

#include "guest/orc.h"

#define HVP_MODULES_MAX 4096U
#define HVP_MODULE_NAME_BYTES 64U

typedef struct {
	HvpGva address;			  /* of its struct module */
	char name[HVP_MODULE_NAME_BYTES]; /* guest bytes, NUL-terminated */
	guint32 state;			  /* enum module_state */
	HvpGvaRange text;		  /* executable part of the core */
	HvpGvaRange init_text;		  /* empty once initialised */
	HvpGva args;
	gint32 refcount;
	guint32 orc_count;
	HvpGva orc_ips;
	HvpGva orc_entries;
	HvpGva kallsyms;
	HvpGva jump_labels;
	guint32 jump_label_count;
	HvpGva static_calls;
	guint32 static_call_count;
	HvpGva exceptions;
	guint32 exception_count;
	HvpOrc *orc; /* loaded on first use; NULL before */
	bool orc_failed;
	struct HvpModuleSymbols *symbols; /* likewise */
} HvpModule;

typedef struct HvpModules HvpModules;

/* Reads the list. A kernel without MODULES has an empty one. */
HvpModules *hvp_modules_read(HvpKernel *kernel, GError **error);
void hvp_modules_free(HvpModules *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpModules, hvp_modules_free)

guint hvp_modules_count(const HvpModules *self);
HvpModule *hvp_modules_get(HvpModules *self, guint index);
HvpModule *hvp_modules_find(HvpModules *self, const char *name);

/* The module with @pc in its text; NULL when there is none. */
HvpModule *hvp_modules_find_address(HvpModules *self, HvpGva pc);

/* @module's ORC table, loading it if need be; NULL when it has none or a bad one. */
const HvpOrc *hvp_modules_get_orc(HvpModules *self, HvpModule *module);

/*
 * Name and range of the function of @module that holds @pc; false when its symbols do not
 * tell. @ret_name is owned by @self.
 */
bool hvp_modules_symbolize(HvpModules *self, HvpModule *module, HvpGva pc, const char **ret_name,
			   HvpGvaRange *ret_range);

/* Whether any loaded module has a symbol @name. */
bool hvp_modules_has_symbol(HvpModules *self, const char *name);

/* Whether @module has one. */
bool hvp_modules_module_has_symbol(HvpModules *self, HvpModule *module, const char *name);

/*
 * The function @name of @module as livepatch means it: @position 0 wants it to be unique, n >= 1
 * takes the n-th of its symbol table. @ret_range ends at the next symbol. NOT_FOUND, AMBIGUOUS.
 */
bool hvp_modules_function(HvpModules *self, HvpModule *module, const char *name, guint64 position,
			  HvpGvaRange *ret_range, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Ranges (HvpGvaRange) of @module's functions that are @name, or @name with a "." part behind. */
GArray *hvp_modules_functions_named(HvpModules *self, HvpModule *module, const char *name);

/* Whether it is up: neither still being loaded nor on its way out. */
bool hvp_modules_is_live(const HvpModules *self, const HvpModule *module);

/* Whether the guest's list is still as it was read. Few reads; may be called while stopped. */
bool hvp_modules_still_hold(HvpModules *self);
