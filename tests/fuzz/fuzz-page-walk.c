/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A sound guest with some words of its memory changed: page tables, lists, tables, all that
 * attaching and looking around reads.
 *
 *   input = flags u8, change*     change = word u32 (from the lowest that holds something),
 *                                          value u64
 */
#include "../unit/guest/explore.h"
#include "../unit/guest/synthetic-guest.h"

#define CHANGE_BYTES 12U
#define MOST_CHANGES 64U
#define MOST_RANGES 16U

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
	explore_memory(&guest->memory->base, &guest->registers);
	while (count-- > 0)
		image_memory_put_u64(guest->memory, changes[count].gpa, changes[count].before);
	return 0;
}
