/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The few kinds of x86-64 instructions that functions begin with, done by the host in
 * place of a vCPU that stands at one: what it takes to let a thread past an
 * instruction over which something else has been written.
 */
#pragma once

#include "base/registers.h"

typedef enum {
	HVP_EMULATION_NONE, /* it cannot be done */
	HVP_EMULATION_NOTHING,
	HVP_EMULATION_PUSH,	/* push source */
	HVP_EMULATION_MOVE,	/* mov source, target */
	HVP_EMULATION_LOAD,	/* mov $value, target */
	HVP_EMULATION_ADDRESS,	/* lea value(source), target */
	HVP_EMULATION_ADD,	/* add $value, target */
	HVP_EMULATION_SUBTRACT, /* sub $value, target */
	HVP_EMULATION_TEST,	/* test source, target */
	HVP_EMULATION_CLEAR,	/* xor target, target */
	HVP_EMULATION_READ,	/* mov value(an address), target */
	HVP_EMULATION_CALL,	/* call value (an address) */
	HVP_EMULATION_KIND_COUNT,
} HvpEmulationKind;

typedef struct {
	guint8 kind;
	guint8 length_bytes;
	guint8 target; /* HVP_RAX ... */
	guint8 source;
	guint8 is_wide; /* 64 bits; else 32, which clears the upper half */
	guint64 value;
} HvpEmulation;

/* What goes to the stack; the registers have RSP lowered for it. */
typedef struct {
	bool is_there;
	guint64 value;
} HvpEmulationPush;

/* Whether it is an instruction of the table with registers that exist. */
bool hvp_emulation_is_valid(const HvpEmulation *self);

/* How many bytes at @self's value it reads: 0, 4 or 8. */
guint hvp_emulation_read_bytes(const HvpEmulation *self);

/*
 * Does it: @registers are moved behind it. It is valid. @memory is what it reads, as a number; 0
 * where it reads nothing.
 */
void hvp_emulation_run(const HvpEmulation *self, guint64 memory, HvpRegisters *registers,
		       HvpEmulationPush *ret_push);
