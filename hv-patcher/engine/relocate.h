/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The relocations of a patch that lead into one module, applied by the guest's own code,
 * as its livepatch core does when the module comes:
 *
 *   module.klp_info -> struct klp_modinfo { hdr, sechdrs, secstrings, symndx }
 *   each section .klp.rela.OBJECT.* -> klp_apply_section_relocs()
 */
#pragma once

#include "call/borrow.h"

/* For the patch module at @module and its object @name. CONFLICT: a symbol is not there. */
bool hvp_relocate_object(HvpBorrow *borrow, HvpKernel *kernel, HvpGva module, const char *name,
			 HvpDeadline deadline, GError **error) G_GNUC_WARN_UNUSED_RESULT;
