/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a module says about itself: section .modinfo, `key=value` strings, each
 * ended by NUL and padded by any number of NULs (kernel/module/main.c,
 * get_modinfo). Of several values of one key the first counts, as there.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "patch/elf.h"

#define HVP_MODINFO_MAX_ENTRIES 4096U
#define HVP_MODINFO_MAX_KEY_BYTES 64U
/* Longer values are cut, and end in "...". */
#define HVP_MODINFO_MAX_VALUE_BYTES 1024U
#define HVP_MODINFO_MAX_VERMAGIC_BYTES 255U

/*
 * Reads .modinfo into a table of key to value, both owned by it and escaped.
 * UNSUPPORTED: there is no such section. BAD_DATA: not terminated, too many
 * entries, a key that is no name.
 */
GHashTable *hvp_modinfo_read(const HvpElf *elf, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * The module's name, from modinfo and struct module, which must agree.
 * UNSUPPORTED: no struct module. BAD_DATA: no name, or two. Owned by @elf.
 */
const char *hvp_modinfo_module_name(const HvpElf *elf, GHashTable *modinfo,
				    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The vermagic of @modinfo, fit for a comparison. BAD_DATA: none, or not plain text. */
const char *hvp_modinfo_vermagic(GHashTable *modinfo, GError **error) G_GNUC_WARN_UNUSED_RESULT;
