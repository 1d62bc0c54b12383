/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A sound guest with some words of its memory changed: page tables, lists, tables, all that
 * telling its layout, attaching and looking around reads.
 *
 *   input = flags u8, change*     change = word u32 (from the lowest that holds something),
 *                                          value u64
 */
#include "../unit/guest/explore.h"
#include "../unit/guest/synthetic-guest.h"
#include "vm/ram-evidence.h"

#define CHANGE_BYTES 12U
#define MOST_CHANGES 64U
#define MOST_RANGES 16U
#define MOST_PAGES 100000U

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes);

static SyntheticGuest *guest_of(guint flags)
{
	static SyntheticGuest *guests[4];
	HvpGva leader;

	if (guests[flags] == NULL) {
		SyntheticOptions options = { .generation = flags & 1, .small_pages = flags & 2 };

		guests[flags] = synthetic_guest_new(&options);
		leader = synthetic_guest_add_task(guests[flags], "leader", 10, hvp_gva(0));
		synthetic_guest_add_task(guests[flags], "thread", 11, leader);
		synthetic_guest_add_module(guests[flags], "module");
	}
	return guests[flags];
}

/* Physical address of the @word-th word of what holds something. */
static guint64 place(SyntheticGuest *guest, guint64 word)
{
	HvpGpaRange ranges[MOST_RANGES];
	guint count = synthetic_guest_used(guest, ranges, MOST_RANGES);
	guint64 total = 0;

	for (guint i = 0; i < count; i++)
		total += (ranges[i].end.value - ranges[i].start.value) / 8;
	word %= total;
	for (guint i = 0; i < count; i++) {
		guint64 words = (ranges[i].end.value - ranges[i].start.value) / 8;

		if (word < words)
			return ranges[i].start.value + word * 8;
		word -= words;
	}
	g_assert_not_reached();
}

/* All of its memory in one block, which is at the same addresses. */
static void judge_layout(SyntheticGuest *guest)
{
	guint64 size_bytes = guest->memory->size_bytes, pages_left = MOST_PAGES;
	const HvpRamRange range = { hvp_gpa(0), hvp_gpa(size_bytes), hvp_hva(0) };
	g_autoptr(HvpRam) ram = hvp_ram_new(&range, 1, NULL);
	const HvpRamLayout layout = { .ram = ram,
				      .low_end = range.end,
				      .count = 1,
				      .blocks = { { range.hva, size_bytes } } };
	bool agrees;

	(void)!hvp_ram_evidence_judge(&guest->memory->base, &layout, &guest->registers, 1,
				      &pages_left, &agrees, NULL);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes)
{
	struct {
		guint64 gpa;
		guint64 before;
	} changes[MOST_CHANGES];
	SyntheticGuest *guest;
	guint count = 0;

	if (size_bytes == 0)
		return 0;
	guest = guest_of(data[0] & 3);
	for (gsize at = 1; at + CHANGE_BYTES <= size_bytes && count < MOST_CHANGES;
	     at += CHANGE_BYTES) {
		guint64 gpa = place(guest, hvp_load_u32(data + at));

		changes[count].gpa = gpa;
		changes[count++].before = image_memory_get_u64(guest->memory, gpa);
		image_memory_put_u64(guest->memory, gpa, hvp_load_u64(data + at + 4));
	}
	judge_layout(guest);
	explore_memory(&guest->memory->base, &guest->registers);
	while (count-- > 0)
		image_memory_put_u64(guest->memory, changes[count].gpa, changes[count].before);
	return 0;
}
