/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Modules of kpatch-build (dynup/kpatch, kmod/patch/kpatch-patch.h):
 *
 *   .kpatch.funcs           56 bytes each: new_addr, new_size, old_addr, old_size, sympos,
 *                           name, objname; addresses and names are pointers
 *   .kpatch.callbacks.WHEN  16 bytes each: function, objname; 8 bytes of zero may follow
 *
 * The module's init makes struct klp_patch of them, with `replace` as an
 * immediate in its code and without states.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "patch/elf.h"
#include "patch/objects.h"
#include "patch/pointers.h"

bool hvp_kpatch_is_format(const HvpElf *elf);

/* BAD_DATA: a table that does not hold together. */
bool hvp_kpatch_read(const HvpElf *elf, const HvpPointers *pointers, HvpObjects *objects,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;
