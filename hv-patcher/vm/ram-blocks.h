/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What in a process may be a guest's RAM, by its mappings alone, and the few layouts that it
 * could have in the guest. Nothing is read of that memory here.
 *
 *   block     a mapping that can be written and not executed: private and anonymous, or of
 *             memory that is shared by a file (memfd, tmpfs, hugetlbfs)
 *   layout    some blocks one behind the other, from 0 on; what is above the split begins at
 *             4 GiB
 *
 * Splits: QEMU pc 3 GiB, or all of up to 3.5 GiB below (hw/i386/pc_piix.c); q35 2 GiB, or all of
 * up to 2.75 GiB (pc_q35.c); microvm 3 GiB; cloud-hypervisor 3 GiB
 * (arch/src/x86_64/layout.rs); Firecracker 3.25 GiB, 3 GiB since 1.13 (the same name). The
 * range from 640 KiB to 1 MiB is in no layout: there are other things in front of the RAM.
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "vm/ram.h"

#define HVP_RAM_BLOCKS_MAX 12
/* How many blocks a layout can have. */
#define HVP_RAM_BLOCKS_MAX_PARTS 8
#define HVP_RAM_BLOCKS_MIN_BYTES (16ULL << 20)
#define HVP_RAM_BLOCKS_MAX_BYTES (64ULL << 40)

typedef struct {
	HvpHva hva;
	guint64 size_bytes;
} HvpRamBlock;

/* The largest ones, by size, then by address. */
typedef struct {
	guint count;
	HvpRamBlock blocks[HVP_RAM_BLOCKS_MAX];
} HvpRamBlocks;

typedef struct {
	HvpRam *ram;
	/* [0, low_end) and, if high_end is not 0, [4 GiB, high_end). */
	HvpGpa low_end;
	HvpGpa high_end;
	guint count;
	HvpRamBlock blocks[HVP_RAM_BLOCKS_MAX_PARTS]; /* in their order in the guest */
} HvpRamLayout;

/* The blocks among the lines of @maps, the text of /proc/PID/maps. */
void hvp_ram_blocks_parse(HvpRamBlocks *self, const char *maps);

/* The same of process @pid. Errors of hvp_process_maps_open. */
bool hvp_ram_blocks_read(HvpRamBlocks *self, pid_t pid, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether @size_bytes from @start on lie in one of them. */
bool hvp_ram_blocks_hold(const HvpRamBlocks *self, HvpHva start, guint64 size_bytes);

/*
 * All layouts: HvpRamLayout, no two the same. Each block alone; each two in either order; three
 * and four that follow each other by size in any order; five to HVP_RAM_BLOCKS_MAX_PARTS such
 * by ascending and descending address. Of HVP_RAM_BLOCKS_MAX blocks they are about 2,500.
 */
GPtrArray *hvp_ram_blocks_list_layouts(const HvpRamBlocks *self);

void hvp_ram_blocks_free_layout(HvpRamLayout *layout);
