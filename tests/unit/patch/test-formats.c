/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The three livepatch formats, on modules made up here. */
#include <elf.h>
#include <string.h>

#include "base/error.h"
#include "patch/patch.h"
#include "synth.h"

#define SHN_LIVEPATCH 0xff20U

static HvpPatch *open_bytes(GBytes *bytes)
{
	g_autoptr(GError) error = NULL;
	HvpPatch *patch = hvp_patch_open_bytes(bytes, "synth.ko", NULL, &error);

	g_assert_no_error(error);
	g_assert_nonnull(patch);
	return patch;
}

static HvpPatch *open_synth(Synth *synth)
{
	g_autoptr(GBytes) bytes = synth_finish(synth);

	return open_bytes(bytes);
}

static void assert_refused(Synth *synth, HvpErrorCode code, const char *word)
{
	g_autoptr(GBytes) bytes = synth_finish(synth);
	g_autoptr(GError) error = NULL;
	HvpPatch *patch = hvp_patch_open_bytes(bytes, "synth.ko", NULL, &error);

	g_assert_null(patch);
	g_assert_error(error, HVP_ERROR, (int)code);
	g_assert_true(g_str_has_prefix(error->message, "synth.ko: "));
	if (strstr(error->message, word) == NULL)
		g_error("\"%s\" does not say \"%s\"", error->message, word);
}

static void assert_function(const HvpPatchFunction *function, const char *name, guint64 sympos,
			    guint64 new_size_bytes, const char *new_symbol)
{
	g_assert_cmpstr(function->name, ==, name);
	g_assert_cmpuint(function->sympos, ==, sympos);
	g_assert_cmpuint(function->new_size_bytes, ==, new_size_bytes);
	g_assert_cmpstr(function->new_symbol, ==, new_symbol);
}

static void assert_callbacks(const HvpPatchObject *object, const char *expected)
{
	char actual[5] = { object->pre_patch ? 'x' : '-', object->post_patch ? 'x' : '-',
			   object->pre_unpatch ? 'x' : '-', object->post_unpatch ? 'x' : '-', 0 };

	g_assert_cmpstr(actual, ==, expected);
}

static void assert_common(const HvpPatch *patch)
{
	g_assert_cmpstr(patch->name, ==, "synth");
	g_assert_cmpstr(patch->vermagic, ==, "6.1.0 SMP preempt mod_unload modversions ");
	g_assert_cmpstr(patch->depends, ==, "");
	g_assert_cmpstr(patch->description, ==, "made by a test");
	g_assert_cmpstr(patch->license, ==, "GPL");
	g_assert_cmpstr(patch->srcversion, ==, "0123");
	g_assert_cmpstr(hvp_patch_modinfo(patch, "livepatch"), ==, "Y");
	g_assert_null(hvp_patch_modinfo(patch, "author"));
	g_assert_true(patch->has_init);
	g_assert_true(patch->has_exit);
	g_assert_true(patch->objects_known);
	g_assert_true(hvp_patch_needs_symbol(patch, "klp_enable_patch"));
	g_assert_cmpuint(patch->undefined_count, ==, 1);
	g_assert_cmpuint(patch->klp_symbol_count, ==, 1);
	g_assert_null(patch->klp_symbols[0].object);
	g_assert_cmpstr(patch->klp_symbols[0].name, ==, "offset_lock");
	g_assert_cmpuint(patch->klp_symbols[0].sympos, ==, 1);
	g_assert_cmpuint(patch->klp_relocations_count, ==, 1);
	g_assert_null(patch->klp_relocations[0].object);
	g_assert_cmpuint(patch->klp_relocations[0].count, ==, 1);
}

static void test_klp(void)
{
	g_autoptr(GBytes) bytes = synth_klp_file();
	g_autoptr(HvpPatch) patch = open_bytes(bytes);

	assert_common(patch);
	g_assert_cmpint(patch->format, ==, HVP_PATCH_FORMAT_KLP);
	g_assert_cmpint(patch->replace, ==, HVP_PATCH_YES);
	g_assert_cmpuint(patch->object_count, ==, 2);
	g_assert_cmpuint(patch->function_count, ==, 3);
	g_assert_null(patch->objects[0].name);
	g_assert_cmpuint(patch->objects[0].function_count, ==, 2);
	assert_function(&patch->objects[0].functions[0], "cmdline_proc_show", 0, 48,
			"new_cmdline_proc_show");
	assert_function(&patch->objects[0].functions[1], "sysinfo", 2, 32, "new_sysinfo");
	assert_callbacks(&patch->objects[0], "x--x");
	g_assert_cmpstr(patch->objects[1].name, ==, "loop");
	assert_function(&patch->objects[1].functions[0], "lo_ioctl", 0, 64, "new_lo_ioctl");
	assert_callbacks(&patch->objects[1], "----");
	g_assert_true(patch->states_known);
	g_assert_cmpuint(patch->state_count, ==, 1);
	g_assert_cmpuint(patch->states[0].id, ==, 7);
	g_assert_cmpuint(patch->states[0].version, ==, 3);
	g_assert_cmpstr(patch->klp_relocations[0].section, ==, ".text.new_lo_ioctl");
}

static void test_klp_build(gconstpointer data)
{
	const char *const *sections = data;
	g_autoptr(Synth) synth = synth_klp_build(sections[0], sections[1]);
	g_autoptr(HvpPatch) patch = open_synth(synth);

	assert_common(patch);
	g_assert_cmpint(patch->format, ==, HVP_PATCH_FORMAT_KLP_BUILD);
	g_assert_cmpint(patch->replace, ==, HVP_PATCH_UNKNOWN);
	g_assert_false(patch->states_known);
	g_assert_cmpuint(patch->object_count, ==, 2);
	g_assert_null(patch->objects[0].name);
	assert_function(&patch->objects[0].functions[0], "cmdline_proc_show", 0, 48,
			"cmdline_proc_show");
	assert_callbacks(&patch->objects[0], "-x--");
	g_assert_cmpstr(patch->objects[1].name, ==, "loop");
	assert_function(&patch->objects[1].functions[0], "lo_ioctl", 1, 64, "lo_ioctl");
}

static void test_kpatch(void)
{
	g_autoptr(GBytes) bytes = synth_kpatch_file();
	g_autoptr(HvpPatch) patch = open_bytes(bytes);

	assert_common(patch);
	g_assert_cmpint(patch->format, ==, HVP_PATCH_FORMAT_KPATCH);
	g_assert_cmpint(patch->replace, ==, HVP_PATCH_UNKNOWN);
	g_assert_cmpuint(patch->object_count, ==, 2);
	g_assert_null(patch->objects[0].name);
	assert_function(&patch->objects[0].functions[0], "cmdline_proc_show", 0, 48,
			"cmdline_proc_show");
	assert_callbacks(&patch->objects[0], "----");
	assert_function(&patch->objects[1].functions[0], "lo_ioctl", 1, 64, "lo_ioctl");
	assert_callbacks(&patch->objects[1], "--x-");
}

static void test_names_of_formats(void)
{
	g_assert_cmpstr(hvp_patch_format_name(HVP_PATCH_FORMAT_KPATCH), ==, "kpatch");
	g_assert_cmpstr(hvp_patch_format_name(HVP_PATCH_FORMAT_KLP_BUILD), ==, "klp-build");
	g_assert_cmpstr(hvp_patch_format_name(HVP_PATCH_FORMAT_KLP), ==, "klp");
}

/* With another size of klp_func the second function is not where it was. */
static void test_other_layout(void)
{
	g_autoptr(GBytes) bytes = synth_klp_file();
	HvpPatchLayout layout = *hvp_patch_layout_default();
	g_autoptr(GError) error = NULL;
	HvpPatch *patch;

	layout.func_size_bytes = 160;
	patch = hvp_patch_open_bytes(bytes, "synth.ko", &layout, &error);
	g_assert_null(patch);
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
}

static void test_absurd_layout(void)
{
	g_autoptr(GBytes) bytes = synth_klp_file();
	HvpPatchLayout layout = *hvp_patch_layout_default();
	g_autoptr(GError) error = NULL;
	HvpPatch *patch;

	layout.object_size_bytes = 0;
	patch = hvp_patch_open_bytes(bytes, "synth.ko", &layout, &error);
	g_assert_null(patch);
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
}

static guint add_patch_struct(Synth *synth, guint this_module)
{
	guint data = synth_section(synth, ".data.second", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, NULL,
				   200 + 2 * 168);
	guint start = synth_symbol(synth, "second", data, 0, 200, STT_OBJECT);

	synth_pointer(synth, data, 0, this_module, 0);
	synth_pointer(synth, data, 8, start, 200);
	synth_string(synth, data, 200, "tun");
	return data;
}

static void test_two_patches(void)
{
	g_autoptr(Synth) synth = synth_klp();
	/* The section of struct module comes after data and the callback. */
	guint module = synth_symbol(synth, "again", 6, 0, 0, STT_OBJECT);

	add_patch_struct(synth, module);
	assert_refused(synth, HVP_ERROR_AMBIGUOUS, "more than one struct klp_patch");
}

/* struct file_operations, too, begins with its module. */
static void test_owner_is_no_patch(void)
{
	g_autoptr(Synth) synth = synth_klp();
	g_autoptr(HvpPatch) patch = NULL;
	guint module = synth_symbol(synth, "again", 6, 0, 0, STT_OBJECT);
	guint llseek = synth_function(synth, "llseek", 16);
	guint data =
		synth_section(synth, ".data.fops", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, NULL, 264);

	synth_pointer(synth, data, 0, module, 0);
	synth_pointer(synth, data, 8, llseek, 0);
	patch = open_synth(synth);
	g_assert_cmpuint(patch->function_count, ==, 3);
}

static void test_no_patch_struct(void)
{
	g_autoptr(Synth) synth = synth_new();
	g_autoptr(HvpPatch) patch = NULL;

	synth_livepatch_module(synth);
	patch = open_synth(synth);
	g_assert_cmpint(patch->format, ==, HVP_PATCH_FORMAT_KLP);
	g_assert_false(patch->objects_known);
	g_assert_false(patch->states_known);
	g_assert_cmpint(patch->replace, ==, HVP_PATCH_UNKNOWN);
	g_assert_cmpuint(patch->object_count, ==, 0);
}

/* Nothing to index: no relocation and no function in the whole file. */
static void test_no_pointers(void)
{
	static const char modinfo[] = "livepatch=Y\0vermagic=6.1";
	g_autoptr(Synth) synth = synth_new();
	g_autoptr(HvpPatch) patch = NULL;
	guint module = synth_section(synth, ".gnu.linkonce.this_module", SHT_PROGBITS,
				     SHF_ALLOC | SHF_WRITE, NULL, 896);

	synth_bytes(synth, module)[24] = 'm';
	synth_section(synth, ".modinfo", SHT_PROGBITS, SHF_ALLOC, modinfo, sizeof modinfo);
	patch = open_synth(synth);
	g_assert_cmpstr(patch->name, ==, "m");
	g_assert_false(patch->has_init);
	g_assert_false(patch->has_exit);
	g_assert_false(patch->objects_known);
}

static void test_objects_without_end(void)
{
	g_autoptr(Synth) synth = synth_new();
	guint data =
		synth_section(synth, ".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, NULL, 200 + 168);
	guint start = synth_symbol(synth, "patch", data, 0, 200, STT_OBJECT);
	guint module;

	synth_livepatch_module(synth);
	module = synth_symbol(synth, "again", 5, 0, 0, STT_OBJECT);
	synth_pointer(synth, data, 0, module, 0);
	synth_pointer(synth, data, 8, start, 200);
	synth_string(synth, data, 200, "tun");
	assert_refused(synth, HVP_ERROR_BAD_DATA, "no end");
}

static void test_function_twice(void)
{
	g_autoptr(Synth) synth = synth_new();
	guint funcs = synth_section(synth, ".kpatch.funcs", SHT_PROGBITS, SHF_ALLOC, NULL, 112);
	guint function = synth_function(synth, "f", 16);

	synth_livepatch_module(synth);
	for (guint i = 0; i < 2; i++) {
		synth_pointer(synth, funcs, i * 56U, function, 0);
		synth_string(synth, funcs, i * 56U + 40, "f");
		synth_string(synth, funcs, i * 56U + 48, "vmlinux");
	}
	assert_refused(synth, HVP_ERROR_BAD_DATA, "f of vmlinux is replaced twice");
}

static void test_kpatch_size(void)
{
	g_autoptr(Synth) synth = synth_kpatch();

	/* The first section that the synth makes after its own three is .kpatch.funcs. */
	synth_bytes(synth, 4)[8] = 49;
	assert_refused(synth, HVP_ERROR_BAD_DATA, "pass the end of its section");
}

static void test_kpatch_odd_table(void)
{
	g_autoptr(Synth) synth = synth_new();

	synth_livepatch_module(synth);
	synth_section(synth, ".kpatch.funcs", SHT_PROGBITS, SHF_ALLOC, NULL, 57);
	assert_refused(synth, HVP_ERROR_BAD_DATA, "no multiple of 56");
}

static void test_klp_build_count(void)
{
	g_autoptr(Synth) synth = synth_klp_build("__klp_objects", "__klp_funcs");

	memset(synth_bytes(synth, 4) + 56, 0xff, 4);
	assert_refused(synth, HVP_ERROR_BAD_DATA, "pass the end of their table");
}

/* One function more than the table has. */
static void test_klp_build_one_more(void)
{
	g_autoptr(Synth) synth = synth_klp_build("__klp_objects", "__klp_funcs");

	synth_bytes(synth, 4)[64 + 56] = 2;
	assert_refused(synth, HVP_ERROR_BAD_DATA, "2 functions pass the end");
}

static void test_two_pointers(void)
{
	g_autoptr(Synth) synth = synth_kpatch();

	synth_pointer(synth, 4, 0, 1, 0);
	assert_refused(synth, HVP_ERROR_BAD_DATA, "two relocations");
}

static void add_cold_symbols(Synth *synth)
{
	static const char *const names[] = {
		".klp.sym.vmlinux.cmdline_proc_show.cold,1",   /* found */
		".klp.sym.vmlinux.cmdline_proc_show.cold.7,1", /* found */
		".klp.sym.loop.lo_ioctl.cold,0",	       /* found */
		".klp.sym.vmlinux.lo_ioctl.cold,0",	       /* of another object */
		".klp.sym.vmlinux.other.cold,0",	       /* not replaced */
		".klp.sym.vmlinux.cmdline_proc_show.colder,0", /* another suffix */
		".klp.sym.vmlinux.cmdline_proc_show.cold.x,0", /* no number */
		".klp.sym.vmlinux.cmdline_proc_show,0",	       /* the function itself */
		".klp.sym.vmlinux.cmdline_proc_show.cold.,0",  /* no number either */
	};

	for (guint i = 0; i < G_N_ELEMENTS(names); i++)
		synth_symbol(synth, names[i], SHN_LIVEPATCH, 0, 0, STT_FUNC);
}

static void test_cold(void)
{
	g_autoptr(Synth) synth = synth_kpatch();
	g_autoptr(HvpPatch) patch = NULL;
	g_autoptr(GPtrArray) cold = NULL;

	add_cold_symbols(synth);
	patch = open_synth(synth);
	cold = hvp_patch_cold_references(patch);
	g_assert_cmpuint(cold->len, ==, 3);
	g_assert_cmpstr(((const HvpPatchKlpSymbol *)cold->pdata[0])->name, ==,
			"cmdline_proc_show.cold");
	g_assert_cmpstr(((const HvpPatchKlpSymbol *)cold->pdata[1])->name, ==,
			"cmdline_proc_show.cold.7");
	g_assert_cmpstr(((const HvpPatchKlpSymbol *)cold->pdata[2])->object, ==, "loop");
}

static void test_bad_klp_symbols(gconstpointer data)
{
	g_autoptr(Synth) synth = synth_kpatch();

	synth_symbol(synth, data, SHN_LIVEPATCH, 0, 0, STT_FUNC);
	assert_refused(synth, HVP_ERROR_BAD_DATA, "not a livepatch symbol");
}

static void test_undefined_klp_symbol(void)
{
	g_autoptr(Synth) synth = synth_kpatch();

	synth_symbol(synth, ".klp.sym.vmlinux.f,0", SHN_UNDEF, 0, 0, STT_FUNC);
	assert_refused(synth, HVP_ERROR_BAD_DATA, "without its section");
}

static void test_klp_section_ordinary_symbol(void)
{
	g_autoptr(Synth) synth = synth_kpatch();
	guint text = synth_section(synth, ".text.f", SHT_PROGBITS, SHF_ALLOC, NULL, 16);

	synth_klp_rela(synth, "vmlinux", text, 0, 1, R_X86_64_64);
	assert_refused(synth, HVP_ERROR_BAD_DATA, "uses the ordinary symbol");
}

static void test_vmlinux_uses_module(void)
{
	g_autoptr(Synth) synth = synth_kpatch();
	guint text = synth_section(synth, ".text.f", SHT_PROGBITS, SHF_ALLOC, NULL, 16);
	guint symbol = synth_symbol(synth, ".klp.sym.tun.f,0", SHN_LIVEPATCH, 0, 0, STT_FUNC);

	synth_klp_rela(synth, "vmlinux", text, 0, symbol, R_X86_64_64);
	assert_refused(synth, HVP_ERROR_BAD_DATA, "uses the module's symbol");
}

static void test_module_uses_other_module(void)
{
	g_autoptr(Synth) synth = synth_kpatch();
	guint text = synth_section(synth, ".text.f", SHT_PROGBITS, SHF_ALLOC, NULL, 16);
	guint symbol =
		synth_symbol(synth, ".klp.sym.nf_conntrack.f,0", SHN_LIVEPATCH, 0, 0, STT_FUNC);
	g_autoptr(HvpPatch) patch = NULL;

	synth_klp_rela(synth, "nf_conntrack_irc", text, 0, symbol, R_X86_64_64);
	patch = open_synth(synth);
	g_assert_cmpuint(patch->klp_relocations_count, ==, 2);
	g_assert_cmpstr(patch->klp_relocations[1].object, ==, "nf_conntrack_irc");
	g_assert_cmpstr(patch->klp_relocations[1].section, ==, ".text.f");
	g_assert_cmpstr(patch->klp_symbols[1].object, ==, "nf_conntrack");
}

static void test_plain_section_klp_symbol(void)
{
	g_autoptr(Synth) synth = synth_kpatch();
	guint symbol = synth_symbol(synth, ".klp.sym.tun.f,0", SHN_LIVEPATCH, 0, 0, STT_FUNC);
	guint text = synth_section(synth, ".text.f", SHT_PROGBITS, SHF_ALLOC, NULL, 16);

	synth_rela(synth, text, 0, symbol, R_X86_64_PC32, 0);
	assert_refused(synth, HVP_ERROR_BAD_DATA, "ordinary relocation uses the livepatch symbol");
}

static void test_klp_section_by_name_only(void)
{
	g_autoptr(Synth) synth = synth_kpatch();

	synth_section(synth, ".klp.rela.vmlinux..text", SHT_PROGBITS, SHF_ALLOC, NULL, 24);
	assert_refused(synth, HVP_ERROR_BAD_DATA, "not a relocation section");
}

static void test_signed(void)
{
	g_autoptr(GBytes) bytes = synth_kpatch_file();
	g_autoptr(GBytes) with_signature = synth_sign(bytes);
	g_autoptr(HvpPatch) plain = open_bytes(bytes);
	g_autoptr(HvpPatch) patch = open_bytes(with_signature);

	g_assert_false(plain->is_signed);
	g_assert_cmpuint(plain->signature_bytes, ==, 0);
	g_assert_true(patch->is_signed);
	g_assert_cmpuint(patch->signature_bytes, ==, 140);
	g_assert_true(g_bytes_equal(patch->bytes, with_signature));
	g_assert_cmpstr(patch->sha256, !=, plain->sha256);
	g_assert_cmpuint(strlen(patch->sha256), ==, 64);
	g_assert_cmpuint(patch->function_count, ==, 2);
}

static void add_tests_of_formats(void)
{
	static const char *const first[] = { "__klp_objects", "__klp_funcs" };
	static const char *const second[] = { ".init.klp_objects", ".init.klp_funcs" };

	g_test_add_func("/formats/klp-READ", test_klp);
	g_test_add_data_func("/formats/klp-build-first-generation-READ", first, test_klp_build);
	g_test_add_data_func("/formats/klp-build-second-generation-READ", second, test_klp_build);
	g_test_add_func("/formats/kpatch-READ", test_kpatch);
	g_test_add_func("/formats/names", test_names_of_formats);
	g_test_add_func("/formats/klp-other-layout-BAD_DATA", test_other_layout);
	g_test_add_func("/formats/klp-absurd-layout-INVALID_ARGUMENT", test_absurd_layout);
	g_test_add_func("/formats/klp-two-patches-AMBIGUOUS", test_two_patches);
	g_test_add_func("/formats/klp-file-operations-IGNORED", test_owner_is_no_patch);
	g_test_add_func("/formats/klp-no-patch-struct-objects-UNKNOWN", test_no_patch_struct);
	g_test_add_func("/formats/klp-no-pointers-objects-UNKNOWN", test_no_pointers);
	g_test_add_func("/formats/klp-objects-without-end-BAD_DATA", test_objects_without_end);
	g_test_add_func("/formats/kpatch-function-twice-BAD_DATA", test_function_twice);
	g_test_add_func("/formats/kpatch-size-past-section-BAD_DATA", test_kpatch_size);
	g_test_add_func("/formats/kpatch-odd-table-BAD_DATA", test_kpatch_odd_table);
	g_test_add_func("/formats/klp-build-count-past-table-BAD_DATA", test_klp_build_count);
	g_test_add_func("/formats/klp-build-one-past-table-BAD_DATA", test_klp_build_one_more);
	g_test_add_func("/formats/two-relocations-for-a-pointer-BAD_DATA", test_two_pointers);
	g_test_add_func("/formats/signed-READ", test_signed);
}

static void add_tests_of_klp(void)
{
	static const char *const bad[] = {
		".klp.sym.vmlinux.f",
		".klp.sym.vmlinux.,0",
		".klp.sym.vmlinux.f,",
		".klp.sym.vmlinux.f,-1",
		".klp.sym.vmlinux.f,1x",
		".klp.sym.vmlinux.f,18446744073709551616",
		".klp.sym..f,0",
		".klp.sym.f,0",
		".klp.sym.vmlinux.f g,0",
		".klp.sym.a-module-name-that-is-longer-than-the-fifty-five-bytes-of-it.f,0",
		"f",
	};

	g_test_add_func("/klp/cold-part-of-replaced-function-FOUND", test_cold);
	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autofree char *path = g_strdup_printf("/klp/bad-symbol-%u-BAD_DATA", i);

		g_test_add_data_func(path, bad[i], test_bad_klp_symbols);
	}
	g_test_add_func("/klp/undefined-klp-symbol-BAD_DATA", test_undefined_klp_symbol);
	g_test_add_func("/klp/ordinary-symbol-BAD_DATA", test_klp_section_ordinary_symbol);
	g_test_add_func("/klp/vmlinux-uses-module-BAD_DATA", test_vmlinux_uses_module);
	g_test_add_func("/klp/module-uses-other-module-READ", test_module_uses_other_module);
	g_test_add_func("/klp/plain-section-klp-symbol-BAD_DATA", test_plain_section_klp_symbol);
	g_test_add_func("/klp/section-by-name-only-BAD_DATA", test_klp_section_by_name_only);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_tests_of_formats();
	add_tests_of_klp();
	return g_test_run();
}
