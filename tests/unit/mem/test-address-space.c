/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The page walk and reads over it, on tables laid out by hand. */
#include "image-memory.h"

#define MEMORY_BYTES (16U << 20)
#define ROOT 0x1000U
#define FIRST_TABLE 0x2000U
#define CR4_LA57 (1ULL << 12)

#define PRESENT 1ULL
#define WRITABLE 2ULL
#define LARGE 0x80ULL
#define NO_EXECUTE (1ULL << 63)

typedef struct {
	ImageMemory *memory;
	HvpAddressSpace *space;
	guint levels;
	guint64 next_table;
} Fixture;

static void set_up(Fixture *self, guint levels)
{
	self->memory = image_memory_new(MEMORY_BYTES);
	self->levels = levels;
	self->next_table = FIRST_TABLE;
	/* PCID bits below and LAM bits above are not part of the root. */
	self->space = hvp_address_space_new(&self->memory->base, ROOT | 0x7ff | 3ULL << 61,
					    levels == 5 ? CR4_LA57 : 0);
}

static void tear_down(Fixture *self)
{
	hvp_address_space_free(self->space);
	hvp_physical_free(&self->memory->base);
}

/* Address of the entry for @gva in the table of @level, making the tables above it. */
static guint64 entry_of(Fixture *self, guint64 gva, guint level)
{
	guint64 table = ROOT;

	for (guint at = self->levels; at > level; at--) {
		guint64 entry = table + (gva >> (12 + 9 * (at - 1)) & 511) * 8;

		if (image_memory_get_u64(self->memory, entry) == 0) {
			image_memory_put_u64(self->memory, entry,
					     self->next_table | PRESENT | WRITABLE);
			self->next_table += HVP_PAGE_SIZE;
		}
		table = image_memory_get_u64(self->memory, entry) & 0xffffffffff000;
	}
	return table + (gva >> (12 + 9 * (level - 1)) & 511) * 8;
}

static void map(Fixture *self, guint64 gva, guint64 gpa, guint level)
{
	image_memory_put_u64(self->memory, entry_of(self, gva, level),
			     gpa | PRESENT | WRITABLE | (level > 1 ? LARGE : 0));
	hvp_address_space_forget(self->space);
}

static void fill(Fixture *self, guint64 gpa, gsize length_bytes)
{
	for (gsize i = 0; i < length_bytes; i++)
		self->memory->bytes[gpa + i] = (guint8)((gpa + i) * 7 + ((gpa + i) >> 8));
}

static void assert_translates(Fixture *self, guint64 gva, guint64 gpa, guint64 block_bytes)
{
	g_autoptr(GError) error = NULL;
	HvpTranslation found;
	HvpGpa answer;

	g_assert_true(hvp_address_space_walk(self->space, hvp_gva(gva), &found, &error));
	g_assert_true(found.mapped);
	g_assert_cmphex(found.gpa.value, ==, gpa);
	g_assert_cmphex(found.block_bytes, ==, block_bytes);
	g_assert_true(hvp_address_space_translate(self->space, hvp_gva(gva), &answer, &error));
	g_assert_cmphex(answer.value, ==, gpa);
}

static void assert_hole(Fixture *self, guint64 gva, guint64 block_bytes)
{
	g_autoptr(GError) error = NULL;
	HvpTranslation found;
	HvpGpa answer = hvp_gpa(0x1234);

	g_assert_true(hvp_address_space_walk(self->space, hvp_gva(gva), &found, NULL));
	g_assert_false(found.mapped);
	g_assert_cmphex(found.block_bytes, ==, block_bytes);
	g_assert_false(hvp_address_space_translate(self->space, hvp_gva(gva), &answer, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_FAULT);
	g_assert_cmphex(answer.value, ==, 0x1234);
}

static void assert_walk_faults(Fixture *self, guint64 gva, const char *word)
{
	g_autoptr(GError) error = NULL;
	HvpTranslation found;

	g_assert_false(hvp_address_space_walk(self->space, hvp_gva(gva), &found, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_FAULT);
	if (strstr(error->message, word) == NULL)
		g_error("\"%s\" does not say \"%s\"", error->message, word);
}

static void assert_reads(Fixture *self, guint64 gva, gsize length_bytes, guint64 gpa)
{
	g_autofree guint8 *bytes = g_malloc(length_bytes);
	g_autoptr(GError) error = NULL;

	g_assert_true(
		hvp_address_space_read(self->space, hvp_gva(gva), bytes, length_bytes, &error));
	g_assert_cmpmem(bytes, length_bytes, self->memory->bytes + gpa, length_bytes);
}

static void assert_read_faults(Fixture *self, guint64 gva, gsize length_bytes)
{
	g_autofree guint8 *bytes = g_malloc0(length_bytes);
	g_autoptr(GError) error = NULL;

	g_assert_false(
		hvp_address_space_read(self->space, hvp_gva(gva), bytes, length_bytes, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_FAULT);
}

static void test_page_sizes(void)
{
	for (guint levels = 4; levels <= 5; levels++) {
		Fixture f;

		set_up(&f, levels);
		map(&f, 0xffff888000001000, 0x500000, 1);
		map(&f, 0xffffffff81200000, 0x600000, 2);
		map(&f, 0x40000000, 0, 3);
		assert_translates(&f, 0xffff888000001abc, 0x500abc, 1U << 12);
		assert_translates(&f, 0xffffffff813fffff, 0x7fffff, 1U << 21);
		assert_translates(&f, 0x40000000 + 0xabcdef, 0xabcdef, 1U << 30);
		tear_down(&f);
	}
}

static void test_holes(void)
{
	Fixture f;

	set_up(&f, 5);
	map(&f, 0xffff888000001000, 0x500000, 1);
	assert_hole(&f, 0xffff888000002000, 1ULL << 12);
	assert_hole(&f, 0xffff888000200000, 1ULL << 21);
	assert_hole(&f, 0xffff888040000000, 1ULL << 30);
	assert_hole(&f, 0xffff890000000000, 1ULL << 39);
	assert_hole(&f, 0xff00000000000000, 1ULL << 48);
	tear_down(&f);
}

/* Rights are the intersection of all levels. */
static void test_rights(void)
{
	Fixture f;
	HvpTranslation found;
	guint64 gva = 0xffffffff81000000;

	set_up(&f, 4);
	map(&f, gva, 0x500000, 1);
	g_assert_true(hvp_address_space_walk(f.space, hvp_gva(gva), &found, NULL));
	g_assert_true(found.writable && found.executable);
	image_memory_put_u64(f.memory, entry_of(&f, gva, 3),
			     image_memory_get_u64(f.memory, entry_of(&f, gva, 3)) & ~WRITABLE);
	image_memory_put_u64(f.memory, entry_of(&f, gva, 1),
			     image_memory_get_u64(f.memory, entry_of(&f, gva, 1)) | NO_EXECUTE);
	hvp_address_space_forget(f.space);
	g_assert_true(hvp_address_space_walk(f.space, hvp_gva(gva), &found, NULL));
	g_assert_false(found.writable || found.executable);
	tear_down(&f);
}

static void test_non_canonical(void)
{
	Fixture f;

	set_up(&f, 4);
	assert_walk_faults(&f, 0x0000800000000000, "canonical");
	assert_walk_faults(&f, 0xffff7fffffffffff, "canonical");
	assert_walk_faults(&f, 0x4141414141414141, "canonical");
	assert_hole(&f, 0x00007fffffffffff, 1ULL << 39);
	assert_hole(&f, 0xffff800000000000, 1ULL << 39);
	tear_down(&f);

	set_up(&f, 5);
	assert_hole(&f, 0x0000800000000000, 1ULL << 48);
	assert_walk_faults(&f, 0x0100000000000000, "canonical");
	assert_walk_faults(&f, 0xfeffffffffffffff, "canonical");
	tear_down(&f);
}

static void test_reserved_bits(void)
{
	Fixture f;
	guint64 gva = 0xffff888000000000;

	set_up(&f, 5);
	/* PAT is bit 12 of a large page, bit 7 of a small one. */
	map(&f, gva, 0x400000 | 1U << 12, 2);
	assert_translates(&f, gva, 0x400000, 1U << 21);
	for (guint bit = 13; bit < 21; bit++) {
		map(&f, gva, 0x400000 | 1U << bit, 2);
		assert_walk_faults(&f, gva, "reserved");
	}
	tear_down(&f);

	set_up(&f, 5);
	map(&f, gva, 1U << 29, 3);
	assert_walk_faults(&f, gva, "reserved");
	tear_down(&f);

	for (guint level = 4; level <= 5; level++) {
		set_up(&f, 5);
		map(&f, gva, 0, level);
		assert_walk_faults(&f, gva, "reserved");
		tear_down(&f);
	}

	set_up(&f, 4);
	map(&f, gva, 0x400000 | LARGE, 1);
	assert_translates(&f, gva, 0x400000, 1U << 12);
	tear_down(&f);
}

static void test_table_outside(void)
{
	Fixture f;

	for (guint level = 2; level <= 4; level++) {
		set_up(&f, 4);
		image_memory_put_u64(f.memory, entry_of(&f, 0x1000, level),
				     0xfffffffff000 | PRESENT);
		assert_walk_faults(&f, 0x1000, "no guest memory");
		assert_read_faults(&f, 0x1000, 8);
		tear_down(&f);
	}
	/* The last bit of RAM is too small for a table. */
	set_up(&f, 4);
	f.memory->size_bytes = MEMORY_BYTES - 8;
	image_memory_put_u64(f.memory, ROOT, (MEMORY_BYTES - HVP_PAGE_SIZE) | PRESENT);
	assert_walk_faults(&f, 0, "no guest memory");
	tear_down(&f);
	set_up(&f, 4);
	hvp_address_space_set_root(f.space, 0xffffffffff000);
	assert_walk_faults(&f, 0, "no guest memory");
	tear_down(&f);
}

/* A root that is its own child, at each level: still as many steps as there are levels. */
static void test_self_loop(void)
{
	for (guint levels = 4; levels <= 5; levels++) {
		Fixture f;

		set_up(&f, levels);
		for (guint i = 0; i < 512; i++)
			image_memory_put_u64(f.memory, ROOT + i * 8, ROOT | PRESENT | WRITABLE);
		fill(&f, 0x2000, 64);
		assert_translates(&f, 0x123456789abc, ROOT | 0xabc, 1U << 12);
		assert_translates(&f, G_MAXUINT64, ROOT | 0xfff, 1U << 12);
		assert_reads(&f, 0x7000, 4096, ROOT);
		g_assert_cmpuint(f.memory->calls, <, 10);
		tear_down(&f);
	}
}

static void test_forget(void)
{
	Fixture f;

	set_up(&f, 4);
	map(&f, 0x5000, 0x500000, 1);
	assert_translates(&f, 0x5000, 0x500000, 1U << 12);
	image_memory_put_u64(f.memory, entry_of(&f, 0x5000, 1), 0x600000 | PRESENT);
	assert_translates(&f, 0x5000, 0x500000, 1U << 12);
	hvp_address_space_forget(f.space);
	assert_translates(&f, 0x5000, 0x600000, 1U << 12);
	tear_down(&f);
}

/* More tables than the cache has room for, visited twice. */
static void test_many_tables(void)
{
	Fixture f;

	set_up(&f, 4);
	for (guint64 i = 0; i < 600; i++)
		map(&f, i << 21, 0x800000 + i * HVP_PAGE_SIZE, 1);
	for (guint pass = 0; pass < 2; pass++)
		for (guint64 i = 0; i < 600; i++)
			assert_translates(&f, i << 21, 0x800000 + i * HVP_PAGE_SIZE, 1U << 12);
	tear_down(&f);
}

static void test_set_root(void)
{
	Fixture f;

	set_up(&f, 4);
	map(&f, 0x5000, 0x500000, 1);
	memcpy(f.memory->bytes + 0x700000, f.memory->bytes + ROOT, HVP_PAGE_SIZE);
	image_memory_put_u64(f.memory, 0x700000, 0);
	assert_translates(&f, 0x5000, 0x500000, 1U << 12);
	hvp_address_space_set_root(f.space, 0x700000 | 0xfff);
	assert_hole(&f, 0x5000, 1ULL << 39);
	g_assert_true(hvp_address_space_get_physical(f.space) == &f.memory->base);
	tear_down(&f);
}

static void test_crossing(void)
{
	Fixture f;
	guint8 bytes[32];
	guint64 value;
	guint32 half;

	set_up(&f, 4);
	map(&f, 0x10000, 0x500000, 1);
	map(&f, 0x11000, 0x700000, 1);
	map(&f, 0x200000, 0x800000, 2);
	map(&f, 0x1ff000, 0x900000, 1);
	fill(&f, 0x500000, 0x1000);
	fill(&f, 0x700000, 0x1000);
	fill(&f, 0x800000, 0x200000);
	fill(&f, 0x900000, 0x1000);
	g_assert_true(hvp_address_space_read(f.space, hvp_gva(0x10ff0), bytes, 32, NULL));
	g_assert_cmpmem(bytes, 16, f.memory->bytes + 0x500ff0, 16);
	g_assert_cmpmem(bytes + 16, 16, f.memory->bytes + 0x700000, 16);
	g_assert_true(hvp_address_space_read_u64(f.space, hvp_gva(0x10ffd), &value, NULL));
	g_assert_cmphex(value & 0xffffff, ==, hvp_load_u32(f.memory->bytes + 0x500ffd) & 0xffffff);
	g_assert_cmphex(value >> 24 & 0xffffffff, ==, hvp_load_u32(f.memory->bytes + 0x700000));
	g_assert_true(hvp_address_space_read_u32(f.space, hvp_gva(0x10ffc), &half, NULL));
	g_assert_cmphex(half, ==, hvp_load_u32(f.memory->bytes + 0x500ffc));
	assert_reads(&f, 0x200000, 0x200000, 0x800000);
	assert_read_faults(&f, 0x11ff9, 8);
	assert_read_faults(&f, 0x200000, 0x200001);
	g_assert_true(hvp_address_space_read(f.space, hvp_gva(0x12000), bytes, 0, NULL));
	tear_down(&f);
}

static void test_wrap(void)
{
	Fixture f;

	set_up(&f, 4);
	map(&f, 0xfffffffffffff000, 0x500000, 1);
	map(&f, 0, 0x600000, 1);
	fill(&f, 0x500000, 0x1000);
	assert_reads(&f, 0xfffffffffffff000, 0x1000, 0x500000);
	assert_reads(&f, 0xffffffffffffffff, 1, 0x500fff);
	assert_read_faults(&f, 0xfffffffffffff000, 0x1001);
	assert_read_faults(&f, 0xffffffffffffffff, 2);
	assert_read_faults(&f, 0xfffffffffffffffc, 8);
	tear_down(&f);
}

/* More pieces than fit one physical batch, every seventh of them broken. */
static void test_batch(void)
{
	enum { COUNT = 1500 };
	g_autofree HvpVirtualRead *reads = g_new0(HvpVirtualRead, COUNT);
	g_autofree guint8 *bytes = g_malloc0(COUNT * 16);
	g_autoptr(GError) error = NULL;
	Fixture f;

	set_up(&f, 4);
	for (guint64 i = 0; i < 512; i++)
		map(&f, 0x10000000 + i * 0x1000, 0x800000 + i * 0x1000, 1);
	fill(&f, 0x800000, 0x200000);
	f.memory->hole_start = 0x900000;
	f.memory->hole_end = 0x901000;
	for (guint i = 0; i < COUNT; i++) {
		guint64 gva = 0x10000000 + i * 0x150 + 0xff8;

		if (i % 7 == 3)
			gva = i % 2 ? 0x4141414141414141 : 0x20000000;
		reads[i] = (HvpVirtualRead){ hvp_gva(gva), bytes + i * 16, 16, i % 3 == 0 };
	}
	g_assert_true(hvp_address_space_read_batch(f.space, reads, COUNT, &error));
	for (guint i = 0; i < COUNT; i++) {
		guint64 gpa = reads[i].gva.value - 0x10000000 + 0x800000;
		bool in_ram = gpa + 16 <= 0x900000 || gpa >= 0x901000;

		g_assert_cmpint(reads[i].ok, ==, i % 7 != 3 && in_ram);
		if (reads[i].ok)
			g_assert_cmpmem(bytes + i * 16, 16, f.memory->bytes + gpa, 16);
	}
	g_assert_true(hvp_address_space_read_batch(f.space, NULL, 0, &error));
	tear_down(&f);
}

/* One read of more pieces than a batch holds, with a fault behind the first flush. */
static void test_long_read(void)
{
	Fixture f;

	set_up(&f, 4);
	for (guint64 i = 0; i < 1024; i++)
		map(&f, 0x10000000 + i * 0x1000, 0x800000 + (1023 - i) * 0x1000, 1);
	for (guint64 i = 0; i < 1024; i++)
		hvp_store_u64(f.memory->bytes + 0x800000 + (1023 - i) * 0x1000, i);
	{
		g_autofree guint8 *bytes = g_malloc(1024 * 0x1000);

		g_assert_true(hvp_address_space_read(f.space, hvp_gva(0x10000000), bytes,
						     1024 * 0x1000, NULL));
		for (guint64 i = 0; i < 1024; i++)
			g_assert_cmphex(hvp_load_u64(bytes + i * 0x1000), ==, i);
	}
	f.memory->hole_start = 0x800000;
	f.memory->hole_end = 0x801000;
	assert_read_faults(&f, 0x10000000, 1024 * 0x1000);
	assert_read_faults(&f, 0x10000000, 1025 * 0x1000);
	tear_down(&f);
}

static void test_gone(void)
{
	Fixture f;
	guint64 value;

	for (guint at = 0; at < 2; at++) {
		g_autoptr(GError) error = NULL;

		set_up(&f, 4);
		map(&f, 0x5000, 0x500000, 1);
		/* With the tables known, and without. */
		if (at == 1)
			assert_translates(&f, 0x5000, 0x500000, 1U << 12);
		f.memory->gone = true;
		g_assert_false(
			hvp_address_space_read_u64(f.space, hvp_gva(0x5000), &value, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_VM_GONE);
		tear_down(&f);
	}
}

static void assert_string(Fixture *self, guint64 gva, gsize max_bytes, const char *expected,
			  HvpErrorCode code)
{
	g_autofree char *string = g_malloc(max_bytes);
	g_autoptr(GError) error = NULL;
	bool ok = hvp_address_space_read_string(self->space, hvp_gva(gva), string, max_bytes,
						&error);

	g_assert_cmpint(ok, ==, expected != NULL);
	if (expected != NULL)
		g_assert_cmpstr(string, ==, expected);
	else
		g_assert_error(error, HVP_ERROR, (int)code);
}

static void test_string(void)
{
	Fixture f;

	set_up(&f, 4);
	map(&f, 0x5000, 0x500000, 1);
	map(&f, 0x6000, 0x700000, 1);
	map(&f, 0xfffffffffffff000, 0x800000, 1);
	map(&f, 0, 0x900000, 1);
	memcpy(f.memory->bytes + 0x700ffa, "hello", 6);
	memcpy(f.memory->bytes + 0x500ffd, "abc", 3);
	memcpy(f.memory->bytes + 0x700000, "def", 4);
	/* The page behind is not mapped. */
	assert_string(&f, 0x6ffa, 4096, "hello", 0);
	assert_string(&f, 0x6ffa, 6, "hello", 0);
	assert_string(&f, 0x6ffa, 5, NULL, HVP_ERROR_BAD_DATA);
	assert_string(&f, 0x5ffd, 64, "abcdef", 0);
	assert_string(&f, 0x6fff, 1, "", 0);
	f.memory->bytes[0x700fff] = 'x';
	assert_string(&f, 0x6ffa, 4096, NULL, HVP_ERROR_FAULT);
	assert_string(&f, 0x8000, 16, NULL, HVP_ERROR_FAULT);
	/* Not on into address 0. */
	f.memory->bytes[0x800fff] = 'x';
	assert_string(&f, 0xffffffffffffffff, 16, NULL, HVP_ERROR_FAULT);
	tear_down(&f);
}

static void test_physical(void)
{
	ImageMemory *memory = image_memory_new(HVP_PAGE_SIZE);
	g_autoptr(GError) error = NULL;
	guint8 bytes[8];

	g_assert_true(hvp_physical_read(&memory->base, hvp_gpa(4088), bytes, 8, &error));
	g_assert_false(hvp_physical_read(&memory->base, hvp_gpa(4089), bytes, 8, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_FAULT);
	g_clear_error(&error);
	g_assert_false(hvp_physical_read(&memory->base, hvp_gpa(G_MAXUINT64), bytes, 8, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_FAULT);
	g_assert_true(hvp_physical_read_batch(&memory->base, NULL, 0, NULL));
	hvp_physical_free(&memory->base);
	hvp_physical_free(NULL);
	hvp_address_space_free(NULL);
}

/* Tables of random bytes: an answer each time, and no memory of ours touched. */
static void test_random_tables(void)
{
	Fixture f;
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);

	set_up(&f, 4);
	for (guint i = 0; i < 0x40000; i += 4)
		hvp_store_u32(f.memory->bytes + i, g_rand_int(rand));
	for (guint i = 0; i < 0x40000; i += 8)
		image_memory_put_u64(f.memory, i,
				     image_memory_get_u64(f.memory, i) & 0x80000000000fffff);
	for (guint i = 0; i < 20000; i++) {
		guint64 gva = (guint64)g_rand_int(rand) << 32 | g_rand_int(rand);
		guint8 bytes[64];
		g_autoptr(GError) error = NULL;

		gva = i % 2 ? gva >> 17 : gva | 0xffff800000000000;
		if (!hvp_address_space_read(f.space, hvp_gva(gva), bytes, sizeof bytes, &error))
			g_assert_error(error, HVP_ERROR, HVP_ERROR_FAULT);
	}
	tear_down(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/address-space/4K-2M-1G-in-4-and-5-levels-TRANSLATE", test_page_sizes);
	g_test_add_func("/address-space/hole-ANSWERS-its-size", test_holes);
	g_test_add_func("/address-space/rights-of-all-levels-INTERSECT", test_rights);
	g_test_add_func("/address-space/non-canonical-FAULT", test_non_canonical);
	g_test_add_func("/address-space/reserved-bits-FAULT", test_reserved_bits);
	g_test_add_func("/address-space/table-outside-ram-FAULT", test_table_outside);
	g_test_add_func("/address-space/self-looping-tables-END", test_self_loop);
	g_test_add_func("/address-space/changed-table-SEEN-after-forget", test_forget);
	g_test_add_func("/address-space/more-tables-than-cache-TRANSLATE", test_many_tables);
	g_test_add_func("/address-space/other-root-USED", test_set_root);
	g_test_add_func("/address-space/read-across-pages-WHOLE-or-FAULT", test_crossing);
	g_test_add_func("/address-space/read-past-2-64-FAULT", test_wrap);
	g_test_add_func("/address-space/broken-pieces-of-batch-HURT-no-other", test_batch);
	g_test_add_func("/address-space/read-longer-than-batch-WHOLE-or-FAULT", test_long_read);
	g_test_add_func("/address-space/memory-gone-VM_GONE", test_gone);
	g_test_add_func("/address-space/string-before-unmapped-page-READ", test_string);
	g_test_add_func("/address-space/random-tables-ANSWER", test_random_tables);
	g_test_add_func("/physical/outside-FAULT", test_physical);
	return g_test_run();
}
