/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A sound guest with some bytes of its memory changed: an answer each time, and soon. */
#include <string.h>

#include "explore.h"
#include "synthetic-guest.h"

#define MOST_RANGES 16U
#define MOST_CHANGES 6U
/* Reads that one broken guest may cost: its kprobes' and ftrace's limits, and some. */
#define MOST_CALLS 2000000U

typedef struct {
	guint64 gpa;
	guint64 before;
} Change;

typedef struct {
	SyntheticGuest *guest;
	GRand *rand;
	HvpGpaRange ranges[MOST_RANGES];
	guint range_count;
	Change changes[MOST_CHANGES];
	guint change_count;
} Fixture;

static void set_up(Fixture *self, Generation generation, guint32 seed)
{
	SyntheticOptions options = { .generation = generation, .small_pages = generation != 0 };
	HvpGva leader;

	memset(self, 0, sizeof *self);
	self->guest = synthetic_guest_new(&options);
	leader = synthetic_guest_add_task(self->guest, "leader", 10, hvp_gva(0));
	synthetic_guest_add_task(self->guest, "thread", 11, leader);
	synthetic_guest_add_module(self->guest, "one");
	synthetic_guest_add_module(self->guest, "two");
	self->rand = g_rand_new_with_seed(seed);
	self->range_count = synthetic_guest_used(self->guest, self->ranges, MOST_RANGES);
}

static void tear_down(Fixture *self)
{
	g_rand_free(self->rand);
	synthetic_guest_free(self->guest);
}

/* A word that holds something, in a range that a memory image of @ranges has. */
static guint64 pick_word(Fixture *self)
{
	for (;;) {
		guint index = g_rand_int(self->rand) % self->range_count;
		HvpGpaRange range = self->ranges[index];
		guint64 words = (range.end.value - range.start.value) / 8;
		guint64 gpa = range.start.value + g_rand_int(self->rand) % words * 8;

		if (image_memory_get_u64(self->guest->memory, gpa) != 0 ||
		    g_rand_int(self->rand) % 16 == 0)
			return gpa;
	}
}

/* Flips a bit, changes a byte, or puts an awkward value or somebody else's pointer. */
static guint64 break_word(Fixture *self, guint64 before)
{
	static const guint64 awkward[] = {
		0,	    1,		G_MAXUINT64,	    1ULL << 63,
		0x7fffffff, 0xffffffff, 0x4141414141414141, 0xfffffffffffff000
	};
	guint shift = g_rand_int(self->rand) % 64;

	switch (g_rand_int(self->rand) % 4) {
	case 0:
		return before ^ 1ULL << shift;
	case 1:
		return before ^ (guint64)(g_rand_int(self->rand) & 0xff) << (shift & ~7U);
	case 2:
		return awkward[g_rand_int(self->rand) % G_N_ELEMENTS(awkward)];
	default:
		return image_memory_get_u64(self->guest->memory, pick_word(self));
	}
}

static void break_some(Fixture *self)
{
	self->change_count = 1 + g_rand_int(self->rand) % MOST_CHANGES;
	for (guint i = 0; i < self->change_count; i++) {
		guint64 gpa = pick_word(self);
		guint64 before = image_memory_get_u64(self->guest->memory, gpa);

		self->changes[i] = (Change){ gpa, before };
		image_memory_put_u64(self->guest->memory, gpa, break_word(self, before));
	}
}

static void mend(Fixture *self)
{
	while (self->change_count > 0) {
		const Change *change = &self->changes[--self->change_count];

		image_memory_put_u64(self->guest->memory, change->gpa, change->before);
	}
}

static void test_attach(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		guint attached = 0;
		Fixture f;

		set_up(&f, generation, 21 + generation);
		for (guint i = 0; i < 400; i++) {
			guint64 calls = f.guest->memory->calls;

			break_some(&f);
			attached += explore_memory(&f.guest->memory->base, &f.guest->registers);
			mend(&f);
			g_assert_cmpuint(f.guest->memory->calls - calls, <, MOST_CALLS);
		}
		/* Neither all harmless nor all fatal. */
		g_assert_cmpuint(attached, >, 10);
		g_assert_cmpuint(attached, <, 400);
		g_assert_true(explore_memory(&f.guest->memory->base, &f.guest->registers));
		tear_down(&f);
	}
}

/* Broken behind the back of who has attached already. */
static void test_attached(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		g_autoptr(HvpKernel) kernel = NULL;
		Fixture f;

		set_up(&f, generation, 42 + generation);
		kernel = synthetic_guest_attach(f.guest);
		for (guint i = 0; i < 3000; i++) {
			guint64 calls = f.guest->memory->calls;

			break_some(&f);
			explore_kernel(kernel);
			mend(&f);
			g_assert_cmpuint(f.guest->memory->calls - calls, <, MOST_CALLS);
		}
		tear_down(&f);
	}
}

/* The guest writes while it is looked at. */
static void scribble(ImageMemory *memory, gpointer user_data)
{
	Fixture *f = user_data;

	if (memory->calls % 7 == 0) {
		mend(f);
		break_some(f);
	}
}

static void test_racing(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		g_autoptr(HvpKernel) kernel = NULL;
		Fixture f;

		set_up(&f, generation, 63 + generation);
		kernel = synthetic_guest_attach(f.guest);
		f.guest->memory->on_read = scribble;
		f.guest->memory->user_data = &f;
		for (guint i = 0; i < 300; i++)
			explore_kernel(kernel);
		for (guint i = 0; i < 30; i++)
			explore_memory(&f.guest->memory->base, &f.guest->registers);
		tear_down(&f);
	}
}

/* Registers of anything. */
static void test_registers(void)
{
	Fixture f;

	set_up(&f, GENERATION_6_1, 84);
	for (guint i = 0; i < 2000; i++) {
		HvpRegisters registers = f.guest->registers;
		guint64 value = (guint64)g_rand_int(f.rand) << 32 | g_rand_int(f.rand);

		if (i % 4 == 0)
			registers.cr3 = value & 0xfff000;
		else if (i % 4 == 1)
			registers.cr4 ^= 1ULL << value % 64;
		else if (i % 4 == 2)
			registers.idt_base = value | 0xffff800000000000;
		else
			registers.cr0 ^= 1ULL << value % 64;
		/* An attach takes a while; most of these find nothing. */
		if (i % 4 == 0 || i % 16 == 2 || i < 60)
			explore_memory(&f.guest->memory->base, &registers);
	}
	tear_down(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/hostile/broken-before-attach-BOUNDED", test_attach);
	g_test_add_func("/hostile/broken-after-attach-BOUNDED", test_attached);
	g_test_add_func("/hostile/broken-while-read-BOUNDED", test_racing);
	g_test_add_func("/hostile/registers-of-anything-BOUNDED", test_registers);
	return g_test_run();
}
