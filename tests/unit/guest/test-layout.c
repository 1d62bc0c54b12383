/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "base/bytes.h"
#include "btf-maker.h"

static bool resolve(GBytes *blob, HvpLayout *ret_layout, GError **error)
{
	g_autoptr(HvpBtf) btf = hvp_btf_new(blob, error);

	return btf != NULL && hvp_layout_resolve(btf, ret_layout, error);
}

static void test_both(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		g_autoptr(GBytes) blob = btf_maker_kernel(generation, NULL);
		g_autoptr(GError) error = NULL;
		HvpLayout layout;

		g_assert_true(resolve(blob, &layout, &error));
		g_assert_cmpuint(hvp_layout_get(&layout, HVP_AT_REGS_IP), ==, 128);
		g_assert_cmpuint(hvp_layout_get(&layout, HVP_AT_REGS_SIZE), ==, 168);
		g_assert_cmpuint(layout.items[HVP_AT_ORC_BP_REG].value, ==, 4);
		g_assert_cmpuint(layout.items[HVP_AT_ORC_BP_REG].bit, ==, 4);
		g_assert_cmpuint(layout.items[HVP_AT_ORC_BP_REG].bits, ==, 4);
		g_assert_cmpuint(layout.items[HVP_AT_TASK_COMM].count, ==, 16);
		g_assert_cmpuint(hvp_layout_get(&layout, HVP_AT_SYSTEM_RUNNING), ==, 2);
		g_assert_cmpint(hvp_layout_has(&layout, HVP_AT_ORC_END), ==,
				generation == GENERATION_6_1);
		g_assert_cmpint(hvp_layout_has(&layout, HVP_AT_MODULE_MEM), ==,
				generation == GENERATION_6_12);
		g_assert_cmpint(hvp_layout_has(&layout, HVP_AT_HOT_CURRENT), ==,
				generation == GENERATION_6_12);
	}
}

static void assert_missing(const char *item, bool required)
{
	g_autoptr(GBytes) blob = btf_maker_kernel(GENERATION_6_12, item);
	g_autoptr(GError) error = NULL;
	const char *member = strrchr(item, '.');
	HvpLayout layout;

	g_assert_cmpint(resolve(blob, &layout, &error), ==, !required);
	if (!required)
		return;
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
	if (strstr(error->message, member ? member + 1 : item) == NULL)
		g_error("\"%s\" does not name %s", error->message, item);
}

static void test_each_missing(void)
{
#define X(id, container, path, required) assert_missing(container "." path, required);
	HVP_LAYOUT_MEMBERS(X)
#undef X
#define X(id, name, required) assert_missing(name, required);
	HVP_LAYOUT_ENUMERATORS(X)
#undef X
	assert_missing("task_struct", true);
	assert_missing("pt_regs", true);
	assert_missing("module", false);
}

static void test_require(void)
{
	g_autoptr(GBytes) blob = btf_maker_kernel(GENERATION_6_1, "dyn_ftrace");
	g_autoptr(GError) error = NULL;
	HvpLayout layout;

	g_assert_true(resolve(blob, &layout, &error));
	g_assert_true(hvp_layout_require(&layout, HVP_AT_TASK_PID, &error));
	g_assert_false(hvp_layout_require(&layout, HVP_AT_FTRACE_IP, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
	g_assert_nonnull(strstr(error->message, "dyn_ftrace.ip"));
	g_clear_error(&error);
	g_assert_false(hvp_layout_require(&layout, HVP_AT_FTRACE_SIZE, &error));
	g_assert_nonnull(strstr(error->message, "dyn_ftrace"));
	g_clear_error(&error);
	g_assert_false(hvp_layout_require(&layout, HVP_AT_MOD_TEXT, &error));
	g_assert_nonnull(strstr(error->message, "MOD_TEXT"));
	g_assert_cmpuint(hvp_layout_version(), ==, hvp_layout_version());
}

/* Whether the word at @at, which holds the offset of a struct's name, is one by its kind, too. */
static bool names_struct(const guint8 *data, gsize at)
{
	return (hvp_load_u32(data + at + 4) >> 24 & 0x1f) == BTF_STRUCT;
}

/* Where a word of the types holds the offset of the string @name, a struct or a value. */
static gsize find_named(const guint8 *data, const char *name)
{
	bool is_value = g_ascii_isupper(name[0]);
	gsize types_bytes = hvp_load_u32(data + 12), strings_bytes = hvp_load_u32(data + 20);
	const guint8 *strings = data + 24 + types_bytes;
	const guint8 *found = memmem(strings, strings_bytes, name, strlen(name) + 1);

	g_assert_nonnull(found);
	for (gsize at = 24; at < 24 + types_bytes; at += 4)
		if (hvp_load_u32(data + at) == (guint32)(found - strings) &&
		    (is_value || names_struct(data, at)))
			return at;
	g_assert_not_reached();
}

static void assert_value_refused(const char *name, guint at, guint64 value, guint bytes)
{
	g_autoptr(GBytes) kernel = btf_maker_kernel(GENERATION_6_1, NULL);
	g_autofree guint8 *data = g_memdup2(g_bytes_get_data(kernel, NULL),
					    g_bytes_get_size(kernel));
	g_autoptr(GBytes) blob = NULL;
	g_autoptr(GError) error = NULL;
	HvpLayout layout;

	value = GUINT64_TO_LE(value);
	memcpy(data + find_named(data, name) + at, &value, bytes);
	blob = g_bytes_new(data, g_bytes_get_size(kernel));
	g_assert_false(resolve(blob, &layout, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	g_assert_nonnull(strstr(error->message, name));
}

/* A size or value that is our own mark for absent would be taken for missing later. */
static void test_absent_values(void)
{
	assert_value_refused("pt_regs", 8, G_MAXUINT32, 4);
	assert_value_refused("dyn_ftrace", 8, G_MAXUINT32, 4);
	assert_value_refused("orc_entry", 8, 1U << 31, 4);
	assert_value_refused("task_struct", 8, 16U << 20, 4);
	assert_value_refused("SYSTEM_RUNNING", 4, G_MAXUINT64, 8);
	assert_value_refused("SYSTEM_RUNNING", 4, G_MAXUINT32, 8);
	assert_value_refused("MODULE_STATE_LIVE", 4, 1ULL << 40, 8);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/layout/both-generations-RESOLVE", test_both);
	g_test_add_func("/layout/each-required-item-missing-UNSUPPORTED-named", test_each_missing);
	g_test_add_func("/layout/require-absent-UNSUPPORTED-named", test_require);
	g_test_add_func("/layout/impossible-sizes-and-values-BAD_DATA", test_absent_values);
	return g_test_run();
}
