/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The RAM layout of a VM: which ranges of guest-physical memory exist, and at
 * which address of the process that runs it each lies. How it is found out: qemu-ram.h asks
 * QEMU, ram-guess.h asks nobody.
 */
#pragma once

#include "base/address.h"
#include "base/error.h"

#define HVP_RAM_MAX_RANGES 512

/* Guest-physical [start, end) lies at hva .. hva + (end - start) in the process. */
typedef struct {
	HvpGpa start;
	HvpGpa end;
	HvpHva hva;
} HvpRamRange;

typedef struct HvpRam HvpRam;

/*
 * A layout from @count @ranges (copied; any order, merged where they continue each
 * other). BAD_DATA: empty, reversed or overlapping ranges, none, or too many.
 */
HvpRam *hvp_ram_new(const HvpRamRange *ranges, gsize count, GError **error);

void hvp_ram_free(HvpRam *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpRam, hvp_ram_free)

/* All ranges, ascending by start, disjoint; borrowed. */
const HvpRamRange *hvp_ram_get_ranges(const HvpRam *self, gsize *ret_count);

/* The range that holds @gpa, or NULL where there is no RAM. */
const HvpRamRange *hvp_ram_find(const HvpRam *self, HvpGpa gpa);

/* The sum of all ranges. */
guint64 hvp_ram_get_size_bytes(const HvpRam *self);
