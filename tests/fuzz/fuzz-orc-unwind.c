/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ORC entries and two stacks of arbitrary bytes: a verdict, and no frame too many.
 *
 *   input = generation u8, function u8, stack pointer u16, ORC entry[32] (6 bytes each),
 *           code[stack word]: what each word of the stacks, in turn, is (u16)
 *
 * A word is a return address, an address on one of the stacks, or a small number; bytes taken
 * for words as they are would hardly ever be an address.
 */
#include <string.h>

#include "../unit/guest/synthetic-guest.h"
#include "guest/unwinder.h"

#define HEADER_BYTES 4U
#define ENTRIES 32U
#define ENTRY_BYTES 6U
#define STACK_WORDS 256U
#define FIRST_STACK 0xffffc90001000000ULL
#define SECOND_STACK 0xffffc90002000000ULL

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes);

/* One of each generation, made once: making them takes longer than unwinding. */
static SyntheticGuest *guest_of(Generation generation, HvpKernel **ret_kernel)
{
	static SyntheticGuest *guests[2];
	static HvpKernel *kernels[2];

	if (guests[generation] == NULL) {
		SyntheticOptions options = { .generation = generation };

		guests[generation] = synthetic_guest_new(&options);
		kernels[generation] = synthetic_guest_attach(guests[generation]);
	}
	*ret_kernel = kernels[generation];
	return guests[generation];
}

static guint64 word_of(guint16 code)
{
	guint64 value = code >> 2;

	switch (code & 3) {
	case 0:
		return SYNTHETIC_BASE + 0x1000 + value % (ENTRIES * SYNTHETIC_FUNCTION_BYTES);
	case 1:
		return FIRST_STACK + value % (STACK_WORDS * 8 + 16);
	case 2:
		return SECOND_STACK + value % (STACK_WORDS * 8 + 16);
	default:
		return value;
	}
}

static void fill_stacks(const guint8 *data, gsize size_bytes, guint8 *first, guint8 *second)
{
	for (guint i = 0; i < STACK_WORDS * 2; i++) {
		guint8 *stack = i % 2 ? second : first;
		guint16 code = size_bytes >= 2 ? hvp_load_u16(data + i * 2 % (size_bytes & ~1UL))
					       : 0;

		hvp_store_u64(stack + i / 2 * 8, word_of(code));
	}
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes)
{
	static guint8 first[STACK_WORDS * 8], second[STACK_WORDS * 8];
	const HvpStackCopy stacks[] = { { hvp_gva(FIRST_STACK), sizeof first, first },
					{ hvp_gva(SECOND_STACK), sizeof second, second } };
	g_autoptr(HvpUnwinder) unwinder = NULL;
	HvpRegisters registers = { .cs = 0x10 };
	SyntheticGuest *guest;
	HvpKernel *kernel;
	HvpTrace trace;
	gsize skip = HEADER_BYTES + ENTRIES * ENTRY_BYTES;

	if (size_bytes < skip)
		return 0;
	guest = guest_of(data[0] & 1, &kernel);
	memcpy(synthetic_guest_bytes(guest, guest->orc_entries, ENTRIES * ENTRY_BYTES),
	       data + HEADER_BYTES, ENTRIES * ENTRY_BYTES);
	fill_stacks(data + skip, size_bytes - skip, first, second);
	unwinder = hvp_unwinder_new(kernel, NULL);
	g_assert(unwinder != NULL);
	registers.rip = word_of((guint16)(data[1] << 8 | 0x80));
	registers.general[HVP_RSP] = FIRST_STACK + hvp_load_u16(data + 2) % sizeof first;
	for (guint i = 0; i < HVP_GENERAL_COUNT; i++)
		if (i != HVP_RSP)
			registers.general[i] = hvp_load_u64(first + i * 8);
	hvp_unwinder_trace_running(unwinder, hvp_gva(0), &registers, stacks, 2, &trace);
	g_assert(trace.count <= HVP_TRACE_MAX_FRAMES);
	hvp_unwinder_trace_sleeping(unwinder, hvp_gva(0), hvp_gva(registers.general[HVP_RSP]),
				    &stacks[0], &trace);
	g_assert(trace.count <= HVP_TRACE_MAX_FRAMES);
	return 0;
}
