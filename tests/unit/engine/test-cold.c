/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a new function may use of the old kernel's cold part, in a made-up guest. */
#include "../guest/synthetic-guest.h"
#include "engine/cold.h"

#include <string.h>

#define PARENT "deep"
#define COLD "deep.cold"
#define INT3 0xccU

typedef struct {
	const char *name;
	const char *code;
	gsize code_bytes;
	const char *refusal; /* NULL: a warning */
} Case;

#define CODE(bytes) bytes, sizeof bytes - 1

static const Case cases[] = {
	{ "bug-WARNS", CODE("\x48\x89\xdf\x0f\x0b"), NULL },
	/* call +0; ud2 */
	{ "call-that-never-returns-WARNS", CODE("\xe8\x00\x00\x00\x00\x0f\x0b"), NULL },
	/* jz +2; ud2; jmp -4 */
	{ "loop-within-WARNS", CODE("\x74\x02\x0f\x0b\xeb\xfa"), NULL },
	/* pop rbx; ret */
	{ "returns-REFUSED", CODE("\x5b\xc3"), "returns by itself" },
	/* jmp rax */
	{ "jumps-indirectly-REFUSED", CODE("\xff\xe0"), "returns by itself" },
	/* jmp +0x1000, as to __x86_return_thunk */
	{ "jumps-elsewhere-REFUSED", CODE("\xe9\x00\x10\x00\x00"), "leads out of it" },
	/* jz +0x1000 */
	{ "branches-elsewhere-REFUSED", CODE("\x0f\x84\x00\x10\x00\x00\x0f\x0b"),
	  "leads out of it" },
	/* a WARN: ud2, and on */
	{ "warns-and-returns-REFUSED", CODE("\x0f\x0b\xc3"), "returns by itself" },
};

/* jmp PARENT + 16, where the cold part begins. */
static void put_jump_back(SyntheticGuest *guest, guint8 *code)
{
	guint64 from = synthetic_guest_symbol(guest, COLD).value + 5;
	guint64 target = synthetic_guest_symbol(guest, PARENT).value + 16;
	gint32 offset = (gint32)(target - from);

	code[0] = 0xe9;
	memcpy(code + 1, &offset, sizeof offset);
}

static void assert_checked(HvpKernel *kernel, const char *refusal)
{
	static const HvpPatchFunction function = { .name = PARENT };
	static const HvpPatchObject object = { .functions = &function, .function_count = 1 };
	static const HvpPatchKlpSymbol symbol = { .name = COLD, .sympos = 1 };
	const HvpPatch patch = {
		.objects = &object, .object_count = 1, .klp_symbols = &symbol, .klp_symbol_count = 1
	};
	g_autoptr(GError) error = NULL;
	g_autofree char *warning = NULL;

	if (refusal == NULL) {
		g_assert_true(hvp_cold_check(kernel, NULL, &patch, &warning, &error));
		g_assert_no_error(error);
		g_assert_nonnull(strstr(warning, COLD));
		return;
	}
	g_assert_false(hvp_cold_check(kernel, NULL, &patch, &warning, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
	g_assert_nonnull(strstr(error->message, COLD));
	g_assert_nonnull(strstr(error->message, refusal));
	g_assert_null(warning);
}

static guint8 *empty_part(SyntheticGuest *guest)
{
	guint8 *code = synthetic_guest_bytes(guest, synthetic_guest_symbol(guest, COLD),
					     SYNTHETIC_FUNCTION_BYTES);

	return memset(code, INT3, SYNTHETIC_FUNCTION_BYTES);
}

static void test_case(gconstpointer data)
{
	const Case *test = data;
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = NULL;

	memcpy(empty_part(guest), test->code, test->code_bytes);
	kernel = synthetic_guest_attach(guest);
	assert_checked(kernel, test->refusal);
}

static void test_jumps_back(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = NULL;

	put_jump_back(guest, empty_part(guest));
	kernel = synthetic_guest_attach(guest);
	assert_checked(kernel, "leads back into the old function");
}

/* A NOP that the kernel may make a jump of. */
static void test_jump_label(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = NULL;
	HvpGva entry = synthetic_guest_symbol(guest, "__start___jump_table");
	guint64 label = synthetic_guest_symbol(guest, COLD).value + 2;
	gint32 offset = (gint32)(label - entry.value);

	memcpy(empty_part(guest), "\x0f\x0b\x0f\x1f\x44\x00\x00\x0f\x0b", 9);
	memcpy(synthetic_guest_bytes(guest, entry, sizeof offset), &offset, sizeof offset);
	kernel = synthetic_guest_attach(guest);
	assert_checked(kernel, "a jump label");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *path = g_strconcat("/cold/", cases[i].name, NULL);

		g_test_add_data_func(path, &cases[i], test_case);
	}
	g_test_add_func("/cold/jumps-back-REFUSED", test_jumps_back);
	g_test_add_func("/cold/jump-label-REFUSED", test_jump_label);
	return g_test_run();
}
