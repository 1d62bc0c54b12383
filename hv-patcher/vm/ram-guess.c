/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/ram-guess.h"

#include "vm/process-memory.h"
#include "vm/ram-evidence.h"

/* 2 GiB of page tables, which is a second; a guest of usual size has some MiB. */
#define MAX_PAGES (512U << 10)

static bool find_blocks(pid_t pid, HvpRamBlocks *ret_blocks, GError **error)
{
	return hvp_ram_blocks_read(ret_blocks, pid, error) &&
	       (ret_blocks->count > 0 ||
		hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			      "process %d has nothing mapped that could be a guest's memory",
			      (int)pid));
}

/* Each block at its own address, as if the guest had it there. */
static HvpPhysical *open_by_hva(pid_t pid, const HvpRamBlocks *blocks, GError **error)
{
	HvpRamRange ranges[HVP_RAM_BLOCKS_MAX];
	g_autoptr(HvpRam) ram = NULL;

	for (guint i = 0; i < blocks->count; i++) {
		const HvpRamBlock *block = &blocks->blocks[i];

		ranges[i] = (HvpRamRange){ hvp_gpa(block->hva.value),
					   hvp_gpa(block->hva.value + block->size_bytes),
					   block->hva };
	}
	ram = hvp_ram_new(ranges, blocks->count, error);
	return ram ? hvp_process_memory_new(pid, ram, error) : NULL;
}

static HvpRam *copy(const HvpRam *ram, GError **error)
{
	gsize count;
	const HvpRamRange *ranges = hvp_ram_get_ranges(ram, &count);

	return hvp_ram_new(ranges, count, error);
}

/* The only one of @layouts that agrees. */
static const HvpRamLayout *decide(HvpPhysical *by_hva, const GPtrArray *layouts,
				  const HvpRegisters *registers, guint count, GError **error)
{
	const HvpRamLayout *found = NULL;
	guint64 pages_left = MAX_PAGES;
	guint agreeing = 0;

	for (guint i = 0; i < layouts->len; i++) {
		const HvpRamLayout *layout = g_ptr_array_index(layouts, i);
		bool agrees;

		if (!hvp_ram_evidence_judge(by_hva, layout, registers, count, &pages_left,
					    &agrees, error))
			return NULL;
		agreeing += agrees;
		found = agrees ? layout : found;
	}
	if (agreeing == 1)
		return found;
	hvp_error_set(error, agreeing > 1 ? HVP_ERROR_AMBIGUOUS : HVP_ERROR_UNSUPPORTED,
		      "where guest memory lies is not told without the VM's monitor: %u of %u "
		      "possible layouts agree with the guest's page tables",
		      agreeing, layouts->len);
	return NULL;
}

HvpRam *hvp_ram_guess(pid_t pid, const HvpRegisters *registers, guint count, GError **error)
{
	g_autoptr(HvpPhysical) by_hva = NULL;
	g_autoptr(GPtrArray) layouts = NULL;
	const HvpRamLayout *layout;
	HvpRamBlocks blocks;

	if (!find_blocks(pid, &blocks, error))
		return NULL;
	by_hva = open_by_hva(pid, &blocks, error);
	if (by_hva == NULL)
		return NULL;
	layouts = hvp_ram_blocks_list_layouts(&blocks);
	layout = decide(by_hva, layouts, registers, count, error);
	return layout ? copy(layout->ram, error) : NULL;
}
