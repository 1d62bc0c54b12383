/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/ram-blocks.h"

#include <stdlib.h>
#include <string.h>

#include "vm/process-maps.h"

#define MEBIBYTE (1ULL << 20)
#define LEGACY_START 0xa0000ULL
#define LEGACY_END 0x100000ULL
#define HIGH_START (4ULL << 30)
/* No more than this is ever below 4 GiB: the rest is the devices'. */
#define MAX_LOW_BYTES 0xe0000000ULL
#define MAX_PERMUTED_BLOCKS 4

static const guint64 splits[] = {
	0x80000000, 0xb0000000, 0xc0000000, 0xd0000000, 0xe0000000,
};

/* --- blocks --- */

/* Devices' memory (/dev/vfio/..), KVM's own pages and the program's stack and heap are none. */
static bool is_memory(const HvpProcessMapping *mapping)
{
	static const char *const memory_devices[] = { "/dev/zero", "/dev/shm/", "/dev/hugepages",
						      "/dev/dax", "[anon_shmem:" };

	if (mapping->inode == 0)
		return !mapping->shared &&
		       (mapping->path[0] == '\0' || g_str_has_prefix(mapping->path, "[anon:"));
	for (gsize i = 0; i < G_N_ELEMENTS(memory_devices); i++)
		if (g_str_has_prefix(mapping->path, memory_devices[i]))
			return true;
	return mapping->path[0] == '/' && !g_str_has_prefix(mapping->path, "/dev/");
}

static bool is_block(const HvpProcessMapping *mapping)
{
	guint64 size_bytes = mapping->end - mapping->start;

	return mapping->readable && mapping->writable && !mapping->executable &&
	       mapping->end > mapping->start && size_bytes >= HVP_RAM_BLOCKS_MIN_BYTES &&
	       size_bytes <= HVP_RAM_BLOCKS_MAX_BYTES && size_bytes % MEBIBYTE == 0 &&
	       is_memory(mapping);
}

static int compare_sizes(const void *a, const void *b)
{
	const HvpRamBlock *one = a, *other = b;

	if (one->size_bytes != other->size_bytes)
		return one->size_bytes > other->size_bytes ? -1 : 1;
	return (one->hva.value > other->hva.value) - (one->hva.value < other->hva.value);
}

void hvp_ram_blocks_parse(HvpRamBlocks *self, const char *maps)
{
	g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(HvpRamBlock));

	for (const char *line = maps; line != NULL && *line != '\0';
	     line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		HvpProcessMapping mapping;
		HvpRamBlock block;

		if (!hvp_process_maps_parse(line, &mapping) || !is_block(&mapping))
			continue;
		block = (HvpRamBlock){ hvp_hva(mapping.start), mapping.end - mapping.start };
		g_array_append_val(all, block);
	}
	g_array_sort(all, compare_sizes);
	self->count = MIN(all->len, HVP_RAM_BLOCKS_MAX);
	for (guint i = 0; i < self->count; i++)
		self->blocks[i] = g_array_index(all, HvpRamBlock, i);
}

bool hvp_ram_blocks_read(HvpRamBlocks *self, pid_t pid, GError **error)
{
	FILE *file = hvp_process_maps_open(pid, error);
	size_t size = 0;
	char *text = NULL;

	if (file == NULL)
		return false;
	self->count = 0;
	/* There is no NUL in it: all of it. */
	if (getdelim(&text, &size, 0, file) > 0)
		hvp_ram_blocks_parse(self, text);
	fclose(file);
	free(text);
	return true;
}

bool hvp_ram_blocks_hold(const HvpRamBlocks *self, HvpHva start, guint64 size_bytes)
{
	for (guint i = 0; i < self->count; i++) {
		const HvpRamBlock *block = &self->blocks[i];

		if (start.value >= block->hva.value && size_bytes <= block->size_bytes &&
		    start.value - block->hva.value <= block->size_bytes - size_bytes)
			return true;
	}
	return false;
}

/* --- layouts --- */

/* [@start, @end) of the guest is what lies from @offset_bytes on in all blocks together. */
static void add_ranges(GArray *ranges, const HvpRamLayout *layout, guint64 start, guint64 end,
		       guint64 offset_bytes)
{
	for (guint i = 0; i < layout->count && start < end; i++) {
		const HvpRamBlock *block = &layout->blocks[i];
		guint64 part_bytes;
		HvpRamRange range;

		if (offset_bytes >= block->size_bytes) {
			offset_bytes -= block->size_bytes;
			continue;
		}
		part_bytes = MIN(block->size_bytes - offset_bytes, end - start);
		range = (HvpRamRange){ hvp_gpa(start), hvp_gpa(start + part_bytes),
				       hvp_hva(block->hva.value + offset_bytes) };
		g_array_append_val(ranges, range);
		start += part_bytes;
		offset_bytes = 0;
	}
}

/* The blocks of @order with at most @split below 4 GiB. */
static void add_layout(GPtrArray *layouts, const HvpRamLayout *order, guint64 total_bytes,
		       guint64 split)
{
	g_autoptr(GArray) ranges = g_array_new(FALSE, FALSE, sizeof(HvpRamRange));
	HvpRamLayout *layout = g_memdup2(order, sizeof *order);
	guint64 low_end = MIN(split, total_bytes);

	layout->low_end = hvp_gpa(low_end);
	layout->high_end = hvp_gpa(0);
	add_ranges(ranges, layout, 0, LEGACY_START, 0);
	add_ranges(ranges, layout, LEGACY_END, low_end, LEGACY_END);
	if (total_bytes > low_end) {
		layout->high_end = hvp_gpa(HIGH_START + (total_bytes - low_end));
		add_ranges(ranges, layout, HIGH_START, layout->high_end.value, low_end);
	}
	layout->ram = hvp_ram_new((const HvpRamRange *)(void *)ranges->data, ranges->len, NULL);
	if (layout->ram != NULL)
		g_ptr_array_add(layouts, layout);
	else
		g_free(layout);
}

/* All splits of the blocks of @order. */
static void add_order(GPtrArray *layouts, const HvpRamLayout *order)
{
	guint64 total_bytes = 0;

	for (guint i = 0; i < order->count; i++)
		total_bytes += order->blocks[i].size_bytes;
	for (gsize i = 0; i < G_N_ELEMENTS(splits); i++)
		if (splits[i] < total_bytes)
			add_layout(layouts, order, total_bytes, splits[i]);
	if (total_bytes <= MAX_LOW_BYTES)
		add_layout(layouts, order, total_bytes, total_bytes);
}

static void add_singles_and_pairs(GPtrArray *layouts, const HvpRamBlocks *self)
{
	for (guint i = 0; i < self->count; i++) {
		HvpRamLayout order = { .count = 1, .blocks = { self->blocks[i] } };

		add_order(layouts, &order);
		order.count = 2;
		for (guint j = 0; j < self->count; j++) {
			order.blocks[1] = self->blocks[j];
			if (j != i)
				add_order(layouts, &order);
		}
	}
}

static bool is_permutation(const guint *digits, guint count)
{
	guint seen = 0;

	for (guint i = 0; i < count; i++)
		seen |= 1U << digits[i];
	return seen == (1U << count) - 1;
}

/* @count @blocks, at most MAX_PERMUTED_BLOCKS, in any order. */
static void add_permutations(GPtrArray *layouts, const HvpRamBlock *blocks, guint count)
{
	guint numbers = 1;

	for (guint i = 0; i < count; i++)
		numbers *= count;
	for (guint number = 0; number < numbers; number++) {
		HvpRamLayout order = { .count = count };
		guint digits[MAX_PERMUTED_BLOCKS], rest = number;

		for (guint i = 0; i < count; i++, rest /= count) {
			digits[i] = rest % count;
			order.blocks[i] = blocks[digits[i]];
		}
		if (is_permutation(digits, count))
			add_order(layouts, &order);
	}
}

static int compare_addresses(const void *a, const void *b)
{
	guint64 one = ((const HvpRamBlock *)a)->hva.value;
	guint64 other = ((const HvpRamBlock *)b)->hva.value;

	return (one > other) - (one < other);
}

/* Mappings that are made one after the other lie in one direction, mostly downwards. */
static void add_up_and_down(GPtrArray *layouts, const HvpRamBlock *blocks, guint count)
{
	HvpRamLayout up = { .count = count }, down = { .count = count };

	memcpy(up.blocks, blocks, count * sizeof *up.blocks);
	qsort(up.blocks, count, sizeof *up.blocks, compare_addresses);
	for (guint i = 0; i < count; i++)
		down.blocks[i] = up.blocks[count - 1 - i];
	add_order(layouts, &up);
	add_order(layouts, &down);
}

/* Backends of one guest are of about the same size: other mappings are larger or smaller. */
static void add_neighbours(GPtrArray *layouts, const HvpRamBlocks *self, guint count)
{
	for (guint i = 0; i + count <= self->count; i++) {
		if (count <= MAX_PERMUTED_BLOCKS)
			add_permutations(layouts, &self->blocks[i], count);
		else
			add_up_and_down(layouts, &self->blocks[i], count);
	}
}

void hvp_ram_blocks_free_layout(HvpRamLayout *layout)
{
	hvp_ram_free(layout->ram);
	g_free(layout);
}

GPtrArray *hvp_ram_blocks_list_layouts(const HvpRamBlocks *self)
{
	GPtrArray *layouts =
		g_ptr_array_new_with_free_func((GDestroyNotify)hvp_ram_blocks_free_layout);

	add_singles_and_pairs(layouts, self);
	for (guint count = 3; count <= MIN(self->count, HVP_RAM_BLOCKS_MAX_PARTS); count++)
		add_neighbours(layouts, self, count);
	return layouts;
}
