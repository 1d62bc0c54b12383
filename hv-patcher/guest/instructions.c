/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/instructions.h"

#include <Zydis/Zydis.h>
#include <string.h>

#define FORMATTED_BYTES 256

static HvpInstructionKind classify(const ZydisDecodedInstruction *decoded)
{
	bool relative = (decoded->attributes & ZYDIS_ATTRIB_IS_RELATIVE) != 0;

	switch (decoded->meta.category) {
	case ZYDIS_CATEGORY_CALL:
		return relative ? HVP_INSTRUCTION_CALL : HVP_INSTRUCTION_OTHER;
	case ZYDIS_CATEGORY_UNCOND_BR:
		return relative ? HVP_INSTRUCTION_JUMP : HVP_INSTRUCTION_AWAY;
	case ZYDIS_CATEGORY_COND_BR:
		return relative ? HVP_INSTRUCTION_BRANCH : HVP_INSTRUCTION_OTHER;
	case ZYDIS_CATEGORY_RET:
		return HVP_INSTRUCTION_AWAY;
	default:
		break;
	}
	if (decoded->mnemonic == ZYDIS_MNEMONIC_INT3)
		return HVP_INSTRUCTION_BREAKPOINT;
	if (decoded->mnemonic == ZYDIS_MNEMONIC_UD2)
		return HVP_INSTRUCTION_TRAP;
	return HVP_INSTRUCTION_OTHER;
}

bool hvp_instructions_decode(const guint8 *bytes, gsize length_bytes, HvpGva address,
			     HvpInstruction *ret_instruction, GError **error)
{
	ZydisDecoder decoder;
	ZydisDecodedInstruction decoded;
	HvpInstruction instruction = { 0 };

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (!ZYAN_SUCCESS(
		    ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, length_bytes, &decoded)))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the bytes at 0x%" G_GINT64_MODIFIER "x are no instruction",
				     address.value);
	instruction.length_bytes = decoded.length;
	instruction.kind = classify(&decoded);
	/* A relative branch's displacement is its first immediate. */
	if (instruction.kind == HVP_INSTRUCTION_CALL || instruction.kind == HVP_INSTRUCTION_JUMP ||
	    instruction.kind == HVP_INSTRUCTION_BRANCH)
		instruction.target = hvp_gva(address.value + decoded.length +
					     (guint64)decoded.raw.imm[0].value.s);
	*ret_instruction = instruction;
	return true;
}

char *hvp_instructions_format(const guint8 *bytes, gsize length_bytes, HvpGva address)
{
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction decoded;
	ZydisFormatter formatter;
	ZydisDecoder decoder;
	char text[FORMATTED_BYTES];

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	if (!ZYAN_SUCCESS(
		    ZydisDecoderDecodeFull(&decoder, bytes, length_bytes, &decoded, operands)) ||
	    !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(
		    &formatter, &decoded, operands, decoded.operand_count_visible, text,
		    sizeof text, address.value, ZYAN_NULL)))
		return NULL;
	return g_strdup(text);
}

bool hvp_instructions_cover(const guint8 *bytes, gsize length_bytes, HvpGva address,
			    guint least_bytes, guint *ret_bytes, GError **error)
{
	guint covered = 0;

	while (covered < least_bytes) {
		HvpInstruction instruction;

		if (!hvp_instructions_decode(bytes + covered, length_bytes - covered,
					     hvp_gva_add(address, covered), &instruction, error))
			return false;
		covered += instruction.length_bytes;
	}
	*ret_bytes = covered;
	return true;
}

bool hvp_instructions_find_call(const guint8 *bytes, gsize length_bytes, HvpGva address,
				HvpGva target, HvpGva *ret_call, guint *ret_length_bytes,
				GError **error)
{
	guint found = 0, call_bytes = 0;
	HvpGva call = { 0 };

	for (gsize at = 0; at < length_bytes;) {
		HvpInstruction instruction;
		HvpGva here = hvp_gva_add(address, at);
		/* The copy may end inside its last instruction; elsewhere all must decode. */
		bool may_be_cut = length_bytes - at < HVP_INSTRUCTION_MAX_BYTES;

		if (!hvp_instructions_decode(bytes + at, length_bytes - at, here, &instruction,
					     may_be_cut ? NULL : error)) {
			if (may_be_cut)
				break;
			return false;
		}
		if (instruction.kind == HVP_INSTRUCTION_CALL &&
		    instruction.target.value == target.value) {
			call = here;
			call_bytes = instruction.length_bytes;
			found++;
		}
		at += instruction.length_bytes;
	}
	if (found == 0)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
				     "no call to 0x%" G_GINT64_MODIFIER
				     "x in the function at 0x%" G_GINT64_MODIFIER "x",
				     target.value, address.value);
	if (found > 1)
		return hvp_error_set(error, HVP_ERROR_AMBIGUOUS,
				     "%u calls to 0x%" G_GINT64_MODIFIER
				     "x in the function at 0x%" G_GINT64_MODIFIER "x",
				     found, target.value, address.value);
	*ret_call = call;
	*ret_length_bytes = call_bytes;
	return true;
}

static bool has_kind(const ZydisDecodedOperand *operand, ZydisOperandType type)
{
	return operand->type == type;
}

/* A general register of 32 or 64 bits. */
static bool take_register(ZydisRegister which, guint8 *ret_index)
{
	ZydisRegisterClass class = ZydisRegisterGetClass(which);

	if (class != ZYDIS_REGCLASS_GPR64 && class != ZYDIS_REGCLASS_GPR32)
		return false;
	*ret_index = (guint8)ZydisRegisterGetId(which);
	return true;
}

static bool take_source(const ZydisDecodedOperand *operand, HvpEmulation *emulation)
{
	return has_kind(operand, ZYDIS_OPERAND_TYPE_REGISTER) &&
	       take_register(operand->reg.value, &emulation->source);
}

/* lea disp(base), without an index or a segment; not from RIP. */
static bool take_address(const ZydisDecodedOperand *operand, HvpEmulation *emulation)
{
	if (!has_kind(operand, ZYDIS_OPERAND_TYPE_MEMORY) ||
	    operand->mem.index != ZYDIS_REGISTER_NONE ||
	    ZydisRegisterGetClass(operand->mem.base) != ZYDIS_REGCLASS_GPR64)
		return false;
	emulation->kind = HVP_EMULATION_ADDRESS;
	emulation->value = (guint64)operand->mem.disp.value;
	return take_register(operand->mem.base, &emulation->source);
}

/* mov from a variable of the kernel: relative to RIP, without a segment. */
static bool take_variable(const ZydisDecodedOperand *operand, HvpGva behind,
			  HvpEmulation *emulation)
{
	if (!has_kind(operand, ZYDIS_OPERAND_TYPE_MEMORY) ||
	    operand->mem.base != ZYDIS_REGISTER_RIP || operand->mem.index != ZYDIS_REGISTER_NONE ||
	    operand->mem.segment != ZYDIS_REGISTER_DS)
		return false;
	emulation->kind = HVP_EMULATION_READ;
	emulation->value = behind.value + (guint64)operand->mem.disp.value;
	return true;
}

/* The source is a register or an immediate; @of_immediate is the kind for the latter. */
static bool take_either(const ZydisDecodedOperand *operand, HvpEmulationKind of_register,
			HvpEmulationKind of_immediate, HvpEmulation *emulation)
{
	if (has_kind(operand, ZYDIS_OPERAND_TYPE_IMMEDIATE) && of_immediate != HVP_EMULATION_NONE) {
		emulation->kind = (guint8)of_immediate;
		emulation->value = operand->imm.value.u;
		return true;
	}
	emulation->kind = (guint8)of_register;
	return of_register != HVP_EMULATION_NONE && take_source(operand, emulation);
}

/* Those that have a register as target, which is there. */
static bool take_two(ZydisMnemonic mnemonic, const ZydisDecodedOperand *operand, HvpGva behind,
		     HvpEmulation *emulation)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		return take_variable(operand, behind, emulation) ||
		       take_either(operand, HVP_EMULATION_MOVE, HVP_EMULATION_LOAD, emulation);
	case ZYDIS_MNEMONIC_ADD:
		return take_either(operand, HVP_EMULATION_NONE, HVP_EMULATION_ADD, emulation);
	case ZYDIS_MNEMONIC_SUB:
		return take_either(operand, HVP_EMULATION_NONE, HVP_EMULATION_SUBTRACT, emulation);
	case ZYDIS_MNEMONIC_TEST:
		return take_either(operand, HVP_EMULATION_TEST, HVP_EMULATION_NONE, emulation);
	case ZYDIS_MNEMONIC_XOR:
		return take_either(operand, HVP_EMULATION_CLEAR, HVP_EMULATION_NONE, emulation) &&
		       emulation->source == emulation->target;
	case ZYDIS_MNEMONIC_LEA:
		return take_address(operand, emulation);
	default:
		return false;
	}
}

static bool take_operands(const ZydisDecodedInstruction *decoded,
			  const ZydisDecodedOperand *operands, HvpGva behind,
			  HvpEmulation *emulation)
{
	if (decoded->mnemonic == ZYDIS_MNEMONIC_NOP) {
		emulation->kind = HVP_EMULATION_NOTHING;
		return true;
	}
	if (decoded->mnemonic == ZYDIS_MNEMONIC_PUSH) {
		emulation->kind = HVP_EMULATION_PUSH;
		return decoded->operand_width == 64 && take_source(&operands[0], emulation);
	}
	emulation->is_wide = decoded->operand_width == 64;
	return (decoded->attributes & ZYDIS_ATTRIB_HAS_LOCK) == 0 && decoded->address_width == 64 &&
	       (decoded->operand_width == 64 || decoded->operand_width == 32) &&
	       has_kind(&operands[0], ZYDIS_OPERAND_TYPE_REGISTER) &&
	       take_register(operands[0].reg.value, &emulation->target) &&
	       take_two(decoded->mnemonic, &operands[1], behind, emulation);
}

bool hvp_instructions_emulate(const guint8 *bytes, gsize length_bytes, HvpGva address,
			      HvpEmulation *ret_emulation, GError **error)
{
	ZydisDecoder decoder;
	ZydisDecodedInstruction decoded;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	HvpEmulation emulation = { 0 };
	HvpInstruction instruction;

	if (!hvp_instructions_decode(bytes, length_bytes, address, &instruction, error))
		return false;
	emulation.length_bytes = (guint8)instruction.length_bytes;
	if (instruction.kind == HVP_INSTRUCTION_CALL) {
		emulation.kind = HVP_EMULATION_CALL;
		emulation.value = instruction.target.value;
		*ret_emulation = emulation;
		return true;
	}
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (!ZYAN_SUCCESS(
		    ZydisDecoderDecodeFull(&decoder, bytes, length_bytes, &decoded, operands)) ||
	    !take_operands(&decoded, operands, hvp_gva_add(address, decoded.length), &emulation))
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the instruction at 0x%" G_GINT64_MODIFIER
				     "x is none that can be done for a thread",
				     address.value);
	*ret_emulation = emulation;
	return true;
}

static bool is_padding(const guint8 *bytes, gsize length_bytes, const HvpInstruction *instruction)
{
	HvpEmulation emulation;

	return instruction->kind == HVP_INSTRUCTION_BREAKPOINT ||
	       (hvp_instructions_emulate(bytes, length_bytes, hvp_gva(0), &emulation, NULL) &&
		emulation.kind == HVP_EMULATION_NOTHING);
}

bool hvp_instructions_find_padding(const guint8 *bytes, gsize length_bytes, HvpGva address,
				   HvpGvaRange *ret_padding, GError **error)
{
	HvpInstructionKind last = HVP_INSTRUCTION_OTHER;
	gsize end_of_code = 0;

	for (gsize at = 0; at < length_bytes;) {
		HvpInstruction instruction;

		if (!hvp_instructions_decode(bytes + at, length_bytes - at,
					     hvp_gva_add(address, at), &instruction, error))
			return false;
		if (!is_padding(bytes + at, length_bytes - at, &instruction)) {
			last = instruction.kind;
			end_of_code = at + instruction.length_bytes;
		}
		at += instruction.length_bytes;
	}
	if ((last != HVP_INSTRUCTION_AWAY && last != HVP_INSTRUCTION_TRAP &&
	     last != HVP_INSTRUCTION_JUMP) ||
	    end_of_code == length_bytes)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
				     "no padding behind the function at 0x%" G_GINT64_MODIFIER "x",
				     address.value);
	ret_padding->start = hvp_gva_add(address, end_of_code);
	ret_padding->end = hvp_gva_add(address, length_bytes);
	return true;
}

void hvp_instructions_fill_nops(guint8 *bytes, guint length_bytes)
{
	/* Intel SDM volume 2, NOP: recommended multi-byte sequences. */
	static const guint8 nops[9][9] = {
		{ 0x90 },
		{ 0x66, 0x90 },
		{ 0x0f, 0x1f, 0x00 },
		{ 0x0f, 0x1f, 0x40, 0x00 },
		{ 0x0f, 0x1f, 0x44, 0x00, 0x00 },
		{ 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00 },
		{ 0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00 },
		{ 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00 },
		{ 0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00 },
	};

	while (length_bytes > 0) {
		guint piece = MIN(length_bytes, 9);

		memcpy(bytes, nops[piece - 1], piece);
		bytes += piece;
		length_bytes -= piece;
	}
}
