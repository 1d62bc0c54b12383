/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lengths and branch targets of x86-64 instructions in a copy of guest text, by a
 * decoder library. Pure.
 */
#pragma once

#include "base/address.h"
#include "base/emulation.h"
#include "base/error.h"

#define HVP_INSTRUCTION_MAX_BYTES 15U

typedef enum {
	HVP_INSTRUCTION_OTHER,
	HVP_INSTRUCTION_CALL,	    /* direct, relative */
	HVP_INSTRUCTION_JUMP,	    /* direct, relative, unconditional */
	HVP_INSTRUCTION_BRANCH,	    /* direct, relative, conditional */
	HVP_INSTRUCTION_BREAKPOINT, /* int3 */
	HVP_INSTRUCTION_AWAY,	    /* ret, indirect jump: goes where its operand says */
	HVP_INSTRUCTION_TRAP,	    /* ud2: a BUG, or a WARN, behind which it goes on */
} HvpInstructionKind;

typedef struct {
	guint length_bytes;
	HvpInstructionKind kind;
	HvpGva target; /* of CALL, JUMP and BRANCH */
} HvpInstruction;

/* Decodes one instruction at @address; BAD_DATA when the bytes are none. */
bool hvp_instructions_decode(const guint8 *bytes, gsize length_bytes, HvpGva address,
			     HvpInstruction *ret_instruction,
			     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * The instruction at @address as text in Intel's syntax, such as "mov eax, [rdi+0x08]", branch
 * targets as addresses; NULL when the bytes are none. The caller's.
 */
char *hvp_instructions_format(const guint8 *bytes, gsize length_bytes, HvpGva address);

/*
 * How many bytes from @address on it takes to cover @least_bytes by whole instructions.
 * BAD_DATA where they do not decode.
 */
bool hvp_instructions_cover(const guint8 *bytes, gsize length_bytes, HvpGva address,
			    guint least_bytes, guint *ret_bytes,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * The one direct call to @target in the function whose code is @bytes, at @address. NOT_FOUND,
 * AMBIGUOUS where there are several; BAD_DATA.
 */
bool hvp_instructions_find_call(const guint8 *bytes, gsize length_bytes, HvpGva address,
				HvpGva target, HvpGva *ret_call, guint *ret_length_bytes,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What it takes to do the one instruction at @address in the host; UNSUPPORTED, BAD_DATA. */
bool hvp_instructions_emulate(const guint8 *bytes, gsize length_bytes, HvpGva address,
			      HvpEmulation *ret_emulation,
			      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * The padding behind the function whose whole code is @bytes, at @address: bytes that nobody runs,
 * as they follow a return or a jump and are NOPs or int3 to the end. NOT_FOUND: there is none, or
 * that is not sure.
 */
bool hvp_instructions_find_padding(const guint8 *bytes, gsize length_bytes, HvpGva address,
				   HvpGvaRange *ret_padding,
				   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Fills @bytes with as few NOPs as it takes, in the forms that the vendors recommend. */
void hvp_instructions_fill_nops(guint8 *bytes, guint length_bytes);
