/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How functions, blockers and stacks look, the same in every command. */
#pragma once

#include "cli/output.h"
#include "document/parts.h"
#include "engine/check.h"

/* A table of what a check has found and a line of it. */
struct libscols_table *hvp_cli_show_items_table(void);
void hvp_cli_show_item_line(struct libscols_table *table, const char *item, bool ok, bool accepted,
			    const char *why);

/* Tables of the functions that a patch would replace, and of the patches in a guest. */
struct libscols_table *hvp_cli_show_targets_table(void);
struct libscols_table *hvp_cli_show_patches_table(void);

/* A table of functions and a line of it. */
struct libscols_table *hvp_cli_show_functions_table(void);
void hvp_cli_show_function_line(struct libscols_table *table, const char *object, const char *name,
				HvpGva old_address, HvpGva new_address, HvpGva site);

/* The member "blockers" as a table, each with its stack underneath; nothing where there is none. */
void hvp_cli_show_blockers_table(const GPtrArray *blockers);
