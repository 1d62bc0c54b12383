/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The RAM layout of a VM as QEMU tells it: `info mtree -f` for the ranges, `gpa2hva` at
 * both ends of each for the addresses.
 *
 *   text     = view*
 *   view     = "FlatView #" N  (" AS \"" name "\", root: " region)*
 *              " Root memory region: " region  (range | " No rendered FlatView")*
 *   range    = "  " start "-" last " (prio " N ", " type "): " region [" @" offset] [" " accel]
 *   type     = "ram" | "rom" | "nv-ram" | ... | "i/o" | "romd" | "ramd"
 *
 * (QEMU softmmu/memory.c, mtree_print_flatview.) Only the view of the address
 * space "memory" is what the guest kernel sees; other views are SMM's, a device's
 * or the I/O ports. `ramd` is a device's own memory and `romd` (flash) one that
 * may trap: both are left out. What is RAM below 1 MiB depends on the
 * chipset's shadow registers and is a snapshot.
 */
#pragma once

#include "vm/qmp.h"
#include "vm/ram.h"

/* One range of the view as printed: before it has an address. */
typedef struct {
	HvpGpaRange gpa;
	guint64 offset_bytes; /* into the memory region */
	char region[128];     /* its name, cut to fit */
} HvpQemuRamView;

/*
 * Parses the text of `info mtree -f`: the ranges of RAM, ascending, neighbours
 * that continue each other in one region merged. Returns an array of
 * HvpQemuRamView. BAD_DATA: no view of "memory", no RAM, ranges that overlap or do
 * not parse; UNSUPPORTED: more than HVP_RAM_MAX_RANGES.
 */
GArray *hvp_qemu_ram_parse_mtree(const char *text, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Parses the answer of `gpa2hva @gpa`, which must name the same address. BAD_DATA. */
bool hvp_qemu_ram_parse_gpa2hva(const char *text, HvpGpa gpa, HvpHva *ret_hva,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Asks QEMU for the layout. Besides the errors of qmp.h and of the parser:
 * BAD_DATA when a range is not contiguous in QEMU, BUSY when the layout changed in between.
 */
HvpRam *hvp_qemu_ram_query(HvpQmp *qmp, HvpDeadline deadline, GError **error);
