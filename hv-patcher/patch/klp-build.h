/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Modules of klp-build (in the kernel's tree since 6.19,
 * include/linux/livepatch_external.h):
 *
 *   __klp_objects, later .init.klp_objects   struct klp_object_ext, 64 bytes: name (NULL:
 *                                            vmlinux), funcs, callbacks, nr_funcs
 *   __klp_funcs, later .init.klp_funcs       struct klp_func_ext, 24 bytes: old_name,
 *                                            new_func, sympos
 *
 * The module's init (scripts/livepatch/init.c) makes struct klp_patch of them,
 * with `replace` as an immediate in its code and, so far, without states.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "patch/elf.h"
#include "patch/objects.h"
#include "patch/pointers.h"

bool hvp_klp_build_is_format(const HvpElf *elf);

/* BAD_DATA: a table that does not hold together. */
bool hvp_klp_build_read(const HvpElf *elf, const HvpPointers *pointers, HvpObjects *objects,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;
