/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/klp-patch.h"

/* A patch with one state; id 0: with none. */
static HvpKlpPatch *make_patch(guint64 id, guint32 version)
{
	HvpKlpPatch *patch = g_new0(HvpKlpPatch, 1);
	HvpKlpState state = { .id = id, .version = version };

	patch->objects = g_ptr_array_new();
	patch->states = g_array_new(FALSE, TRUE, sizeof(HvpKlpState));
	if (id != 0)
		g_array_append_val(patch->states, state);
	return patch;
}

/* As klp_is_patch_compatible() has it. */
static void test_states(void)
{
	static const struct {
		guint64 old_id;
		guint32 old_version;
		guint64 new_id;
		guint32 new_version;
		bool beside;	/* whether the new one may come and the old one stay */
		bool replacing; /* whether the new one may take its place */
	} cases[] = {
		{ 0, 0, 7, 1, true, true },  { 7, 1, 7, 1, true, true },
		{ 7, 1, 7, 2, true, true },  { 7, 2, 7, 1, false, false },
		{ 7, 1, 8, 9, true, false }, { 7, 1, 0, 0, true, false },
	};

	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(HvpKlpPatch) old = make_patch(cases[i].old_id, cases[i].old_version);
		g_autoptr(HvpKlpPatch) new = make_patch(cases[i].new_id, cases[i].new_version);

		for (guint replaces = 0; replaces < 2; replaces++) {
			bool expected = replaces ? cases[i].replacing : cases[i].beside;
			g_autoptr(GError) error = NULL;

			g_assert_cmpint(hvp_klp_patch_check_states(new, old, replaces, &error), ==,
					expected);
			if (!expected)
				g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
		}
	}
}

static void test_find_state(void)
{
	g_autoptr(HvpKlpPatch) patch = make_patch(7, 3);

	g_assert_cmpuint(hvp_klp_patch_find_state(patch, 7)->version, ==, 3);
	g_assert_null(hvp_klp_patch_find_state(patch, 8));
}

#define OBJECTS 0x1000
#define OBJECT_BYTES 0x80

/* The key of object @name where the patch has them in the order of @names. */
static guint64 key_of(const char *const *names, guint count, const char *name)
{
	HvpKlpObject objects[4] = { 0 };
	HvpKlpPatch patch = { .first_object = { OBJECTS }, .objects = g_ptr_array_new() };
	guint64 key = 0;

	for (guint i = 0; i < count; i++) {
		objects[i].name = (char *)names[i];
		g_ptr_array_add(patch.objects, &objects[i]);
	}
	hvp_klp_patch_set_keys(&patch, OBJECT_BYTES);
	for (guint i = 0; i < count; i++)
		if (g_strcmp0(names[i], name) == 0)
			key = objects[i].key.value;
	g_ptr_array_unref(patch.objects);
	return key;
}

/* The same before and after vmlinux's object was moved to the front, and no two alike. */
static void test_keys(void)
{
	static const char *const names[] = { "a", "b", NULL, "c" };
	static const char *const moved[] = { NULL, "a", "b", "c" };

	for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
		guint64 key = key_of(names, G_N_ELEMENTS(names), names[i]);

		g_assert_cmphex(key, ==, key_of(moved, G_N_ELEMENTS(moved), names[i]));
		for (guint j = 0; j < i; j++)
			g_assert_cmphex(key, !=, key_of(names, G_N_ELEMENTS(names), names[j]));
	}
	/* Without one of vmlinux none moves. */
	g_assert_cmphex(key_of(names, 2, "b"), ==, OBJECTS + OBJECT_BYTES);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/klp-patch/states-AS-THE-CORE-HAS-IT", test_states);
	g_test_add_func("/klp-patch/find-state", test_find_state);
	g_test_add_func("/klp-patch/keys-SAME-once-moved", test_keys);
	return g_test_run();
}
