/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/manifest.h"

#include <glib/gstdio.h>
#include <string.h>

#include "synth.h"

static HvpManifest *parse(const char *text, GError **error)
{
	return hvp_manifest_parse(text, strlen(text), "a.hvpatch.json", error);
}

static void test_read(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpManifest) manifest = parse("{\"kthreads\":\"parked=kworker/*,md?\","
						"\"standing\":[\"md_thread\",\"raid1:raid1d\"],"
						"\"cves\":[\"CVE-2026-12345\"],\"serial\":7}",
						&error);

	g_assert_no_error(error);
	g_assert_cmpint(manifest->kthreads, ==, HVP_KTHREADS_PARKED);
	g_assert_cmpstr(manifest->patterns[0], ==, "kworker/*");
	g_assert_cmpstr(manifest->patterns[1], ==, "md?");
	g_assert_null(manifest->patterns[2]);
	g_assert_cmpstr(manifest->standing[0], ==, "md_thread");
	g_assert_cmpstr(manifest->standing[1], ==, "raid1:raid1d");
	g_assert_null(manifest->standing[2]);
	g_assert_cmpstr(manifest->cves[0], ==, "CVE-2026-12345");
	g_assert_null(manifest->cves[1]);
	g_assert_cmpint(manifest->serial, ==, 7);
	g_assert_true(hvp_manifest_check(manifest, &error));
}

static void test_policies(void)
{
	static const struct {
		const char *text;
		int policy;
		bool has_sense; /* without standing functions */
	} policies[] = {
		{ "any", HVP_KTHREADS_ANY, true },
		{ "refuse", HVP_KTHREADS_REFUSE, false },
		{ "parked", HVP_KTHREADS_PARKED, false },
		{ "parked=*", HVP_KTHREADS_PARKED, true },
	};

	for (guint i = 0; i < G_N_ELEMENTS(policies); i++) {
		g_autoptr(HvpManifest) manifest = parse("{}", NULL);
		g_autoptr(HvpManifest) standing = parse("{\"standing\":[\"f\"]}", NULL);
		g_autoptr(GError) error = NULL;

		g_assert_cmpint(manifest->kthreads, ==, HVP_KTHREADS_ANY);
		g_assert_true(hvp_manifest_set_kthreads(manifest, policies[i].text, NULL));
		g_assert_true(hvp_manifest_set_kthreads(standing, policies[i].text, NULL));
		g_assert_cmpint(manifest->kthreads, ==, policies[i].policy);
		g_assert_true(hvp_manifest_check(standing, NULL));
		if (!hvp_manifest_check(manifest, &error))
			g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
		g_assert_cmpint(error == NULL, ==, policies[i].has_sense);
	}
}

static void test_replaced(void)
{
	g_autoptr(HvpManifest) manifest = parse("{\"kthreads\":\"parked=a\"}", NULL);
	g_autoptr(GError) error = NULL;

	g_assert_false(hvp_manifest_set_kthreads(manifest, "park", &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_assert_cmpstr(manifest->patterns[0], ==, "a");
	g_assert_true(hvp_manifest_set_kthreads(manifest, "any", NULL));
	g_assert_null(manifest->patterns);
}

static void test_malformed(void)
{
	static const char *const texts[] = {
		"",
		"[]",
		"{",
		"{\"kthread\":\"any\"}",
		"{\"serial\":-1}",
		"{\"serial\":\"7\"}",
		"{\"serial\":1.5}",
		"{\"kthreads\":\"any\",\"x\":1}",
		"{\"kthreads\":7}",
		"{\"kthreads\":null}",
		"{\"kthreads\":\"\"}",
		"{\"kthreads\":\"Any\"}",
		"{\"kthreads\":\"parked=\"}",
		"{\"kthreads\":\"parked=a,,b\"}",
		"{\"kthreads\":\"parked=a b\"}",
		"{\"standing\":{}}",
		"{\"standing\":[7]}",
		"{\"cves\":\"CVE-2026-12345\"}",
		"{\"cves\":[\"\"]}",
		"{\"standing\":[\"\"]}",
		"{\"standing\":[\"a b\"]}",
		"{\"standing\":[[\"a\"]]}",
		"{\"standing\":[[[[[[1]]]]]]}",
		"{\"kthreads\":\"\xc3\x28\"}",
	};

	for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_null(parse(texts[i], &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
}

static char *many(const char *before, const char *one, guint count, const char *after)
{
	GString *text = g_string_new(before);

	for (guint i = 0; i < count; i++)
		g_string_append(text, one);
	g_string_append(text, after);
	return g_string_free(text, FALSE);
}

static void test_too_much(void)
{
	char *texts[] = {
		many("{\"kthreads\":\"parked=a", ",a", HVP_MANIFEST_MAX_PATTERNS, "\"}"),
		many("{\"kthreads\":\"parked=", "a", HVP_MANIFEST_MAX_PATTERN_BYTES + 1, "\"}"),
		many("{\"standing\":[\"a\"", ",\"a\"", HVP_MANIFEST_MAX_STANDING, "]}"),
		many("{\"cves\":[\"a\"", ",\"a\"", HVP_MANIFEST_MAX_CVES, "]}"),
		many("{\"standing\":[\"", "a", HVP_MANIFEST_MAX_NAME_BYTES + 1, "\"]}"),
	};

	for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_null(parse(texts[i], &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
		g_free(texts[i]);
	}
}

/* @manifest is in it; NULL: none is. */
static HvpPatch *make_patch(const char *manifest)
{
	g_autoptr(GBytes) bytes = synth_klp_file();
	g_autoptr(GError) error = NULL;
	HvpPatch *patch = hvp_patch_open_bytes(bytes, "fix.ko", NULL, &error);

	g_assert_no_error(error);
	if (manifest != NULL)
		g_hash_table_insert(patch->modinfo, g_strdup(HVP_MANIFEST_FIELD),
				    g_strdup(manifest));
	return patch;
}

static void test_beside(void)
{
	g_autofree char *folder = g_dir_make_tmp("hvpatch-test-XXXXXX", NULL);
	g_autofree char *module = g_build_filename(folder, "fix.ko", NULL);
	g_autofree char *path = g_build_filename(folder, "fix.hvpatch.json", NULL);
	g_autoptr(HvpPatch) patch = make_patch(NULL);
	g_autoptr(HvpManifest) none = NULL, some = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree char *large = g_strnfill(HVP_MANIFEST_MAX_BYTES + 1, ' ');

	none = hvp_manifest_open(patch, module, &error);
	g_assert_no_error(error);
	g_assert_cmpint(none->kthreads, ==, HVP_KTHREADS_ANY);
	g_assert_true(none->place == NULL && !none->is_beside);
	g_assert_true(g_file_set_contents(path, "{\"kthreads\":\"parked=a\"}", -1, NULL));
	some = hvp_manifest_open(patch, module, &error);
	g_assert_no_error(error);
	g_assert_cmpstr(some->patterns[0], ==, "a");
	g_assert_true(some->is_beside);
	g_assert_true(g_file_set_contents(path, "{\"kthreads\":0}", -1, NULL));
	g_assert_null(hvp_manifest_open(patch, module, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	g_assert_nonnull(strstr(error->message, "fix.hvpatch.json"));
	g_clear_error(&error);
	g_assert_true(g_file_set_contents(path, large, -1, NULL));
	g_assert_null(hvp_manifest_open(patch, module, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_unlink(path);
	g_rmdir(folder);
}

/* What the author has signed counts, unless the operator has put another beside it. */
static void test_embedded(void)
{
	g_autofree char *folder = g_dir_make_tmp("hvpatch-test-XXXXXX", NULL);
	g_autofree char *module = g_build_filename(folder, "fix.ko", NULL);
	g_autofree char *path = g_build_filename(folder, "fix.hvpatch.json", NULL);
	g_autoptr(HvpPatch) patch = make_patch("{\"kthreads\":\"refuse\",\"standing\":[\"f\"]}");
	g_autoptr(HvpPatch) broken = make_patch("{");
	g_autoptr(HvpManifest) own = NULL, other = NULL;
	g_autoptr(GError) error = NULL;

	own = hvp_manifest_open(patch, module, &error);
	g_assert_no_error(error);
	g_assert_cmpint(own->kthreads, ==, HVP_KTHREADS_REFUSE);
	g_assert_cmpstr(own->standing[0], ==, "f");
	g_assert_false(own->is_beside);
	g_assert_null(hvp_manifest_open(broken, module, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	g_assert_nonnull(strstr(error->message, "the patch's manifest"));
	g_assert_true(g_file_set_contents(path, "{\"kthreads\":\"any\"}", -1, NULL));
	other = hvp_manifest_open(patch, module, NULL);
	g_assert_cmpint(other->kthreads, ==, HVP_KTHREADS_ANY);
	g_assert_null(other->standing[0]);
	g_unlink(path);
	g_rmdir(folder);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/manifest/sound-READ", test_read);
	g_test_add_func("/manifest/policies-READ", test_policies);
	g_test_add_func("/manifest/policy-of-operator-REPLACES", test_replaced);
	g_test_add_func("/manifest/malformed-REFUSED", test_malformed);
	g_test_add_func("/manifest/too-much-REFUSED", test_too_much);
	g_test_add_func("/manifest/beside-module-READ", test_beside);
	g_test_add_func("/manifest/in-module-READ", test_embedded);
	return g_test_run();
}
