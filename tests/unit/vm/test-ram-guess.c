/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layouts of guests that are made of this process's own memory: page tables as Linux has them,
 * looked at as those of any other process. What is never touched is not allocated.
 */
#include "vm/ram-guess.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "vm/ram-blocks.h"

#define MEBIBYTE (1ULL << 20)
#define GIBIBYTE (1ULL << 30)
#define HIGH_START (4 * GIBIBYTE)

#define LINEAR 0xffff888000000000ULL
#define LINEAR_5_LEVEL 0xff11000000000000ULL
#define IMAGE 0xffffffff81000000ULL
#define IMAGE_GPA (16 * MEBIBYTE)
#define IMAGE_BYTES (8 * MEBIBYTE)
#define IDT 0xfffffe0000000000ULL
#define IDT_GPA 0x5000ULL
#define VMALLOC 0xffffc90000000000ULL
#define ROOT_GPA (24 * MEBIBYTE)

#define PRESENT 0x63
#define LARGE 0x80
#define USER 0x4

#define MAX_BLOCKS 4

typedef struct {
	guint64 sizes[MAX_BLOCKS]; /* in their order in the guest; 0: no more */
	guint64 split;
	bool shared;   /* a memfd each */
	bool reversed; /* made in the other order */
	bool la57;
	guint64 linear_end; /* of what is below 4 GiB; 0: as firmware leaves it */
	bool no_linear;
} Shape;

/* A guest in this process. */
typedef struct {
	Shape shape;
	guint8 *blocks[MAX_BLOCKS];
	guint64 total_bytes;
	guint64 tables; /* how many there are; each second one is at the end of RAM */
	guint64 root;
	HvpRegisters registers;
} Guest;

static guint8 *make_block(guint64 size_bytes, bool shared)
{
	/* Guard pages on both sides, as QEMU has them: mappings that touch become one. */
	guint8 *room = mmap(NULL, size_bytes + 2 * MEBIBYTE, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int flags = MAP_FIXED | MAP_NORESERVE | (shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
	int fd = -1;

	g_assert_true(room != MAP_FAILED);
	if (shared) {
		fd = memfd_create("ram", MFD_CLOEXEC);
		g_assert_cmpint(ftruncate(fd, (off_t)size_bytes), ==, 0);
	}
	g_assert_true(mmap(room + MEBIBYTE, size_bytes, PROT_READ | PROT_WRITE, flags, fd, 0) ==
		      room + MEBIBYTE);
	if (fd >= 0)
		close(fd);
	return room + MEBIBYTE;
}

/* Where @gpa lies here; the bytes up to the end of its block. */
static guint8 *find(const Guest *self, guint64 gpa)
{
	guint64 offset = gpa >= HIGH_START ? gpa - HIGH_START + self->shape.split : gpa;

	for (guint i = 0; i < MAX_BLOCKS && self->shape.sizes[i] > 0; i++) {
		if (offset < self->shape.sizes[i])
			return self->blocks[i] + offset;
		offset -= self->shape.sizes[i];
	}
	g_assert_not_reached();
}

static guint64 end_of_ram(const Guest *self)
{
	return self->total_bytes <= self->shape.split
		       ? self->total_bytes
		       : self->total_bytes - self->shape.split + HIGH_START;
}

/* In turn behind the root, in front of the end of RAM, and in each of the blocks. */
static guint64 new_table(Guest *self)
{
	guint64 turn = self->tables++, start = 0;
	guint block = (guint)(turn % 3);

	if (block == 0 || self->shape.sizes[1] == 0)
		return turn % 2 ? end_of_ram(self) - MEBIBYTE - turn * 4096
				: ROOT_GPA + (turn + 2) * 4096;
	for (guint i = 0; i < block && self->shape.sizes[i + 1] > 0; i++)
		start += self->shape.sizes[i];
	start += 8 * MEBIBYTE + turn * 4096;
	return start < self->shape.split ? start : start - self->shape.split + HIGH_START;
}

static guint64 *entry_of(Guest *self, guint64 table, guint64 gva, guint level)
{
	return (guint64 *)(void *)(find(self, table) + ((gva >> (12 + 9 * (level - 1))) & 511) * 8);
}

/* One page of level @last (1: 4 KiB, 2: 2 MiB), with @flags in its entry. */
static void map_page(Guest *self, guint64 gva, guint64 gpa, guint last, guint64 flags)
{
	guint64 table = self->root;

	for (guint level = self->shape.la57 ? 5 : 4; level > last; level--) {
		guint64 *entry = entry_of(self, table, gva, level);

		if (*entry == 0)
			*entry = new_table(self) | PRESENT;
		table = *entry & ~0xfffULL;
	}
	*entry_of(self, table, gva, last) = gpa | flags | (last > 1 ? LARGE : 0);
}

static guint64 linear_of(const Guest *self)
{
	return self->shape.la57 ? LINEAR_5_LEVEL : LINEAR;
}

static void map_linear(Guest *self, guint64 start, guint64 end)
{
	guint64 at = start;

	for (; at + 2 * MEBIBYTE <= end; at += 2 * MEBIBYTE)
		map_page(self, linear_of(self) + at, at, 2, PRESENT);
	for (; at < end; at += 4096)
		map_page(self, linear_of(self) + at, at, 1, PRESENT);
}

static void map_ram(Guest *self)
{
	guint64 low_end = MIN(self->total_bytes, self->shape.split);

	if (self->shape.no_linear)
		return;
	map_linear(self, 0, self->shape.linear_end ? self->shape.linear_end : low_end - 0x20000);
	if (self->total_bytes > low_end)
		map_linear(self, HIGH_START, end_of_ram(self));
}

static void map_kernel(Guest *self)
{
	guint8 *gate = find(self, IDT_GPA) + 14 * 16;
	guint64 handler = IMAGE + 0x1000;

	for (guint64 at = 0; at < IMAGE_BYTES; at += 2 * MEBIBYTE)
		map_page(self, IMAGE + at, IMAGE_GPA + at, 2, PRESENT);
	map_page(self, IDT, IDT_GPA, 1, PRESENT);
	hvp_store_u16(gate, (guint16)handler);
	hvp_store_u16(gate + 6, (guint16)(handler >> 16));
	hvp_store_u32(gate + 8, (guint32)(handler >> 32));
	/* Pages from all over, as vmalloc has them, and a device. */
	for (guint64 i = 0; i < 64; i++)
		map_page(self, VMALLOC + i * 4096, 8 * MEBIBYTE + i * 8192, 1, PRESENT);
	map_page(self, VMALLOC + 65 * 4096, 0xfebf0000, 1, PRESENT | 0x18);
}

static void guest_start(Guest *self, const Shape *shape)
{
	guint count = 0;

	*self = (Guest){ .shape = *shape, .root = ROOT_GPA };
	if (self->shape.split == 0)
		self->shape.split = G_MAXUINT64 >> 1;
	while (count < MAX_BLOCKS && shape->sizes[count] > 0)
		self->total_bytes += shape->sizes[count++];
	for (guint i = 0; i < count; i++) {
		guint which = shape->reversed ? count - 1 - i : i;

		self->blocks[which] = make_block(shape->sizes[which], shape->shared);
	}
	map_ram(self);
	map_kernel(self);
	self->registers = (HvpRegisters){ .rip = IMAGE + 0x2345,
					  .cs = 0x10,
					  .cr0 = 1ULL << 31 | 1,
					  .cr3 = self->root,
					  .cr4 = 1ULL << 5 | (guint64)shape->la57 << 12,
					  .idt_base = IDT };
}

static void guest_end(Guest *self)
{
	for (guint i = 0; i < MAX_BLOCKS && self->shape.sizes[i] > 0; i++)
		munmap(self->blocks[i] - MEBIBYTE, self->shape.sizes[i] + 2 * MEBIBYTE);
}

static HvpRam *guess(const Guest *self, GError **error)
{
	return hvp_ram_guess(getpid(), &self->registers, 1, error);
}

static void assert_error(const Guest *self, HvpErrorCode code)
{
	g_autoptr(GError) error = NULL;

	g_assert_null(guess(self, &error));
	g_assert_error(error, HVP_ERROR, (gint)code);
}

/* Of the mapping that begins at @start. */
static guint64 resident_kib_at(const char *smaps, guint64 start)
{
	g_autofree char *head = g_strdup_printf("%" G_GINT64_MODIFIER "x-", start);
	const char *at = strstr(smaps, head);
	const char *rss = at ? strstr(at, "\nRss:") : NULL;

	g_assert_nonnull(rss);
	return g_ascii_strtoull(rss + strlen("\nRss:"), NULL, 10);
}

static guint64 resident_kib(const Guest *self)
{
	g_autofree char *smaps = NULL;
	guint64 kib = 0;

	g_assert_true(g_file_get_contents("/proc/self/smaps", &smaps, NULL, NULL));
	for (guint i = 0; i < MAX_BLOCKS && self->shape.sizes[i] > 0; i++)
		kib += resident_kib_at(smaps, (guint64)(guintptr)self->blocks[i]);
	return kib;
}

/* All of it is where it is, and nothing else is in it. */
static void assert_layout(const Guest *self, const HvpRam *ram)
{
	guint64 step = MAX(self->total_bytes / 1000, 4096) & ~4095ULL;
	guint64 end = end_of_ram(self);

	g_assert_cmpuint(hvp_ram_get_size_bytes(ram), ==, self->total_bytes - 0x60000);
	for (guint64 at = 0; at < end; at += step) {
		const HvpRamRange *range = hvp_ram_find(ram, hvp_gpa(at));
		bool is_hole = at >= MIN(self->total_bytes, self->shape.split) && at < HIGH_START;

		if (at >= 0xa0000 && at < 0x100000)
			continue;
		g_assert_true((range == NULL) == is_hole);
		if (range != NULL)
			g_assert_cmphex(range->hva.value + (at - range->start.value), ==,
					(guint64)(guintptr)find(self, at));
	}
	g_assert_null(hvp_ram_find(ram, hvp_gpa(end)));
}

static void test_shape(gconstpointer data)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpRam) ram = NULL;
	guint64 before;
	Guest guest;

	guest_start(&guest, data);
	before = resident_kib(&guest);
	ram = guess(&guest, &error);
	g_assert_no_error(error);
	assert_layout(&guest, ram);
	g_assert_cmpuint(resident_kib(&guest), ==, before);
	guest_end(&guest);
}

static void test_three_in_any_order(void)
{
	static const guint64 sizes[3] = { 96 * MEBIBYTE, 128 * MEBIBYTE, 160 * MEBIBYTE };

	for (guint order = 0; order < 6; order++) {
		guint first = order / 2, second = (first + 1 + order % 2) % 3;
		const Shape shape = { .sizes = { sizes[first], sizes[second],
						 sizes[3 - first - second] } };

		test_shape(&shape);
	}
}

/* As it is while a process runs: its root has only what leads into the kernel. */
static void test_user_half(void)
{
	const Shape shape = { .sizes = { 256 * MEBIBYTE } };
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpRam) ram = NULL;
	Guest guest;

	guest_start(&guest, &shape);
	memcpy(find(&guest, ROOT_GPA + 0x1000) + 508 * 8, find(&guest, ROOT_GPA) + 508 * 8, 8);
	memcpy(find(&guest, ROOT_GPA + 0x1000) + 511 * 8, find(&guest, ROOT_GPA) + 511 * 8, 8);
	guest.registers.cr3 = ROOT_GPA + 0x1000;
	guest.registers.cs = 0x33;
	guest.registers.rip = 0x400000;
	ram = guess(&guest, &error);
	g_assert_no_error(error);
	assert_layout(&guest, ram);
	guest_end(&guest);
}

static void test_one_good_vcpu(void)
{
	const Shape shape = { .sizes = { 256 * MEBIBYTE } };
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpRam) ram = NULL;
	HvpRegisters registers[3];
	Guest guest;

	guest_start(&guest, &shape);
	registers[0] = (HvpRegisters){ .rip = 0xfff0 };
	registers[1] = guest.registers;
	registers[1].cr3 = 0x7000;
	registers[2] = guest.registers;
	ram = hvp_ram_guess(getpid(), registers, 3, &error);
	g_assert_no_error(error);
	assert_layout(&guest, ram);
	g_assert_null(hvp_ram_guess(getpid(), registers, 2, NULL));
	guest_end(&guest);
}

static void test_refused(gconstpointer data)
{
	Guest guest;

	guest_start(&guest, data);
	assert_error(&guest, HVP_ERROR_UNSUPPORTED);
	guest_end(&guest);
}

/* What one wrong entry in the right tables does. */
static void test_wrong_entries(void)
{
	static const struct {
		guint64 gva, gpa;
		guint last;
		guint64 flags;
	} wrong[] = {
		/* outside of RAM, or elsewhere than the rest */
		{ LINEAR + 512 * MEBIBYTE, 512 * MEBIBYTE, 2, PRESENT },
		{ LINEAR + 64 * MEBIBYTE, 66 * MEBIBYTE, 2, PRESENT },
		{ LINEAR + 300 * MEBIBYTE, 300 * MEBIBYTE, 1, PRESENT },
		/* of users, and with a reserved bit */
		{ VMALLOC + 70 * 4096, 0x6000, 1, PRESENT | USER },
		{ VMALLOC + 64 * MEBIBYTE, 64 * MEBIBYTE, 2, PRESENT | 1 << 14 },
	};
	const Shape shape = { .sizes = { 256 * MEBIBYTE } };

	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		Guest guest;

		guest_start(&guest, &shape);
		map_page(&guest, wrong[i].gva, wrong[i].gpa, wrong[i].last, wrong[i].flags);
		assert_error(&guest, HVP_ERROR_UNSUPPORTED);
		guest_end(&guest);
	}
}

static void test_table_outside(void)
{
	const Shape shape = { .sizes = { 256 * MEBIBYTE } };
	Guest guest;

	guest_start(&guest, &shape);
	*entry_of(&guest, guest.root, 0xffffd00000000000, 4) = GIBIBYTE | PRESENT;
	assert_error(&guest, HVP_ERROR_UNSUPPORTED);
	guest_end(&guest);
}

/* Tables that lead to each other, as many ways as there are. */
static void test_hostile_loops(void)
{
	const Shape shape = { .sizes = { 256 * MEBIBYTE } };
	gint64 started = g_get_monotonic_time();
	Guest guest;

	guest_start(&guest, &shape);
	for (guint i = 256; i < 511; i++)
		*entry_of(&guest, guest.root, (guint64)i << 39, 4) = guest.root | PRESENT;
	assert_error(&guest, HVP_ERROR_UNSUPPORTED);
	for (guint i = 257; i < 512; i++)
		*entry_of(&guest, guest.root, (guint64)i << 39, 4) = (guint64)i << 13 | PRESENT;
	assert_error(&guest, HVP_ERROR_UNSUPPORTED);
	g_assert_cmpint(g_get_monotonic_time() - started, <, 5 * G_USEC_PER_SEC);
	guest_end(&guest);
}

static void test_gate_elsewhere(void)
{
	const Shape shape = { .sizes = { 256 * MEBIBYTE } };
	Guest guest;

	guest_start(&guest, &shape);
	hvp_store_u32(find(&guest, IDT_GPA) + 14 * 16 + 8, 0xffffabcd);
	assert_error(&guest, HVP_ERROR_UNSUPPORTED);
	guest_end(&guest);
}

/* Two blocks that hold the same guest. */
static void test_twins(void)
{
	const Shape shape = { .sizes = { 64 * MEBIBYTE } };
	Guest guest, twin;

	guest_start(&guest, &shape);
	guest_start(&twin, &shape);
	assert_error(&guest, HVP_ERROR_AMBIGUOUS);
	guest_end(&twin);
	guest_end(&guest);
}

static void test_gone(void)
{
	HvpRegisters registers = { 0 };

	g_assert_null(hvp_ram_guess(G_MAXINT, &registers, 1, NULL));
}

/* --- lists --- */

static void test_blocks(void)
{
	static const char maps[] =
		"55a0c8a00000-55a0caa00000 rw-p 00000000 00:00 0                   [heap]\n"
		"7f0000000000-7f0008000000 rw-p 00000000 00:00 0 \n"
		"7f0010000000-7f0011000000 rw-s 00000000 00:01 17  /memfd:ram (deleted)\n"
		"7f0020000000-7f0022000000 rw-s 00000000 00:0e 12  /dev/vfio/17\n"
		"7f0030000000-7f0032000000 rwxp 00000000 00:00 0 \n"
		"7f0040000000-7f0042000000 ---p 00000000 00:00 0 \n"
		"7f0050000000-7f0052000000 rw-p 00000000 00:0f 9  /anon_hugepage (deleted)\n"
		"7f0060000000-7f0062000000 rw-s 00000000 00:10 5  /dev/hugepages/guest\n"
		"7f0070000000-7f0072080000 rw-p 00000000 00:00 0 \n"
		"7f0080000000-7f0080800000 rw-p 00000000 00:00 0 \n"
		"7f0090000000-7f0092000000 rw-s 00000000 00:0e 3  anon_inode:kvm-vcpu:0\n"
		"garbage\n"
		"7ffc00000000-7ffc02000000 rw-p 00000000 00:00 0  [stack]";
	static const guint64 expected[] = { 0x7f0000000000, 0x7f0050000000, 0x7f0060000000,
					    0x7f0010000000 };
	HvpRamBlocks blocks;

	hvp_ram_blocks_parse(&blocks, maps);
	g_assert_cmpuint(blocks.count, ==, G_N_ELEMENTS(expected));
	for (guint i = 0; i < blocks.count; i++)
		g_assert_cmphex(blocks.blocks[i].hva.value, ==, expected[i]);
	hvp_ram_blocks_parse(&blocks, "");
	g_assert_cmpuint(blocks.count, ==, 0);
}

static guint count_layouts(const HvpRamBlocks *blocks)
{
	g_autoptr(GPtrArray) layouts = hvp_ram_blocks_list_layouts(blocks);

	return layouts->len;
}

static void test_most_blocks(void)
{
	g_autoptr(GString) maps = g_string_new(NULL);
	HvpRamBlocks blocks;

	for (guint i = 0; i < 1000; i++)
		g_string_append_printf(maps, "%x00000000-%x%08x rw-p 00000000 00:00 0 \n", i + 1,
				       i + 1, (i % 100 + 16) << 20);
	hvp_ram_blocks_parse(&blocks, maps->str);
	g_assert_cmpuint(blocks.count, ==, HVP_RAM_BLOCKS_MAX);
	for (guint i = 0; i < blocks.count; i++)
		g_assert_cmpuint(blocks.blocks[i].size_bytes, >=, 114 * MEBIBYTE);
	g_assert_cmpuint(count_layouts(&blocks), <, 500);
	for (guint i = 0; i < blocks.count; i++)
		blocks.blocks[i].size_bytes = 8 * GIBIBYTE;
	g_assert_cmpuint(count_layouts(&blocks), <, 2500);
}

static void test_layouts(void)
{
	HvpRamBlocks blocks = { 1, { { hvp_hva(1ULL << 40), 64 * MEBIBYTE } } };

	g_assert_cmpuint(count_layouts(&blocks), ==, 1);
	/* 2 and 2.75 GiB below 4 GiB, or all. */
	blocks.blocks[0].size_bytes = 3 * GIBIBYTE;
	g_assert_cmpuint(count_layouts(&blocks), ==, 3);
	blocks.blocks[0].size_bytes = 5 * GIBIBYTE;
	g_assert_cmpuint(count_layouts(&blocks), ==, 5);
	blocks.blocks[1] = (HvpRamBlock){ hvp_hva(1ULL << 41), 64 * MEBIBYTE };
	blocks.count = 2;
	g_assert_cmpuint(count_layouts(&blocks), ==, 5 + 1 + 2 * 5);
	blocks.blocks[2] = (HvpRamBlock){ hvp_hva(1ULL << 42), 32 * MEBIBYTE };
	blocks.count = 3;
	g_assert_cmpuint(count_layouts(&blocks), ==, 5 + 1 + 1 + 2 * (5 + 5 + 1) + 6 * 5);
}

int main(int argc, char **argv)
{
	static const Shape small = { .sizes = { 64 * MEBIBYTE } };
	static const Shape all_below = { .sizes = { 3 * GIBIBYTE } };
	static const Shape pc_below = { .sizes = { 0xdc000000 } };
	static const Shape pc = { .sizes = { 5 * GIBIBYTE }, .split = 0xc0000000 };
	static const Shape q35 = { .sizes = { 3 * GIBIBYTE }, .split = 0x80000000 };
	static const Shape firecracker = { .sizes = { 0xd0000000, 512 * MEBIBYTE },
					   .split = 0xd0000000 };
	static const Shape hypervisor = { .sizes = { 0xc0000000, 64 * MEBIBYTE },
					  .split = 0xc0000000, .shared = true };
	static const Shape shared = { .sizes = { 5 * GIBIBYTE }, .split = 0xc0000000,
				      .shared = true };
	static const Shape two = { .sizes = { 512 * MEBIBYTE, 512 * MEBIBYTE } };
	static const Shape two_back = { .sizes = { 512 * MEBIBYTE, 512 * MEBIBYTE },
					.reversed = true };
	static const Shape two_split = { .sizes = { 2560 * MEBIBYTE, 2560 * MEBIBYTE },
					 .split = 0xc0000000, .reversed = true };
	static const Shape five_levels = { .sizes = { 5 * GIBIBYTE }, .split = 0xc0000000,
					   .la57 = true };
	static const Shape no_linear = { .sizes = { 64 * MEBIBYTE }, .no_linear = true };
	static const Shape own_split = { .sizes = { 2 * GIBIBYTE }, .split = GIBIBYTE };
	static const Shape less = { .sizes = { 2 * GIBIBYTE }, .linear_end = GIBIBYTE };

	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/ram-guess/64-megabytes", &small, test_shape);
	g_test_add_data_func("/ram-guess/3-gigabytes-below", &all_below, test_shape);
	g_test_add_data_func("/ram-guess/3.4-gigabytes-below", &pc_below, test_shape);
	g_test_add_data_func("/ram-guess/5-gigabytes-pc", &pc, test_shape);
	g_test_add_data_func("/ram-guess/3-gigabytes-q35", &q35, test_shape);
	g_test_add_data_func("/ram-guess/firecracker", &firecracker, test_shape);
	g_test_add_data_func("/ram-guess/cloud-hypervisor", &hypervisor, test_shape);
	g_test_add_data_func("/ram-guess/memfd", &shared, test_shape);
	g_test_add_data_func("/ram-guess/two-blocks", &two, test_shape);
	g_test_add_data_func("/ram-guess/two-blocks-reversed", &two_back, test_shape);
	g_test_add_data_func("/ram-guess/two-blocks-split", &two_split, test_shape);
	g_test_add_data_func("/ram-guess/5-levels", &five_levels, test_shape);
	g_test_add_func("/ram-guess/three-blocks", test_three_in_any_order);
	g_test_add_func("/ram-guess/user-half", test_user_half);
	g_test_add_func("/ram-guess/one-good-vcpu", test_one_good_vcpu);
	g_test_add_data_func("/ram-guess/no-linear-map-UNSUPPORTED", &no_linear, test_refused);
	g_test_add_data_func("/ram-guess/own-split-UNSUPPORTED", &own_split, test_refused);
	g_test_add_data_func("/ram-guess/told-to-use-less-UNSUPPORTED", &less, test_refused);
	g_test_add_func("/ram-guess/wrong-entry-UNSUPPORTED", test_wrong_entries);
	g_test_add_func("/ram-guess/table-outside-UNSUPPORTED", test_table_outside);
	g_test_add_func("/ram-guess/hostile-loops-UNSUPPORTED", test_hostile_loops);
	g_test_add_func("/ram-guess/gate-elsewhere-UNSUPPORTED", test_gate_elsewhere);
	g_test_add_func("/ram-guess/twins-AMBIGUOUS", test_twins);
	g_test_add_func("/ram-guess/no-process", test_gone);
	g_test_add_func("/ram-guess/blocks/parse", test_blocks);
	g_test_add_func("/ram-guess/blocks/too-many", test_most_blocks);
	g_test_add_func("/ram-guess/blocks/layouts", test_layouts);
	return g_test_run();
}
