/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Livepatch modules that kpatch-build made of real fixes, against what their
 * README says of them. HVPATCH_CORPUS is the folder that holds them.
 */
#include <string.h>

#include "base/error.h"
#include "patch/patch.h"

typedef struct {
	const char *name;
	/* "OBJECT:FUNCTION ..." in the order of the file. */
	const char *functions;
	guint relocations;
	guint symbols;
	/* "F.cold", or "". */
	const char *cold;
	/* pre_patch, post_patch, pre_unpatch, post_unpatch of the first object. */
	const char *callbacks;
	/* Sections that the README lists, separated by spaces. */
	const char *sections;
} Expected;

static const Expected corpus[] = {
	{ "timens-offset-range", "vmlinux:proc_timens_set_offset ", 5, 2, "", "----",
	  ".smp_locks" },
	{ "prctl-auxv-copy", "vmlinux:prctl_set_auxv ", 0, 0, "", "----", "" },
	{ "vfs-pipe-mount",
	  "vmlinux:pipe_fasync vmlinux:__x64_sys_fspick vmlinux:__ia32_sys_fspick vmlinux:__d_move "
	  "vmlinux:d_set_mounted ",
	  7, 5, "", "----", "__bug_table .smp_locks" },
	{ "mm-anon-vma", "vmlinux:__anon_vma_prepare vmlinux:migrate_to_node ", 13, 11, "", "----",
	  ".static_call_sites .smp_locks" },
	{ "cpuhp-rollback", "vmlinux:cpuhp_invoke_callback ", 38, 12, "", "----",
	  "__bug_table __jump_table .static_call_sites .retpoline_sites" },
	{ "fork-dup-mmap", "vmlinux:dup_mmap ", 32, 28, "dup_mmap.cold", "----",
	  ".altinstructions .altinstr_aux .parainstructions __jump_table .smp_locks "
	  ".retpoline_sites" },
	{ "fcntl-thaw", "vmlinux:do_fcntl vmlinux:do_thaw_all_callback ", 14, 13, "", "----",
	  "__bug_table .smp_locks .retpoline_sites" },
	{ "loop-block-size", "loop:lo_ioctl ", 19, 10, "", "----", "" },
	{ "tun-headroom", "tun:tun_set_headroom tun:tun_get_user ", 3, 3, "", "----",
	  "__bug_table __jump_table .static_call_sites .smp_locks .retpoline_sites" },
	{ "nf-irc-u32", "nf_conntrack_irc:help xt_u32:u32_mt_checkentry ", 14, 10, "help.cold",
	  "----", "__jump_table .retpoline_sites" },
	{ "timens-callbacks", "vmlinux:proc_timens_set_offset ", 5, 2, "", "xx-x", ".smp_locks" },
	{ "cumulative-net",
	  "vmlinux:ip6_mc_input vmlinux:ipv6_find_hdr vmlinux:ipv6_flowlabel_opt "
	  "vmlinux:rcu_cleanup_netpoll_info vmlinux:__netpoll_cleanup vmlinux:skb_tx_error "
	  "vmlinux:skb_zerocopy vmlinux:skb_complete_tx_timestamp vmlinux:__skb_tstamp_tx "
	  "vmlinux:arp_ioctl vmlinux:__inet_lookup_established ",
	  43, 21, "arp_ioctl.cold", "----",
	  "__bug_table __jump_table .smp_locks .retpoline_sites" },
};

static char *corpus_path(const char *name)
{
	const char *folder = g_getenv("HVPATCH_CORPUS");
	g_autofree char *file = g_strdup_printf("livepatch-%s.ko", name);
	g_autofree char *path = NULL;

	if (folder == NULL || *folder == '\0')
		return NULL;
	path = g_build_filename(folder, file, NULL);
	return g_file_test(path, G_FILE_TEST_IS_REGULAR) ? g_steal_pointer(&path) : NULL;
}

static char *all_functions(const HvpPatch *patch)
{
	GString *text = g_string_new(NULL);

	for (guint i = 0; i < patch->object_count; i++) {
		const HvpPatchObject *object = &patch->objects[i];

		for (guint k = 0; k < object->function_count; k++)
			g_string_append_printf(text, "%s:%s ",
					       object->name == NULL ? "vmlinux" : object->name,
					       object->functions[k].name);
	}
	return g_string_free(text, FALSE);
}

static guint all_relocations(const HvpPatch *patch)
{
	guint count = 0;

	for (guint i = 0; i < patch->klp_relocations_count; i++)
		count += patch->klp_relocations[i].count;
	return count;
}

static bool has_section(const HvpPatch *patch, const char *name)
{
	for (guint i = 0; i < patch->special_section_count; i++) {
		if (strcmp(patch->special_sections[i].name, name) == 0)
			return true;
	}
	return false;
}

static void check_sections(const HvpPatch *patch, const char *sections)
{
	g_auto(GStrv) names = g_strsplit(sections, " ", -1);

	for (char **name = names; *name != NULL; name++)
		g_assert_true(has_section(patch, *name));
	g_assert_true(has_section(patch, ".return_sites"));
	g_assert_true(has_section(patch, ".orc_unwind"));
	g_assert_true(has_section(patch, ".orc_unwind_ip"));
	g_assert_true(has_section(patch, "__mcount_loc"));
	g_assert_false(has_section(patch, "__ex_table"));
}

static void check_callbacks(const HvpPatchObject *object, const char *expected)
{
	g_assert_cmpint(object->pre_patch, ==, expected[0] == 'x');
	g_assert_cmpint(object->post_patch, ==, expected[1] == 'x');
	g_assert_cmpint(object->pre_unpatch, ==, expected[2] == 'x');
	g_assert_cmpint(object->post_unpatch, ==, expected[3] == 'x');
}

static void check_cold(const HvpPatch *patch, const char *expected)
{
	g_autoptr(GPtrArray) cold = hvp_patch_cold_references(patch);

	g_assert_cmpuint(cold->len, ==, *expected == '\0' ? 0 : 1);
	if (cold->len != 0)
		g_assert_cmpstr(((const HvpPatchKlpSymbol *)cold->pdata[0])->name, ==, expected);
}

static void check_common(const HvpPatch *patch, const Expected *expected)
{
	g_autofree char *name = g_strdup_printf("livepatch_%s", expected->name);

	g_strdelimit(name, "-", '_');
	g_assert_cmpstr(patch->name, ==, name);
	g_assert_cmpint(patch->format, ==, HVP_PATCH_FORMAT_KPATCH);
	g_assert_cmpstr(patch->vermagic, ==,
			"6.1.0-50-cloud-amd64 SMP preempt mod_unload modversions ");
	g_assert_cmpstr(patch->depends, ==, "");
	g_assert_cmpstr(patch->license, ==, "GPL");
	g_assert_cmpint(patch->replace, ==, HVP_PATCH_UNKNOWN);
	g_assert_false(patch->is_signed);
	g_assert_true(patch->has_init);
	g_assert_true(patch->has_exit);
	g_assert_true(hvp_patch_needs_symbol(patch, "klp_enable_patch"));
	g_assert_true(hvp_patch_needs_symbol(patch, "__fentry__"));
	g_assert_false(hvp_patch_needs_symbol(patch, "help.cold"));
}

static void test_module(gconstpointer data)
{
	const Expected *expected = data;
	g_autofree char *path = corpus_path(expected->name);
	g_autofree char *functions = NULL;
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpPatch) patch = NULL;

	if (path == NULL) {
		g_test_skip("no module corpus");
		return;
	}
	patch = hvp_patch_open(path, &error);
	g_assert_no_error(error);
	check_common(patch, expected);
	functions = all_functions(patch);
	g_assert_cmpstr(functions, ==, expected->functions);
	g_assert_cmpuint(all_relocations(patch), ==, expected->relocations);
	g_assert_cmpuint(patch->klp_symbol_count, ==, expected->symbols);
	check_cold(patch, expected->cold);
	check_callbacks(&patch->objects[0], expected->callbacks);
	check_sections(patch, expected->sections);
}

/* A real file, cut at every 64 bytes: an error each time. */
static void test_truncated(gconstpointer data)
{
	const Expected *expected = data;
	g_autofree char *path = corpus_path(expected->name);
	g_autofree char *contents = NULL;
	gsize size_bytes;

	if (path == NULL) {
		g_test_skip("no module corpus");
		return;
	}
	g_assert_true(g_file_get_contents(path, &contents, &size_bytes, NULL));
	for (gsize cut = 0; cut < size_bytes; cut += 64) {
		g_autoptr(GBytes) bytes = g_bytes_new(contents, cut);
		g_autoptr(GError) error = NULL;
		HvpPatch *patch = hvp_patch_open_bytes(bytes, "cut.ko", NULL, &error);

		g_assert_null(patch);
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (guint i = 0; i < G_N_ELEMENTS(corpus); i++) {
		g_autofree char *read = g_strdup_printf("/corpus/%s-READ", corpus[i].name);
		g_autofree char *cut =
			g_strdup_printf("/corpus/%s-truncated-REFUSED", corpus[i].name);

		g_test_add_data_func(read, &corpus[i], test_module);
		g_test_add_data_func(cut, &corpus[i], test_truncated);
	}
	return g_test_run();
}
