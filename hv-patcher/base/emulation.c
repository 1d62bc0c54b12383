/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/emulation.h"

#define MAX_INSTRUCTION_BYTES 15U

#define FLAG_CF (1U << 0)
#define FLAG_PF (1U << 2)
#define FLAG_AF (1U << 4)
#define FLAG_ZF (1U << 6)
#define FLAG_SF (1U << 7)
#define FLAG_OF (1U << 11)

bool hvp_emulation_is_valid(const HvpEmulation *self)
{
	return self->kind > HVP_EMULATION_NONE && self->kind < HVP_EMULATION_KIND_COUNT &&
	       self->length_bytes > 0 && self->length_bytes <= MAX_INSTRUCTION_BYTES &&
	       self->target < HVP_GENERAL_COUNT && self->source < HVP_GENERAL_COUNT &&
	       self->is_wide <= 1;
}

static guint64 narrowed(const HvpEmulation *self, guint64 value)
{
	return self->is_wide ? value : (guint32)value;
}

static void set_flags(HvpRegisters *registers, guint64 mask, guint64 flags)
{
	registers->rflags = (registers->rflags & ~mask) | flags;
}

/* Those that every result sets: of its lowest byte, of nothing, of its highest bit. */
static guint64 flags_of_result(const HvpEmulation *self, guint64 result)
{
	guint64 sign = self->is_wide ? 1ULL << 63 : 1ULL << 31;

	return (__builtin_parity((guint32)(result & 0xff)) ? 0 : FLAG_PF) |
	       (result == 0 ? FLAG_ZF : 0) | ((result & sign) != 0 ? FLAG_SF : 0);
}

/* Of AND and XOR; AF is undefined, and cleared by all processors known. */
static void set_logic_flags(const HvpEmulation *self, HvpRegisters *registers, guint64 result)
{
	set_flags(registers, FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF,
		  flags_of_result(self, result));
}

/* Target plus or minus the immediate. */
static void change_target(const HvpEmulation *self, HvpRegisters *registers)
{
	guint64 *target = &registers->general[self->target];
	guint64 sign = self->is_wide ? 1ULL << 63 : 1ULL << 31;
	guint64 before = narrowed(self, *target), value = narrowed(self, self->value);
	bool adds = self->kind == HVP_EMULATION_ADD;
	guint64 after = narrowed(self, adds ? before + value : before - value);
	guint64 differs = adds ? ~(before ^ value) : before ^ value;
	bool carry = adds ? after < before : before < value;

	*target = after;
	set_flags(registers, FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF,
		  flags_of_result(self, after) | (carry ? FLAG_CF : 0) |
			  ((before ^ value ^ after) & FLAG_AF) |
			  ((differs & (before ^ after) & sign) != 0 ? FLAG_OF : 0));
}

static void push(HvpRegisters *registers, guint64 value, HvpEmulationPush *ret_push)
{
	*ret_push = (HvpEmulationPush){ true, value };
	registers->general[HVP_RSP] -= 8;
}

guint hvp_emulation_read_bytes(const HvpEmulation *self)
{
	if (self->kind != HVP_EMULATION_READ)
		return 0;
	return self->is_wide ? 8 : 4;
}

void hvp_emulation_run(const HvpEmulation *self, guint64 memory, HvpRegisters *registers,
		       HvpEmulationPush *ret_push)
{
	guint64 *target = &registers->general[self->target];
	guint64 source = registers->general[self->source];

	*ret_push = (HvpEmulationPush){ 0 };
	registers->rip += self->length_bytes;
	switch ((HvpEmulationKind)self->kind) {
	case HVP_EMULATION_PUSH:
		push(registers, source, ret_push);
		break;
	case HVP_EMULATION_MOVE:
		*target = narrowed(self, source);
		break;
	case HVP_EMULATION_LOAD:
		*target = narrowed(self, self->value);
		break;
	case HVP_EMULATION_ADDRESS:
		*target = narrowed(self, source + self->value);
		break;
	case HVP_EMULATION_ADD:
	case HVP_EMULATION_SUBTRACT:
		change_target(self, registers);
		break;
	case HVP_EMULATION_TEST:
		set_logic_flags(self, registers, narrowed(self, *target & source));
		break;
	case HVP_EMULATION_CLEAR:
		*target = 0;
		set_logic_flags(self, registers, 0);
		break;
	case HVP_EMULATION_READ:
		*target = narrowed(self, memory);
		break;
	case HVP_EMULATION_CALL:
		push(registers, registers->rip, ret_push);
		registers->rip = self->value;
		break;
	case HVP_EMULATION_NONE:
	case HVP_EMULATION_NOTHING:
	case HVP_EMULATION_KIND_COUNT:
		break;
	}
}
