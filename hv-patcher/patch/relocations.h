/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the relocations of a module are sound: what the guest's module
 * loader would read or write outside of a section, or silently get wrong, is
 * refused here. Displacements (PC32 over 2 GiB) are known in the guest only.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "patch/elf.h"

/*
 * Every SHT_RELA section: tables, target, and for each entry the symbol's
 * index, the place and, where the guest applies it, the type and the addend.
 * BAD_DATA names section and entry.
 */
bool hvp_relocations_check(const HvpElf *elf, GError **error) G_GNUC_WARN_UNUSED_RESULT;
