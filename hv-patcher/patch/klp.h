/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ELF side of kernel livepatching (Documentation/livepatch/module-elf-format.rst):
 *
 *   symbol   .klp.sym.OBJECT.NAME,SYMPOS   in section SHN_LIVEPATCH
 *   section  .klp.rela.OBJECT.SECTION      SHT_RELA with flag SHF_RELA_LIVEPATCH
 *
 * OBJECT is vmlinux or a module and holds no dot; NAME may hold dots, no comma.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "patch/elf.h"
#include "patch/patch.h"

/*
 * Fills klp_symbols, klp_relocations and undefined of @patch, whose strings
 * must exist; each array is owned by @patch. BAD_DATA: a name that does not
 * parse, or a relocation that the kernel's own rules forbid.
 */
bool hvp_klp_read(const HvpElf *elf, HvpPatch *patch, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Frees what read has put into @patch. */
void hvp_klp_clear_patch(HvpPatch *patch);

/*
 * Splits a symbol's name; @ret_symbol's strings lie in @strings. False, without
 * an error set, if it does not parse.
 */
bool hvp_klp_parse_symbol(const char *text, GStringChunk *strings,
			  HvpPatchKlpSymbol *ret_symbol) G_GNUC_WARN_UNUSED_RESULT;
