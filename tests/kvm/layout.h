/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the bare-metal guest and those who watch it from outside agree on. The guest is a
 * firmware image of 64 KiB that ends at 4 GiB; it copies itself to GUEST_BASE, and maps that at
 * GUEST_VIRTUAL as well, where the vCPUs run in 64-bit mode.
 */
#pragma once

#define GUEST_BASE 0x100000
#define GUEST_BYTES 0x10000
#define GUEST_VIRTUAL 0xffffffff81000000
#define GUEST_ROM 0xffff0000

/* Page tables, 4 levels. */
#define GUEST_PML4 0x200000
/* All RAM, as Linux has it: tables at the end of RAM, of what is above 4 GiB at its end. */
#define GUEST_LINEAR 0xffff888000000000
/* A page with the interrupt table, in that map. */
#define GUEST_IDT 0x500000
/* Of each vCPU, by the order in which they came up. */
#define GUEST_STACKS 0x300000
#define GUEST_STACK_BYTES 0x1000
#define GUEST_MAX_VCPUS 64

/* Where the other vCPUs start in real mode. */
#define GUEST_TRAMPOLINE 0x8000

/* The page that is looked at from outside: struct GuestBox. */
#define GUEST_BOX 0x400000
#define GUEST_MAGIC 0x68767054624d4731

/* Functions whose entries are switched; 5 bytes of each are a slot, as the compiler leaves it. */
#define GUEST_FUNCTIONS 16
#define GUEST_FUNCTION_BYTES 32
#define GUEST_SLOT_BYTES 5

#ifndef __ASSEMBLER__
#include <stdint.h>

typedef enum {
	GUEST_ROLE_CALL, /* calls the functions round and round, with known values in registers */
	GUEST_ROLE_HALT, /* halted, never to wake up */
	GUEST_ROLE_PORT, /* the same as CALL, with input and output in between */
	GUEST_ROLE_TIME, /* reads the time stamp counter and nothing else */
} GuestRole;

/* What one vCPU tells. */
typedef struct {
	uint64_t rounds;
	uint64_t old_rounds; /* all functions were the old ones, */
	uint64_t new_rounds; /* the new ones, */
	uint64_t mixed;	     /* or some of both */
	uint64_t disturbed;  /* values that were not what they had been */
	uint64_t longest_gap; /* between two readings of the counter, in cycles */
	uint32_t apic_id;
	uint32_t role;
} GuestVcpu;

typedef struct {
	uint64_t magic;	     /* set when the first vCPU runs */
	uint64_t vcpu_count; /* that have come up */
	uint64_t functions;  /* entries of the old and the new ones, GUEST_FUNCTION_BYTES apart */
	uint64_t replacements;
	uint64_t round_start; /* text in which a round is under way: no switch there */
	uint64_t round_end;
	/* From outside: */
	uint64_t gaps_epoch; /* another number: gaps before now do not count */
	uint64_t wake;	     /* 1 + the APIC id of a vCPU that is to be started */
	uint32_t roles[GUEST_MAX_VCPUS]; /* by APIC id; HALT is for ever */
	GuestVcpu vcpus[GUEST_MAX_VCPUS]; /* by APIC id */
} GuestBox;
#endif
