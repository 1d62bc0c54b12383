/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hand-written modules: a struct klp_patch in .data, filled in by the compiler
 * (kernel, samples/livepatch). It is the place whose `mod` is relocated to
 * __this_module; `objs` leads to an array of struct klp_object that ends in one
 * without name and functions, and each `funcs` to an array of struct klp_func
 * that ends in an all-zero one.
 *
 * Code may fill in or change all of that before klp_enable_patch: this is what
 * the file says, not what the kernel will see.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "patch/elf.h"
#include "patch/objects.h"
#include "patch/pointers.h"

/* False if @layout cannot be that of any kernel: fields outside, sizes of 0. */
bool hvp_klp_static_layout_is_sane(const HvpPatchLayout *layout);

/*
 * Fills @objects, and of @patch objects_known, replace and states. With no
 * struct klp_patch in the file objects_known and states_known are false.
 * AMBIGUOUS: more than one. BAD_DATA: arrays that do not end or hold together.
 */
bool hvp_klp_static_read(const HvpElf *elf, const HvpPointers *pointers,
			 const HvpPatchLayout *layout, HvpObjects *objects, HvpPatch *patch,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;
