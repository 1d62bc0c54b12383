/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/ram-evidence.h"

#include <string.h>

#include "base/bytes.h"
#include "mem/address-space.h"

#define ENTRY_PRESENT (1ULL << 0)
#define ENTRY_USER (1ULL << 2)
#define ENTRY_LARGE (1ULL << 7)
#define ENTRY_ADDRESS 0x000ffffffffff000ULL
#define LARGE_PAGE_PAT (1ULL << 12)
#define TABLE_ENTRIES 512U
#define KERNEL_HALF 256U

#define CR0_PG (1ULL << 31)
#define CR4_PAE (1ULL << 5)
#define CR4_LA57 (1ULL << 12)
/* Page-table isolation keeps the user half of a root one page above the kernel half. */
#define CR3_USER_HALF (1ULL << 12)

/* The image, modules and what is fixed: never part of the linear map. */
#define IMAGE_START 0xffffffff80000000ULL
/* The one page of the kernel's half that is the users'. */
#define VSYSCALL_PAGE 0xffffffffff600000ULL
#define GATE_BYTES 16U
#define PAGE_FAULT_GATE 14U

/* A terabyte of RAM in pages of 2 MiB is 1024 tables, in small ones 524,288 more. */
#define MAX_UPPER_TABLES 16384U
#define MAX_LISTED_TABLES (1U << 20)
/* Tables of small pages that are looked into, the lowest ones. */
#define MAX_SMALL_TABLES 4096U
/* To follow a vCPU's registers, at most. */
#define REGISTER_PAGES 32U
#define MAX_VCPUS 16U
#define MAX_RUNS 65536U
#define MAX_OFFSETS 64U
#define BATCH_TABLES 64U

/* Linear maps begin where the top but one level of tables has an entry (kaslr.c). */
#define LINEAR_ALIGN_BYTES (1ULL << 30)
#define MEBIBYTE (1ULL << 20)
#define SMALL_TABLE_BYTES (2 * MEBIBYTE)
#define HIGH_START (4ULL << 30)
/* What firmware keeps of the end of RAM for itself, at most; splits are 256 MiB apart. */
#define MAX_RESERVED_BYTES (128 * MEBIBYTE)
/*
 * Of one block, so many entries of small pages must be good ones, or one that leads on or maps
 * a large page: no other page would have them by chance.
 */
#define MIN_GOOD_ENTRIES 16U

/* --- memory seen through a layout --- */

typedef struct {
	HvpPhysical physical;
	HvpPhysical *by_hva; /* borrowed */
	const HvpRam *ram;   /* borrowed */
} View;

/* Where @length_bytes from @gpa on lie, which must be in one range. */
static bool locate(const HvpRam *ram, HvpGpa gpa, gsize length_bytes, guint64 *ret_hva)
{
	const HvpRamRange *range = hvp_ram_find(ram, gpa);

	if (range == NULL || range->end.value - gpa.value < length_bytes)
		return false;
	*ret_hva = range->hva.value + (gpa.value - range->start.value);
	return true;
}

static bool read_some(View *self, HvpPhysicalRead *reads, gsize count, GError **error)
{
	HvpPhysicalRead theirs[BATCH_TABLES];

	for (gsize i = 0; i < count; i++) {
		guint64 hva = 0;

		theirs[i] = reads[i];
		if (!locate(self->ram, reads[i].gpa, reads[i].length_bytes, &hva))
			theirs[i].length_bytes = 0;
		theirs[i].gpa = hvp_gpa(hva);
	}
	if (!hvp_physical_read_batch(self->by_hva, theirs, count, error))
		return false;
	for (gsize i = 0; i < count; i++)
		reads[i].ok = theirs[i].ok && theirs[i].length_bytes == reads[i].length_bytes;
	return true;
}

static bool view_read(HvpPhysical *physical, HvpPhysicalRead *reads, gsize count, GError **error)
{
	for (gsize done = 0; done < count; done += BATCH_TABLES)
		if (!read_some((View *)physical, reads + done, MIN(count - done, BATCH_TABLES),
			       error))
			return false;
	return true;
}

static void view_free(HvpPhysical *physical)
{
	g_free(physical);
}

HvpPhysical *hvp_ram_evidence_view(HvpPhysical *by_hva, const HvpRam *ram)
{
	static const HvpPhysicalOps ops = { view_read, view_free };
	View *self = g_new0(View, 1);

	self->physical.ops = &ops;
	self->by_hva = by_hva;
	self->ram = ram;
	return &self->physical;
}

/* --- walking all tables of the kernel's half --- */

typedef struct {
	guint64 gpa;
	guint64 gva; /* of its first entry */
} Table;

/* Large pages that continue each other in both address spaces. */
typedef struct {
	guint64 gva;
	guint64 gpa;
	guint64 size_bytes;
} Run;

typedef struct {
	HvpPhysical *memory;
	const HvpRamLayout *layout;
	guint top_level;
	GArray *tables; /* Table, of the level that is at hand */
	GArray *lower;	/* Table, of the one below */
	GArray *runs;	/* Run */
	guint upper_count;
	guint64 *pages_left;
	guint64 offset; /* gva - gpa of the linear map, once it is known */
	bool contradicts;
	guint64 good_entries[HVP_RAM_BLOCKS_MAX_PARTS]; /* of tables in each block */
	guint8 bytes[BATCH_TABLES][HVP_PAGE_SIZE];
} Walk;

static guint level_shift(guint level)
{
	return 12 + 9 * (level - 1);
}

static guint64 sign_extend(const Walk *self, guint64 gva)
{
	guint unused = 64 - (level_shift(self->top_level) + 9);

	return (guint64)((gint64)(gva << unused) >> unused);
}

static void add_run(Walk *self, guint64 gva, guint64 gpa, guint64 size_bytes)
{
	Run run = { gva, gpa, size_bytes };

	if (self->runs->len > 0) {
		Run *last = &g_array_index(self->runs, Run, self->runs->len - 1);

		if (last->gva + last->size_bytes == gva && last->gpa + last->size_bytes == gpa) {
			last->size_bytes += size_bytes;
			return;
		}
	}
	self->contradicts |= self->runs->len >= MAX_RUNS;
	if (!self->contradicts)
		g_array_append_val(self->runs, run);
}

/* Entry @entry of level @level, which is present and maps @gva. */
static void take_upper_entry(Walk *self, guint level, guint64 gva, guint64 entry)
{
	guint64 size_bytes = 1ULL << level_shift(level);
	guint64 gpa = entry & ENTRY_ADDRESS;
	Table table = { gpa, gva };
	guint64 ignored;

	if ((entry & ENTRY_LARGE) == 0) {
		if (self->lower->len < MAX_LISTED_TABLES &&
		    locate(self->layout->ram, hvp_gpa(gpa), HVP_PAGE_SIZE, &ignored))
			g_array_append_val(self->lower, table);
		else
			self->contradicts = true;
		return;
	}
	gpa &= ~LARGE_PAGE_PAT;
	if (level > 3 || (gpa & (size_bytes - 1)) != 0 || (entry & ENTRY_USER) != 0)
		self->contradicts = true;
	else
		add_run(self, gva, gpa, size_bytes);
}

/* Whether @gva is in the part of the linear map that belongs to the layout. */
static bool is_linear(const Walk *self, guint64 gva)
{
	guint64 end = MAX(self->layout->low_end.value, self->layout->high_end.value);

	return gva >= self->offset && gva - self->offset < end;
}

static void take_small_entry(Walk *self, guint64 gva, guint64 entry)
{
	guint64 gpa = entry & ENTRY_ADDRESS;

	if ((entry & ENTRY_USER) != 0 && gva != VSYSCALL_PAGE)
		self->contradicts = true;
	if (gva - gpa == self->offset && gva < IMAGE_START)
		add_run(self, gva, gpa, HVP_PAGE_SIZE);
	else if (is_linear(self, gva))
		self->contradicts = true;
}

static void count_good(Walk *self, const Table *table, guint64 entries)
{
	guint64 hva = 0;

	if (!locate(self->layout->ram, hvp_gpa(table->gpa), HVP_PAGE_SIZE, &hva))
		return;
	for (guint i = 0; i < self->layout->count; i++) {
		const HvpRamBlock *block = &self->layout->blocks[i];

		if (hva - block->hva.value < block->size_bytes)
			self->good_entries[i] += entries;
	}
}

static void take_table(Walk *self, guint level, const Table *table, const guint8 *bytes)
{
	guint first = level == self->top_level ? KERNEL_HALF : 0, present = 0;

	for (guint i = first; i < TABLE_ENTRIES && !self->contradicts; i++) {
		guint64 entry = hvp_load_u64(bytes + i * 8);
		guint64 gva = sign_extend(self, table->gva | (guint64)i << level_shift(level));

		if ((entry & ENTRY_PRESENT) == 0)
			continue;
		present++;
		if (level > 1)
			take_upper_entry(self, level, gva, entry);
		else
			take_small_entry(self, gva, entry);
	}
	count_good(self, table, level > 1 ? present * MIN_GOOD_ENTRIES : present);
}

/* The tables [@first, @first + @count) of the level at hand. */
static bool take_batch(Walk *self, guint level, guint first, guint count, GError **error)
{
	HvpPhysicalRead reads[BATCH_TABLES];

	for (guint i = 0; i < count; i++)
		reads[i] = (HvpPhysicalRead){
			.gpa = hvp_gpa(g_array_index(self->tables, Table, first + i).gpa),
			.buffer = self->bytes[i],
			.length_bytes = HVP_PAGE_SIZE,
		};
	if (!hvp_physical_read_batch(self->memory, reads, count, error))
		return false;
	for (guint i = 0; i < count && !self->contradicts; i++) {
		self->contradicts |= !reads[i].ok;
		if (reads[i].ok)
			take_table(self, level, &g_array_index(self->tables, Table, first + i),
				   self->bytes[i]);
	}
	return true;
}

static bool spend(guint64 *pages_left, guint count, GError **error)
{
	if (*pages_left < count)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the guest's page tables are too many to be looked through");
	*pages_left -= count;
	return true;
}

static bool take_tables(Walk *self, guint level, guint count, GError **error)
{
	if (!spend(self->pages_left, count, error))
		return false;
	for (guint i = 0; i < count && !self->contradicts; i += BATCH_TABLES)
		if (!take_batch(self, level, i, MIN(count - i, BATCH_TABLES), error))
			return false;
	return true;
}

static void descend(Walk *self)
{
	GArray *above = self->tables;

	self->tables = self->lower;
	self->lower = above;
	g_array_set_size(self->lower, 0);
}

/* All levels but the last, whose tables are in `tables` then. */
static bool walk_upper(Walk *self, guint64 root_gpa, GError **error)
{
	Table root = { root_gpa, 0 };

	g_array_append_val(self->tables, root);
	for (guint level = self->top_level; level > 1 && !self->contradicts; level--) {
		self->upper_count += self->tables->len;
		if (self->upper_count > MAX_UPPER_TABLES)
			self->contradicts = true;
		else if (!take_tables(self, level, self->tables->len, error))
			return false;
		descend(self);
	}
	return true;
}

/* --- the linear map --- */

static bool may_be_linear(const Run *run)
{
	return run->gva < IMAGE_START && (run->gva - run->gpa) % LINEAR_ALIGN_BYTES == 0;
}

/* How much is mapped at one offset. */
typedef struct {
	guint64 offset;
	guint64 size_bytes;
} Sum;

static void add_sum(Sum *sums, guint *count, const Run *run)
{
	guint64 offset = run->gva - run->gpa;
	guint i = 0;

	while (i < *count && sums[i].offset != offset)
		i++;
	if (i == MAX_OFFSETS)
		return;
	if (i == *count)
		sums[(*count)++] = (Sum){ offset, 0 };
	sums[i].size_bytes += run->size_bytes;
}

/* The offset at which most memory is mapped by large pages. */
static bool find_linear(Walk *self)
{
	Sum sums[MAX_OFFSETS];
	guint64 most_bytes = 0;
	guint count = 0;

	for (guint i = 0; i < self->runs->len; i++) {
		const Run *run = &g_array_index(self->runs, Run, i);

		if (may_be_linear(run))
			add_sum(sums, &count, run);
	}
	for (guint i = 0; i < count; i++) {
		if (sums[i].size_bytes <= most_bytes)
			continue;
		most_bytes = sums[i].size_bytes;
		self->offset = sums[i].offset;
	}
	return most_bytes > 0;
}

/* A part of the layout, and what of it the linear map covers. */
typedef struct {
	guint64 start, end;
	guint64 covered_bytes;
	guint64 covered_end;
} Part;

/* [@gpa, @gpa + @size_bytes) is mapped; it may pass the end of RAM by less than @slack_bytes. */
static bool cover(Part *parts, guint64 gpa, guint64 size_bytes, guint64 slack_bytes)
{
	guint64 end = gpa + size_bytes;

	for (guint i = 0; i < 2; i++) {
		Part *part = &parts[i];

		if (gpa < part->start || gpa >= part->end || end < gpa ||
		    end - MIN(end, part->end) > slack_bytes)
			continue;
		part->covered_bytes += size_bytes;
		part->covered_end = MAX(part->covered_end, MIN(end, part->end));
		return true;
	}
	return false;
}

static bool is_covered(const Part *part)
{
	guint64 size_bytes = part->end - part->start;
	guint64 reserved_bytes = MIN(MAX_RESERVED_BYTES, size_bytes / 4);

	return part->covered_bytes >= size_bytes / 2 &&
	       part->end - part->covered_end <= reserved_bytes;
}

/*
 * Whether all that the linear map has is of the layout, and is about all of it. Tables of small
 * pages from @first on were not looked into, and may map all they can.
 */
static bool covers_layout(const Walk *self, guint first)
{
	Part parts[2] = { { .end = self->layout->low_end.value } };

	if (self->layout->high_end.value != 0)
		parts[1] = (Part){ HIGH_START, self->layout->high_end.value, 0, HIGH_START };
	for (guint i = 0; i < self->runs->len; i++) {
		const Run *run = &g_array_index(self->runs, Run, i);

		if (run->gva - run->gpa == self->offset) {
			if (may_be_linear(run) && !cover(parts, run->gpa, run->size_bytes, 0))
				return false;
		} else if (is_linear(self, run->gva)) {
			return false;
		}
	}
	for (guint i = first; i < self->tables->len; i++) {
		guint64 gva = g_array_index(self->tables, Table, i).gva;

		if (is_linear(self, gva))
			(void)cover(parts, gva - self->offset, SMALL_TABLE_BYTES,
				    SMALL_TABLE_BYTES);
	}
	return is_covered(&parts[0]) && is_covered(&parts[1]);
}

static bool holds_tables(const Walk *self)
{
	for (guint i = 0; i < self->layout->count; i++)
		if (self->good_entries[i] < MIN_GOOD_ENTRIES)
			return false;
	return true;
}

/* --- one vCPU --- */

static bool is_executable(HvpAddressSpace *space, guint64 gva)
{
	HvpTranslation found;
	guint8 byte;

	return hvp_address_space_walk(space, hvp_gva(gva), &found, NULL) && found.mapped &&
	       found.executable && hvp_address_space_read(space, hvp_gva(gva), &byte, 1, NULL);
}

/* Whether the vCPU can run, as far as the kernel's half of its tables has to do with it. */
static bool can_run(const Walk *self, guint64 cr3, const HvpRegisters *registers)
{
	g_autoptr(HvpAddressSpace) space =
		hvp_address_space_new(self->memory, cr3, registers->cr4);
	guint64 gate_gva = registers->idt_base + PAGE_FAULT_GATE * GATE_BYTES;
	guint8 gate[GATE_BYTES];

	if (!hvp_registers_in_user_mode(registers) && !is_executable(space, registers->rip))
		return false;
	if ((registers->idt_base >> 63) == 0)
		return true;
	return hvp_address_space_read(space, hvp_gva(gate_gva), gate, sizeof gate, NULL) &&
	       is_executable(space, hvp_load_u16(gate) | (guint64)hvp_load_u16(gate + 6) << 16 |
					    (guint64)hvp_load_u32(gate + 8) << 32);
}

static bool judge_root(Walk *self, guint64 cr3, const HvpRegisters *registers, bool *ret_agrees,
		       GError **error)
{
	guint small;

	*ret_agrees = false;
	if (!spend(self->pages_left, REGISTER_PAGES, error))
		return false;
	if (!can_run(self, cr3, registers))
		return true;
	if (!walk_upper(self, cr3 & ENTRY_ADDRESS, error))
		return false;
	if (self->contradicts || !find_linear(self) || !covers_layout(self, 0))
		return true;
	small = MIN(self->tables->len, MAX_SMALL_TABLES);
	if (!take_tables(self, 1, small, error))
		return false;
	*ret_agrees = !self->contradicts && covers_layout(self, small) && holds_tables(self);
	return true;
}

/* What is judged, and how much may still be read for it. */
typedef struct {
	HvpPhysical *memory;
	const HvpRamLayout *layout;
	guint64 *pages_left;
} Case;

static bool walk_root(const Case *judged, guint64 cr3, const HvpRegisters *registers,
		      bool *ret_agrees, GError **error)
{
	Walk *self = g_new0(Walk, 1);
	bool ok;

	self->memory = judged->memory;
	self->layout = judged->layout;
	self->pages_left = judged->pages_left;
	self->top_level = (registers->cr4 & CR4_LA57) ? 5 : 4;
	self->tables = g_array_new(FALSE, FALSE, sizeof(Table));
	self->lower = g_array_new(FALSE, FALSE, sizeof(Table));
	self->runs = g_array_new(FALSE, FALSE, sizeof(Run));
	ok = judge_root(self, cr3, registers, ret_agrees, error);
	g_array_unref(self->tables);
	g_array_unref(self->lower);
	g_array_unref(self->runs);
	g_free(self);
	return ok;
}

static bool judge_vcpu(const Case *judged, const HvpRegisters *registers, bool *ret_agrees,
		       GError **error)
{
	guint64 cr3 = registers->cr3;

	*ret_agrees = false;
	if ((registers->cr0 & CR0_PG) == 0 || (registers->cr4 & CR4_PAE) == 0)
		return true;
	if (!walk_root(judged, cr3, registers, ret_agrees, error))
		return false;
	if (*ret_agrees || (cr3 & CR3_USER_HALF) == 0)
		return true;
	return walk_root(judged, cr3 & ~CR3_USER_HALF, registers, ret_agrees, error);
}

bool hvp_ram_evidence_judge(HvpPhysical *by_hva, const HvpRamLayout *layout,
			    const HvpRegisters *registers, guint count, guint64 *pages_left,
			    bool *ret_agrees, GError **error)
{
	g_autoptr(HvpPhysical) memory = hvp_ram_evidence_view(by_hva, layout->ram);
	const Case judged = { memory, layout, pages_left };
	bool agrees = false;

	for (guint i = 0; i < MIN(count, MAX_VCPUS) && !agrees; i++)
		if (!judge_vcpu(&judged, &registers[i], &agrees, error))
			return false;
	*ret_agrees = agrees;
	return true;
}
