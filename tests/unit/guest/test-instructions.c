/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "base/bytes.h"
#include "guest/instructions.h"

#define HERE 0xffffffff81000000ULL

/* Bytes, their length in instructions' terms, kind, and where a branch leads from HERE. */
static const struct {
	const char *bytes;
	guint length_bytes;
	HvpInstructionKind kind;
	gint64 distance;
} known[] = {
	{ "\xe8\x00\x10\x00\x00", 5, HVP_INSTRUCTION_CALL, 0x1005 },
	{ "\xe8\xf6\xff\xff\xff", 5, HVP_INSTRUCTION_CALL, -5 },
	{ "\xe9\x00\x00\x00\x80", 5, HVP_INSTRUCTION_JUMP, 5 - 0x80000000LL },
	{ "\xeb\xfe", 2, HVP_INSTRUCTION_JUMP, 0 },
	{ "\x74\x10", 2, HVP_INSTRUCTION_BRANCH, 0x12 },
	{ "\x0f\x84\x00\x01\x00\x00", 6, HVP_INSTRUCTION_BRANCH, 0x106 },
	{ "\xe3\x05", 2, HVP_INSTRUCTION_BRANCH, 7 },
	{ "\xcc", 1, HVP_INSTRUCTION_BREAKPOINT, 0 },
	{ "\xc3", 1, HVP_INSTRUCTION_AWAY, 0 },
	{ "\xc2\x08\x00", 3, HVP_INSTRUCTION_AWAY, 0 },
	{ "\x0f\x0b", 2, HVP_INSTRUCTION_TRAP, 0 },
	{ "\xff\xe0", 2, HVP_INSTRUCTION_AWAY, 0 },
	{ "\xff\x24\xc5\x00\x00\x00\x00", 7, HVP_INSTRUCTION_AWAY, 0 },
	{ "\xff\xd0", 2, HVP_INSTRUCTION_OTHER, 0 },
	{ "\xf3\x0f\x1e\xfa", 4, HVP_INSTRUCTION_OTHER, 0 },
	{ "\x66\x0f\x1f\x00", 4, HVP_INSTRUCTION_OTHER, 0 },
	{ "\x0f\x1f\x40\xd6", 4, HVP_INSTRUCTION_OTHER, 0 },
	{ "\x0f\x1f\x44\x00\x00", 5, HVP_INSTRUCTION_OTHER, 0 },
	{ "\x48\x89\xe5", 3, HVP_INSTRUCTION_OTHER, 0 },
	{ "\x65\x48\x8b\x04\x25\x00\x00\x00\x00", 9, HVP_INSTRUCTION_OTHER, 0 },
};

static void test_kinds(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(known); i++) {
		g_autofree guint8 *bytes = g_memdup2(known[i].bytes, known[i].length_bytes);
		g_autoptr(GError) error = NULL;
		HvpInstruction found;

		g_assert_true(hvp_instructions_decode(bytes, known[i].length_bytes, hvp_gva(HERE),
						      &found, &error));
		g_assert_cmpuint(found.length_bytes, ==, known[i].length_bytes);
		g_assert_cmpint(found.kind, ==, known[i].kind);
		if (found.kind == HVP_INSTRUCTION_CALL || found.kind == HVP_INSTRUCTION_JUMP ||
		    found.kind == HVP_INSTRUCTION_BRANCH)
			g_assert_cmphex(found.target.value, ==, HERE + (guint64)known[i].distance);
		/* One byte less is none. */
		if (known[i].length_bytes > 1)
			g_assert_false(hvp_instructions_decode(bytes, known[i].length_bytes - 1,
							       hvp_gva(HERE), &found, &error));
	}
}

static void test_no_instruction(void)
{
	static const char *const bytes[] = { "\x06", "\x0f\x0a\x00", "\xc5", "\x66\x66\x66\x66" };
	HvpInstruction found;

	for (guint i = 0; i < G_N_ELEMENTS(bytes); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_false(hvp_instructions_decode((const guint8 *)bytes[i], strlen(bytes[i]),
						       hvp_gva(HERE), &found, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
	g_assert_false(hvp_instructions_decode((const guint8 *)"", 0, hvp_gva(HERE), &found, NULL));
}

static void test_random(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(11);

	for (guint i = 0; i < 20000; i++) {
		gsize length_bytes = (gsize)g_rand_int_range(rand, 1, 17);
		g_autofree guint8 *bytes = g_malloc(length_bytes);
		HvpInstruction found;

		for (gsize k = 0; k < length_bytes; k++)
			bytes[k] = (guint8)g_rand_int(rand);
		if (!hvp_instructions_decode(bytes, length_bytes, hvp_gva(HERE), &found, NULL))
			continue;
		g_assert_cmpuint(found.length_bytes, >, 0);
		g_assert_cmpuint(found.length_bytes, <=,
				 MIN(length_bytes, HVP_INSTRUCTION_MAX_BYTES));
	}
}

static void test_fill(void)
{
	for (guint length = 0; length <= 30; length++) {
		g_autofree guint8 *bytes = g_malloc(length + 1);
		guint at = 0, count = 0;

		memset(bytes, 0x06, length + 1);
		hvp_instructions_fill_nops(bytes, length);
		g_assert_cmpuint(bytes[length], ==, 0x06);
		while (at < length) {
			HvpInstruction found;

			g_assert_true(hvp_instructions_decode(bytes + at, length - at,
							      hvp_gva(HERE + at), &found, NULL));
			g_assert_cmpint(found.kind, ==, HVP_INSTRUCTION_OTHER);
			at += found.length_bytes;
			count++;
		}
		g_assert_cmpuint(at, ==, length);
		g_assert_cmpuint(count, ==, (length + 8) / 9);
	}
}

static void test_cover(void)
{
	/* push; mov; sub imm8; call */
	static const guint8 code[] = { 0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec,
				       0x10, 0xe8, 0,	 0,    0,    0 };
	static const guint expected[] = { 0, 1, 4, 4, 4, 8, 8, 8, 8, 13, 13, 13, 13, 13 };
	g_autoptr(GError) error = NULL;
	guint covered = 77;

	for (guint least = 0; least < G_N_ELEMENTS(expected); least++) {
		g_assert_true(hvp_instructions_cover(code, sizeof code, hvp_gva(HERE), least,
						     &covered, NULL));
		g_assert_cmpuint(covered, ==, expected[least]);
	}
	covered = 77;
	g_assert_false(hvp_instructions_cover(code, sizeof code, hvp_gva(HERE), sizeof code + 1,
					      &covered, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	g_assert_false(hvp_instructions_cover(code, 6, hvp_gva(HERE), 5, &covered, NULL));
	g_assert_cmpuint(covered, ==, 77);
}

/* @calls calls to HERE + 0x1000 among others; then a return and padding. */
static gsize make_function(guint8 *code, guint calls)
{
	gsize at = 0;

	memcpy(code, "\xf3\x0f\x1e\xfa\x0f\x1f\x44\x00\x00\xe8\x00\x00\x10\x00\x55", 15);
	at = 15;
	for (guint i = 0; i < calls; i++) {
		code[at] = 0xe8;
		hvp_store_u32(code + at + 1, (guint32)(0x1000 - (at + 5)));
		at += 5;
		memcpy(code + at, "\xeb\x02\x90\x90", 4);
		at += 4;
	}
	code[at++] = 0xc3;
	memset(code + at, 0xcc, 20);
	return at + 20;
}

static void test_find_call(void)
{
	static const HvpErrorCode codes[] = { HVP_ERROR_NOT_FOUND, 0, HVP_ERROR_AMBIGUOUS,
					      HVP_ERROR_AMBIGUOUS };

	for (guint calls = 0; calls < G_N_ELEMENTS(codes); calls++) {
		guint8 code[128];
		gsize length_bytes = make_function(code, calls);
		g_autoptr(GError) error = NULL;
		HvpGva call = hvp_gva(7);
		guint call_bytes = 0;
		bool ok = hvp_instructions_find_call(code, length_bytes, hvp_gva(HERE),
						     hvp_gva(HERE + 0x1000), &call, &call_bytes,
						     &error);

		g_assert_cmpint(ok, ==, calls == 1);
		if (ok) {
			g_assert_cmphex(call.value, ==, HERE + 15);
			g_assert_cmpuint(call_bytes, ==, 5);
		} else {
			/* Callers take what was written for an answer. */
			g_assert_error(error, HVP_ERROR, (int)codes[calls]);
			g_assert_cmphex(call.value, ==, 7);
			g_assert_cmpuint(call_bytes, ==, 0);
		}
	}
}

static void test_find_call_in_junk(void)
{
	guint8 code[128];
	gsize length_bytes = make_function(code, 1);
	g_autoptr(GError) error = NULL;
	HvpGva call;
	guint call_bytes;

	/* The copy ends within an instruction. */
	g_assert_true(hvp_instructions_find_call(code, 21, hvp_gva(HERE), hvp_gva(HERE + 0x1000),
						 &call, &call_bytes, &error));
	/* No instruction behind the call: there may be another call beyond. */
	code[20] = 0x06;
	g_assert_false(hvp_instructions_find_call(code, length_bytes, hvp_gva(HERE),
						  hvp_gva(HERE + 0x1000), &call, &call_bytes,
						  &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
}

static void test_format(void)
{
	static const guint8 call[] = { 0xe8, 0x0b, 0x00, 0x00, 0x00 };
	static const guint8 junk[] = { 0x06 };
	g_autofree char *text = hvp_instructions_format(call, sizeof call, hvp_gva(HERE));
	g_autofree char *target = g_strdup_printf("call 0x%016" G_GINT64_MODIFIER "X",
						  (guint64)HERE + sizeof call + 0x0b);

	g_assert_cmpstr(text, ==, target);
	g_assert_null(hvp_instructions_format(junk, sizeof junk, hvp_gva(HERE)));
	g_assert_null(hvp_instructions_format(call, 4, hvp_gva(HERE)));
	g_assert_null(hvp_instructions_format(call, 0, hvp_gva(HERE)));
}

/* A function's last bytes, and how many of them are padding; 0: none can be told. */
static const struct {
	const char *bytes;
	guint length_bytes;
	guint padding_bytes;
} tails[] = {
	{ "\x5b\xc3\xcc\xcc\xcc\xcc\xcc\x66\x90", 9, 7 },
	{ "\x5b\xe9\x00\x00\x00\x00\xcc\x90\x90", 9, 3 },
	{ "\x90\x90\xff\xe0\x0f\x1f\x44\x00\x00", 9, 5 },
	{ "\x5b\xc3", 2, 0 },				  /* nothing behind it */
	{ "\xe8\x00\x00\x00\x00\xcc\xcc\xcc\xcc", 9, 0 }, /* a call comes back */
	{ "\x74\x02\x90\x90\x90\x90\x90", 7, 0 },	  /* runs into it */
	{ "\xc3\xcc\xcc\x06\xcc\xcc", 6, 0 },		  /* no instruction */
	{ "\x90\x90\x90\x90", 4, 0 },			  /* a NOP sled */
};

static void test_padding(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(tails); i++) {
		g_autofree guint8 *bytes = g_memdup2(tails[i].bytes, tails[i].length_bytes);
		g_autoptr(GError) error = NULL;
		HvpGvaRange padding = { { 0 }, { 0 } };
		bool ok = hvp_instructions_find_padding(bytes, tails[i].length_bytes, hvp_gva(HERE),
							&padding, &error);

		g_assert_cmpint(ok, ==, tails[i].padding_bytes > 0);
		g_assert_cmpuint(hvp_gva_range_size(padding), ==, tails[i].padding_bytes);
		if (ok)
			g_assert_cmphex(padding.end.value, ==, HERE + tails[i].length_bytes);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/instructions/known-ones-DECODE", test_kinds);
	g_test_add_func("/instructions/no-instruction-BAD_DATA", test_no_instruction);
	g_test_add_func("/instructions/random-bytes-SAFE", test_random);
	g_test_add_func("/instructions/nops-of-1-to-30-WHOLE-and-few", test_fill);
	g_test_add_func("/instructions/cover-WHOLE", test_cover);
	g_test_add_func("/instructions/calls-none-one-more-FOUND-once", test_find_call);
	g_test_add_func("/instructions/call-before-junk-BAD_DATA", test_find_call_in_junk);
	g_test_add_func("/instructions/text-INTEL-SYNTAX", test_format);
	g_test_add_func("/instructions/padding-behind-functions-FOUND-where-sure", test_padding);
	return g_test_run();
}
