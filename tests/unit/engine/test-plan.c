/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/plan.h"

#include "guest/instructions.h"

#include <string.h>

#define FUNCTION 0xffffffff81234560ULL
#define IMAGE ((HvpGvaRange){ { 0xffffffff81000000ULL }, { 0xffffffff82000000ULL } })

/* A function of @bytes whose slot is @slot bytes in, as the guest shows it. */
static HvpFunctionFacts make_facts(const guint8 *bytes, gsize count, guint slot)
{
	HvpFunctionFacts facts = { .name = (char *)"victim", .code_bytes = count };

	facts.old.start = hvp_gva(FUNCTION);
	facts.old.end = hvp_gva(FUNCTION + count);
	facts.slot.ip = hvp_gva(FUNCTION + slot);
	memcpy(facts.code, bytes, count);
	return facts;
}

static void assert_refused(const guint8 *bytes, gsize count, guint slot, HvpErrorCode code)
{
	HvpFunctionFacts facts = make_facts(bytes, count, slot);
	g_autoptr(GError) error = NULL;
	const char *name;
	HvpSite site;

	g_assert_false(hvp_plan_site(&facts, NULL, IMAGE, &site, &error));
	g_assert_error(error, HVP_ERROR, (int)code);
	/* Once. */
	name = strstr(error->message, "victim");
	g_assert_nonnull(name);
	g_assert_true(name == g_strrstr(error->message, "victim"));
}

/* call __fentry__ as NOP5; push rbp; mov rbp,rsp; push r12; ret */
static const guint8 ordinary[] = { 0x0f, 0x1f, 0x44, 0x00, 0x00, 0x55, 0x48,
				   0x89, 0xe5, 0x41, 0x54, 0xc3, 0xcc, 0xcc };

static void test_site_behind_slot(void)
{
	HvpFunctionFacts facts = make_facts(ordinary, sizeof ordinary, 0);
	HvpSite site;

	g_assert_true(hvp_plan_site(&facts, NULL, IMAGE, &site, NULL));
	g_assert_cmphex(site.site.value, ==, FUNCTION + 5);
	/* push, mov and push make six bytes: the jump's five end inside the last push. */
	g_assert_cmpuint(site.length_bytes, ==, 6);
	g_assert_cmpmem(site.old_bytes, 6, ordinary + 5, 6);
}

static void test_site_behind_endbr(void)
{
	guint8 bytes[32] = { 0xf3, 0x0f, 0x1e, 0xfa };
	HvpFunctionFacts facts;
	HvpSite site;

	memcpy(bytes + 4, ordinary, sizeof ordinary);
	facts = make_facts(bytes, sizeof ordinary + 4, 4);
	g_assert_true(hvp_plan_site(&facts, NULL, IMAGE, &site, NULL));
	g_assert_cmphex(site.site.value, ==, FUNCTION + 9);
}

static void test_too_short_UNSUPPORTED(void)
{
	static const guint8 bytes[] = { 0x0f, 0x1f, 0x44, 0x00, 0x00, 0x31, 0xc0, 0xc3 };

	assert_refused(bytes, sizeof bytes, 0, HVP_ERROR_UNSUPPORTED);
}

static void test_breakpoint_CONFLICT(void)
{
	guint8 bytes[sizeof ordinary];

	memcpy(bytes, ordinary, sizeof bytes);
	bytes[5] = 0xcc;
	assert_refused(bytes, sizeof bytes, 0, HVP_ERROR_CONFLICT);
}

static void test_slot_in_change_BUSY(void)
{
	guint8 bytes[sizeof ordinary];

	memcpy(bytes, ordinary, sizeof bytes);
	bytes[0] = 0xcc;
	assert_refused(bytes, sizeof bytes, 0, HVP_ERROR_BUSY);
}

static void test_jump_out_of_image_CONFLICT(void)
{
	guint8 bytes[sizeof ordinary];

	memcpy(bytes, ordinary, sizeof bytes);
	/* jmp +0x7fff0000: into the modules */
	memcpy(bytes + 5, "\xe9\x00\x00\xff\x3f", 5);
	assert_refused(bytes, sizeof bytes, 0, HVP_ERROR_CONFLICT);
}

static void test_own_tail_jump_is_fine(void)
{
	guint8 bytes[sizeof ordinary];
	HvpFunctionFacts facts;
	HvpSite site;

	memcpy(bytes, ordinary, sizeof bytes);
	memcpy(bytes + 5, "\xe9\x00\x01\x00\x00", 5);
	facts = make_facts(bytes, sizeof bytes, 0);
	g_assert_true(hvp_plan_site(&facts, NULL, IMAGE, &site, NULL));
	g_assert_cmpuint(site.length_bytes, ==, 5);
}

static void test_no_instruction_BAD_DATA(void)
{
	guint8 bytes[sizeof ordinary];

	memcpy(bytes, ordinary, sizeof bytes);
	/* invalid in 64-bit mode */
	bytes[5] = 0x06;
	assert_refused(bytes, sizeof bytes, 0, HVP_ERROR_BAD_DATA);
}

static void test_jump_round_trip(void)
{
	HvpSite site = { .site = hvp_gva(FUNCTION + 5), .length_bytes = 6 };
	HvpGva target = hvp_gva(0xffffffffc0123000ULL), decoded;

	g_assert_true(hvp_plan_jump(&site, target, NULL));
	g_assert_true(hvp_plan_decode_jump(site.site, site.new_bytes, 6, &decoded));
	g_assert_cmphex(decoded.value, ==, target.value);
	site.new_bytes[5] ^= 1;
	g_assert_false(hvp_plan_decode_jump(site.site, site.new_bytes, 6, &decoded));
}

static void test_jump_out_of_reach_UNSUPPORTED(void)
{
	HvpSite site = { .site = hvp_gva(FUNCTION), .length_bytes = 5 };
	g_autoptr(GError) error = NULL;

	g_assert_false(hvp_plan_jump(&site, hvp_gva(0xffff888000000000ULL), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
}

static void test_every_length_decodes(void)
{
	for (guint length = 5; length <= HVP_PLAN_MAX_SITE_BYTES; length++) {
		HvpSite site = { .site = hvp_gva(FUNCTION), .length_bytes = length };
		guint covered;

		g_assert_true(hvp_plan_jump(&site, hvp_gva(FUNCTION + 0x1000), NULL));
		g_assert_true(hvp_instructions_cover(site.new_bytes, length, site.site, length,
						     &covered, NULL));
		g_assert_cmpuint(covered, ==, length);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/plan/site-behind-slot", test_site_behind_slot);
	g_test_add_func("/plan/site-behind-endbr", test_site_behind_endbr);
	g_test_add_func("/plan/too-short-UNSUPPORTED", test_too_short_UNSUPPORTED);
	g_test_add_func("/plan/breakpoint-CONFLICT", test_breakpoint_CONFLICT);
	g_test_add_func("/plan/slot-in-change-BUSY", test_slot_in_change_BUSY);
	g_test_add_func("/plan/jump-out-of-image-CONFLICT", test_jump_out_of_image_CONFLICT);
	g_test_add_func("/plan/own-tail-jump-is-fine", test_own_tail_jump_is_fine);
	g_test_add_func("/plan/no-instruction-BAD_DATA", test_no_instruction_BAD_DATA);
	g_test_add_func("/plan/jump-round-trip", test_jump_round_trip);
	g_test_add_func("/plan/jump-out-of-reach-UNSUPPORTED", test_jump_out_of_reach_UNSUPPORTED);
	g_test_add_func("/plan/every-length-decodes", test_every_length_decodes);
	return g_test_run();
}
