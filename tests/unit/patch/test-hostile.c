/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Broken and hostile modules: each is refused with a reason, none does harm. */
#include <elf.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "patch/elf.h"
#include "patch/patch.h"
#include "synth.h"

#define SHN_LIVEPATCH 0xff20U

static GBytes *(*const makers[])(void) = { synth_klp_file, synth_klp_build_file,
					   synth_kpatch_file };

/* A copy that a test may write into. */
static guint8 *copy_of(GBytes *bytes, gsize *ret_size_bytes)
{
	return g_memdup2(g_bytes_get_data(bytes, ret_size_bytes), g_bytes_get_size(bytes));
}

static HvpPatch *try_bytes(const guint8 *data, gsize size_bytes, GError **error)
{
	g_autoptr(GBytes) bytes = g_bytes_new(data, size_bytes);

	return hvp_patch_open_bytes(bytes, "hostile.ko", NULL, error);
}

static void assert_refused(const guint8 *data, gsize size_bytes, HvpErrorCode code,
			   const char *word)
{
	g_autoptr(GError) error = NULL;
	HvpPatch *patch = try_bytes(data, size_bytes, &error);

	g_assert_null(patch);
	g_assert_error(error, HVP_ERROR, (int)code);
	if (strstr(error->message, word) == NULL)
		g_error("\"%s\" does not say \"%s\"", error->message, word);
}

static void assert_synth_refused(Synth *synth, HvpErrorCode code, const char *word)
{
	g_autoptr(GBytes) bytes = synth_finish(synth);

	assert_refused(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), code, word);
}

static void test_truncated(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(makers); i++) {
		g_autoptr(GBytes) bytes = makers[i]();
		const guint8 *data = g_bytes_get_data(bytes, NULL);

		for (gsize cut = 0; cut < g_bytes_get_size(bytes); cut += 64)
			assert_refused(data, cut, HVP_ERROR_BAD_DATA, "hostile.ko: ");
	}
}

/* Every aligned word of the file set to awkward values: an answer each time. */
static void test_every_word(void)
{
	static const guint64 values[] = { 0,	       1,
					  G_MAXUINT64, (guint64)1 << 63,
					  0x7fffffff,  0xffffffff00000000 };

	for (guint i = 0; i < G_N_ELEMENTS(makers); i++) {
		g_autoptr(GBytes) bytes = makers[i]();
		gsize size_bytes;
		g_autofree guint8 *data = copy_of(bytes, &size_bytes);

		for (gsize at = 0; at + 8 <= size_bytes; at += 8) {
			guint64 saved = hvp_load_u64(data + at);

			for (guint k = 0; k < G_N_ELEMENTS(values); k++) {
				g_autoptr(GError) error = NULL;
				g_autoptr(HvpPatch) patch = NULL;

				hvp_store_u64(data + at, values[k]);
				patch = try_bytes(data, size_bytes, &error);
				g_assert_true((patch == NULL) == (error != NULL));
				g_assert_true(error == NULL || error->domain == HVP_ERROR);
			}
			hvp_store_u64(data + at, saved);
		}
	}
}

/* A field of the ELF header, and what it is set to. */
typedef struct {
	const char *path;
	gsize offset;
	guint width_bytes;
	guint64 value;
	HvpErrorCode code;
	const char *word;
} HeaderCase;

#define HEADER(field) offsetof(Elf64_Ehdr, field), sizeof(((Elf64_Ehdr *)NULL)->field)

static const HeaderCase header_cases[] = {
	{ "magic-BAD_DATA", 0, 4, 0x464c4500, HVP_ERROR_BAD_DATA, "not an ELF file" },
	{ "gzip-UNSUPPORTED", 0, 4, 0x00088b1f, HVP_ERROR_UNSUPPORTED, "compressed with gzip" },
	{ "xz-UNSUPPORTED", 0, 8, 0x04005a587a37fd, HVP_ERROR_UNSUPPORTED, "compressed with xz" },
	{ "zstd-UNSUPPORTED", 0, 4, 0xfd2fb528, HVP_ERROR_UNSUPPORTED, "compressed with zstd" },
	{ "class-32-UNSUPPORTED", EI_CLASS, 1, ELFCLASS32, HVP_ERROR_UNSUPPORTED, "ELF class 1" },
	{ "big-endian-UNSUPPORTED", EI_DATA, 1, ELFDATA2MSB, HVP_ERROR_UNSUPPORTED, "encoding 2" },
	{ "ident-version-BAD_DATA", EI_VERSION, 1, 9, HVP_ERROR_BAD_DATA, "ELF version 9" },
	{ "executable-UNSUPPORTED", HEADER(e_type), ET_EXEC, HVP_ERROR_UNSUPPORTED, "ELF type 2" },
	{ "core-UNSUPPORTED", HEADER(e_type), ET_CORE, HVP_ERROR_UNSUPPORTED, "ELF type 4" },
	{ "aarch64-UNSUPPORTED", HEADER(e_machine), EM_AARCH64, HVP_ERROR_UNSUPPORTED, "machine" },
	{ "version-BAD_DATA", HEADER(e_version), 0, HVP_ERROR_BAD_DATA, "ELF header of version" },
	{ "header-size-BAD_DATA", HEADER(e_ehsize), 63, HVP_ERROR_BAD_DATA, "63 bytes" },
	{ "shentsize-0-BAD_DATA", HEADER(e_shentsize), 0, HVP_ERROR_BAD_DATA, "headers of 0" },
	{ "shentsize-large-BAD_DATA", HEADER(e_shentsize), 0xffff, HVP_ERROR_BAD_DATA,
	  "headers of" },
	{ "shnum-0-BAD_DATA", HEADER(e_shnum), 0, HVP_ERROR_BAD_DATA, "0 section headers" },
	{ "shnum-reserved-BAD_DATA", HEADER(e_shnum), 0xffff, HVP_ERROR_BAD_DATA, "65535 section" },
	{ "shnum-large-BAD_DATA", HEADER(e_shnum), 0xff00, HVP_ERROR_BAD_DATA, "outside of the" },
	{ "shoff-0-BAD_DATA", HEADER(e_shoff), 0, HVP_ERROR_BAD_DATA, "outside of the file" },
	{ "shoff-wraps-BAD_DATA", HEADER(e_shoff), G_MAXUINT64 - 63, HVP_ERROR_BAD_DATA,
	  "outside" },
	{ "shoff-2^63-BAD_DATA", HEADER(e_shoff), (guint64)1 << 63, HVP_ERROR_BAD_DATA, "outside" },
	{ "shstrndx-0-BAD_DATA", HEADER(e_shstrndx), 0, HVP_ERROR_BAD_DATA, "section names" },
	{ "shstrndx-large-BAD_DATA", HEADER(e_shstrndx), 0xfffe, HVP_ERROR_BAD_DATA,
	  "section names" },
	{ "shstrndx-xindex-BAD_DATA", HEADER(e_shstrndx), 0xffff, HVP_ERROR_BAD_DATA,
	  "section names" },
	{ "shstrndx-other-BAD_DATA", HEADER(e_shstrndx), 1, HVP_ERROR_BAD_DATA, "no terminated" },
};

static void store(guint8 *at, guint width_bytes, guint64 value)
{
	for (guint i = 0; i < width_bytes; i++)
		at[i] = (guint8)(value >> (8 * i));
}

static void test_header(gconstpointer data)
{
	const HeaderCase *test = data;
	g_autoptr(GBytes) bytes = synth_klp_file();
	gsize size_bytes;
	g_autofree guint8 *file = copy_of(bytes, &size_bytes);

	store(file + test->offset, test->width_bytes, test->value);
	assert_refused(file, size_bytes, test->code, test->word);
}

/* A field of the header of one section of synth_kpatch, and what it is set to. */
typedef struct {
	const char *path;
	/* By name; of SHT_RELA and others the first of that name. */
	const char *section;
	gsize offset;
	guint width_bytes;
	guint64 value;
	const char *word;
} SectionCase;

#define SECTION(field) offsetof(Elf64_Shdr, field), sizeof(((Elf64_Shdr *)NULL)->field)

static const SectionCase section_cases[] = {
	{ "size-2^63-BAD_DATA", ".modinfo", SECTION(sh_size), (guint64)1 << 63, "outside" },
	{ "size-max-BAD_DATA", ".modinfo", SECTION(sh_size), G_MAXUINT64, "outside" },
	{ "offset-2^63-BAD_DATA", ".modinfo", SECTION(sh_offset), (guint64)1 << 63, "outside" },
	{ "offset-max-BAD_DATA", ".modinfo", SECTION(sh_offset), G_MAXUINT64, "outside" },
	{ "offset-0-overlap-BAD_DATA", ".modinfo", SECTION(sh_offset), 0, "overlap" },
	{ "offset-64-overlap-BAD_DATA", ".modinfo", SECTION(sh_offset), 64, "overlap" },
	{ "name-outside-BAD_DATA", ".modinfo", SECTION(sh_name), 0xfffffff0, "name of section" },
	{ "modinfo-is-symtab-BAD_DATA", ".modinfo", SECTION(sh_type), SHT_SYMTAB,
	  "2 symbol tables" },
	{ "no-symtab-BAD_DATA", ".symtab", SECTION(sh_type), SHT_PROGBITS, "0 symbol tables" },
	{ "symtab-link-0-BAD_DATA", ".symtab", SECTION(sh_link), 0, "no terminated string table" },
	{ "symtab-link-large-BAD_DATA", ".symtab", SECTION(sh_link), G_MAXUINT32, "no terminated" },
	{ "symtab-entsize-0-BAD_DATA", ".symtab", SECTION(sh_entsize), 0, "in entries of 0" },
	{ "symtab-size-0-BAD_DATA", ".symtab", SECTION(sh_size), 0, "symbol table of 0x0" },
	{ "rela-link-BAD_DATA", ".rela.kpatch.funcs", SECTION(sh_link), 2, "for its symbols" },
	{ "rela-info-0-BAD_DATA", ".rela.kpatch.funcs", SECTION(sh_info), 0, "is for section 0" },
	{ "rela-info-large-BAD_DATA", ".rela.kpatch.funcs", SECTION(sh_info), 999, "section 999" },
	{ "rela-entsize-BAD_DATA", ".rela.kpatch.funcs", SECTION(sh_entsize), 16, "entries of 16" },
	{ "rela-size-odd-BAD_DATA", ".rela.kpatch.funcs", SECTION(sh_size), 25, "has 0x19 bytes" },
	{ "rel-BAD_DATA", ".rela.kpatch.funcs", SECTION(sh_type), SHT_REL, "without addends" },
	{ "klp-flag-lost-BAD_DATA", ".klp.rela.vmlinux..text.cleanup_module", SECTION(sh_flags),
	  SHF_ALLOC, "without their flag" },
};

static guint8 *section_header(guint8 *file, const char *name)
{
	const guint8 *names;
	Elf64_Ehdr header;
	Elf64_Shdr section;

	memcpy(&header, file, sizeof header);
	memcpy(&section, file + header.e_shoff + header.e_shstrndx * sizeof section,
	       sizeof section);
	names = file + section.sh_offset;
	for (guint i = 1; i < header.e_shnum; i++) {
		guint8 *at = file + header.e_shoff + i * sizeof section;

		memcpy(&section, at, sizeof section);
		if (strcmp((const char *)names + section.sh_name, name) == 0)
			return at;
	}
	g_error("no section %s", name);
}

static void test_section(gconstpointer data)
{
	const SectionCase *test = data;
	g_autoptr(GBytes) bytes = synth_kpatch_file();
	gsize size_bytes;
	g_autofree guint8 *file = copy_of(bytes, &size_bytes);

	store(section_header(file, test->section) + test->offset, test->width_bytes, test->value);
	assert_refused(file, size_bytes, HVP_ERROR_BAD_DATA, test->word);
}

/* Memory that only the guest would need: .bss of 2^63 bytes. */
static void test_huge_bss(void)
{
	g_autoptr(Synth) synth = synth_kpatch();
	g_autoptr(GBytes) bytes = NULL;
	g_autofree guint8 *file = NULL;
	gsize size_bytes;

	synth_section(synth, ".bss", SHT_NOBITS, SHF_ALLOC | SHF_WRITE, NULL, 8);
	bytes = synth_finish(synth);
	file = copy_of(bytes, &size_bytes);
	store(section_header(file, ".bss") + offsetof(Elf64_Shdr, sh_size), 8, (guint64)1 << 63);
	assert_refused(file, size_bytes, HVP_ERROR_BAD_DATA, "bytes of memory");
}

/* The last byte of a string table is no NUL. */
static void test_unterminated_names(gconstpointer data)
{
	g_autoptr(GBytes) bytes = synth_kpatch_file();
	gsize size_bytes;
	g_autofree guint8 *file = copy_of(bytes, &size_bytes);
	Elf64_Shdr section;

	memcpy(&section, section_header(file, data), sizeof section);
	file[section.sh_offset + section.sh_size - 1] = 'x';
	assert_refused(file, size_bytes, HVP_ERROR_BAD_DATA, "terminated");
}

static void test_long_symbol_name(void)
{
	g_autoptr(Synth) synth = synth_kpatch();
	g_autofree char *name = g_strnfill(HVP_ELF_MAX_NAME_BYTES + 1, 'x');

	synth_symbol(synth, name, 4, 0, 0, STT_OBJECT);
	assert_synth_refused(synth, HVP_ERROR_BAD_DATA, "the name of symbol");
}

static void test_symbol_section(gconstpointer data)
{
	g_autoptr(Synth) synth = synth_kpatch();

	synth_symbol(synth, "stray", GPOINTER_TO_UINT(data), 0, 0, STT_OBJECT);
	assert_synth_refused(synth, HVP_ERROR_BAD_DATA, "lies in section 0x");
}

static void test_too_many_symbols(void)
{
	g_autoptr(Synth) synth = synth_kpatch();
	g_autoptr(GBytes) bytes = NULL;
	g_autoptr(GByteArray) file = g_byte_array_new();
	gsize table_bytes = (gsize)(HVP_ELF_MAX_SYMBOLS + 1) * sizeof(Elf64_Sym);
	guint64 start;
	guint8 *header;

	/* A larger table behind the file takes the place of the real one. */
	bytes = synth_finish(synth);
	g_byte_array_append(file, g_bytes_get_data(bytes, NULL), (guint)g_bytes_get_size(bytes));
	start = file->len;
	g_byte_array_set_size(file, (guint)(start + table_bytes));
	memset(file->data + start, 0, table_bytes);
	header = section_header(file->data, ".symtab");
	store(header + offsetof(Elf64_Shdr, sh_offset), 8, start);
	store(header + offsetof(Elf64_Shdr, sh_size), 8, table_bytes);
	assert_refused(file->data, file->len, HVP_ERROR_BAD_DATA, "more than 1000000 symbols");
}

/* As many as are allowed, all with one long name: bounded time. */
static void test_many_symbols(void)
{
	g_autoptr(Synth) synth = synth_new();
	g_autofree char *name = g_strnfill(HVP_ELF_MAX_NAME_BYTES, 'x');

	for (guint i = 0; i < 20000; i++)
		synth_symbol(synth, i == 0 ? name : "y", 3, 0, 0, STT_FUNC);
	assert_synth_refused(synth, HVP_ERROR_UNSUPPORTED, "not a livepatch module");
}

static void test_too_many_undefined(gconstpointer data)
{
	g_autoptr(Synth) synth = synth_kpatch();
	const char *name = data == NULL ? "f" : ".klp.sym.vmlinux.f,0";

	for (guint i = 0; i <= HVP_PATCH_MAX_REFERENCES; i++)
		synth_symbol(synth, name, data == NULL ? SHN_UNDEF : SHN_LIVEPATCH, 0, 0, STT_FUNC);
	assert_synth_refused(synth, HVP_ERROR_BAD_DATA,
			     data == NULL ? "more than 65536 undefined symbols"
					  : "more than 65536 livepatch symbols");
}

typedef struct {
	const char *path;
	guint64 offset;
	guint symbol;
	guint type;
	gint64 addend;
	const char *word;
} RelocationCase;

static const RelocationCase relocation_cases[] = {
	{ "symbol-out-of-range-BAD_DATA", 0, 0xffffff, R_X86_64_PC32, 0, "symbol 16777215 of" },
	{ "unknown-type-BAD_DATA", 0, 1, 200, 0, "unknown type 200" },
	{ "got-type-BAD_DATA", 0, 1, R_X86_64_GOTPCREL, 0, "unknown type 9" },
	{ "offset-at-end-BAD_DATA", 16, 1, R_X86_64_PC32, 0, "outside of its section" },
	{ "offset-past-4-bytes-BAD_DATA", 13, 1, R_X86_64_PC32, 0, "outside of its section" },
	{ "offset-past-8-bytes-BAD_DATA", 9, 1, R_X86_64_64, 0, "outside of its section" },
	{ "offset-wraps-BAD_DATA", G_MAXUINT64, 1, R_X86_64_64, 0, "outside of its section" },
	{ "addend-too-large-BAD_DATA", 0, 1, R_X86_64_PC32, G_MAXINT64, "does not fit" },
	{ "addend-too-small-BAD_DATA", 0, 1, R_X86_64_32S, G_MININT64, "does not fit" },
};

static void test_relocation(gconstpointer data)
{
	const RelocationCase *test = data;
	g_autoptr(Synth) synth = synth_kpatch();
	guint text = synth_section(synth, ".text.f", SHT_PROGBITS, SHF_ALLOC, NULL, 16);

	synth_rela(synth, text, test->offset, test->symbol, test->type, test->addend);
	assert_synth_refused(synth, HVP_ERROR_BAD_DATA, test->word);
}

/* An addend that leads a pointer out of its section: the table has no name then. */
static void test_pointer_wraps(void)
{
	g_autoptr(Synth) synth = synth_new();
	guint funcs = synth_section(synth, ".kpatch.funcs", SHT_PROGBITS, SHF_ALLOC, NULL, 56);
	guint function = synth_function(synth, "f", 16);

	synth_livepatch_module(synth);
	synth_pointer(synth, funcs, 0, function, 0);
	synth_pointer(synth, funcs, 40, 1, G_MININT64);
	synth_string(synth, funcs, 48, "vmlinux");
	assert_synth_refused(synth, HVP_ERROR_BAD_DATA, "no name");
}

static void test_function_name(gconstpointer data)
{
	g_autoptr(Synth) synth = synth_new();
	guint funcs = synth_section(synth, ".kpatch.funcs", SHT_PROGBITS, SHF_ALLOC, NULL, 56);
	guint function = synth_function(synth, "f", 16);

	synth_livepatch_module(synth);
	synth_pointer(synth, funcs, 0, function, 0);
	synth_string(synth, funcs, 40, data);
	synth_string(synth, funcs, 48, "vmlinux");
	assert_synth_refused(synth, HVP_ERROR_BAD_DATA, "is no name of a function");
}

static Synth *with_modinfo(const char *name, const char *modinfo, gsize modinfo_bytes)
{
	Synth *synth = synth_new();

	synth_module(synth, name, modinfo, modinfo_bytes);
	return synth;
}

typedef struct {
	const char *path;
	const char *name;
	const char *modinfo;
	gsize modinfo_bytes;
	HvpErrorCode code;
	const char *word;
} ModinfoCase;

#define TEXT(text) (text), sizeof(text)
#define GOOD "livepatch=Y\0vermagic=6.1\0"

static const ModinfoCase modinfo_cases[] = {
	{ "no-livepatch-UNSUPPORTED", "m", TEXT("name=m\0vermagic=6.1"), HVP_ERROR_UNSUPPORTED,
	  "not a livepatch module" },
	{ "empty-UNSUPPORTED", "m", TEXT(""), HVP_ERROR_UNSUPPORTED, "not a livepatch module" },
	{ "unterminated-BAD_DATA", "m", "livepatch=Y", 11, HVP_ERROR_BAD_DATA, "not terminated" },
	{ "no-vermagic-BAD_DATA", "m", TEXT("livepatch=Y\0name=m"), HVP_ERROR_BAD_DATA,
	  "vermagic" },
	{ "vermagic-control-BAD_DATA", "m", TEXT("livepatch=Y\0vermagic=6.1\x1b[2J"),
	  HVP_ERROR_BAD_DATA, "vermagic" },
	{ "no-key-BAD_DATA", "m", TEXT("livepatch"), HVP_ERROR_BAD_DATA, "no sound key" },
	{ "empty-key-BAD_DATA", "m", TEXT("=Y"), HVP_ERROR_BAD_DATA, "no sound key" },
	{ "control-in-key-BAD_DATA", "m", TEXT("live\x07patch=Y"), HVP_ERROR_BAD_DATA,
	  "live\\x07patch" },
	{ "other-name-BAD_DATA", "m", TEXT(GOOD "name=n"), HVP_ERROR_BAD_DATA,
	  "called \"n\" by modinfo and \"m\"" },
	{ "empty-name-BAD_DATA", "", TEXT(GOOD), HVP_ERROR_BAD_DATA, "no sound name" },
	{ "control-in-name-BAD_DATA", "m\n", TEXT(GOOD), HVP_ERROR_BAD_DATA, "no sound name" },
	{ "slash-in-name-BAD_DATA", "../m", TEXT(GOOD), HVP_ERROR_BAD_DATA, "no sound name" },
	{ "long-name-BAD_DATA", "m0123456789012345678901234567890123456789012345678901234567890",
	  TEXT(GOOD), HVP_ERROR_BAD_DATA, "no sound name" },
};

static void test_modinfo(gconstpointer data)
{
	const ModinfoCase *test = data;
	g_autoptr(Synth) synth = with_modinfo(test->name, test->modinfo, test->modinfo_bytes);

	assert_synth_refused(synth, test->code, test->word);
}

static void test_modinfo_escaped(void)
{
	static const char modinfo[] =
		GOOD "description=a\x1b]0;b\x07\xff\nc\"}\0description=second";
	g_autoptr(Synth) synth = with_modinfo("m", modinfo, sizeof modinfo);
	g_autoptr(GBytes) bytes = synth_finish(synth);
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpPatch) patch = hvp_patch_open_bytes(bytes, "m.ko", NULL, &error);

	g_assert_no_error(error);
	g_assert_cmpstr(patch->description, ==, "a\\x1b]0;b\\x07\\xff\\x0ac\"}");
	g_assert_cmpstr(patch->name, ==, "m");
}

/* A list of 4 MiB is cut. */
static void test_modinfo_long(void)
{
	g_autoptr(GByteArray) modinfo = g_byte_array_new();
	g_autofree char *list = g_strnfill(4 << 20, 'x');
	g_autoptr(Synth) synth = NULL;
	g_autoptr(GBytes) bytes = NULL;
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpPatch) patch = NULL;

	g_byte_array_append(modinfo, (const guint8 *)GOOD "cve=", sizeof(GOOD "cve=") - 1);
	g_byte_array_append(modinfo, (const guint8 *)list, (4 << 20) + 1);
	synth = with_modinfo("m", (const char *)modinfo->data, modinfo->len);
	bytes = synth_finish(synth);
	patch = hvp_patch_open_bytes(bytes, "m.ko", NULL, &error);
	g_assert_no_error(error);
	g_assert_cmpuint(strlen(hvp_patch_modinfo(patch, "cve")), ==, 1024);
	g_assert_true(g_str_has_suffix(hvp_patch_modinfo(patch, "cve"), "x..."));
}

static void test_modinfo_many(void)
{
	g_autoptr(GString) modinfo = g_string_new(NULL);
	g_autoptr(Synth) synth = NULL;

	for (guint i = 0; i < 5000; i++) {
		g_string_append_printf(modinfo, "k%u=", i);
		g_string_append_c(modinfo, '\0');
	}
	synth = with_modinfo("m", modinfo->str, modinfo->len);
	assert_synth_refused(synth, HVP_ERROR_BAD_DATA, "more than 4096 modinfo entries");
}

static void test_no_struct_module(void)
{
	g_autoptr(Synth) synth = synth_new();
	static const char modinfo[] = GOOD;

	synth_section(synth, ".modinfo", SHT_PROGBITS, SHF_ALLOC, modinfo, sizeof modinfo);
	assert_synth_refused(synth, HVP_ERROR_UNSUPPORTED, "no struct module");
}

static void test_signature_length(void)
{
	g_autoptr(GBytes) bytes = synth_kpatch_file();
	g_autoptr(GBytes) with_signature = synth_sign(bytes);
	gsize size_bytes;
	g_autofree guint8 *file = copy_of(with_signature, &size_bytes);

	memset(file + size_bytes - 28 - 4, 0xff, 4);
	assert_refused(file, size_bytes, HVP_ERROR_BAD_DATA, "a signature of 4294967295 bytes");
}

/* A section that reaches into the signature: the guest's loader cuts that off. */
static void test_section_in_signature(void)
{
	g_autoptr(GBytes) bytes = synth_kpatch_file();
	g_autoptr(GBytes) with_signature = synth_sign(bytes);
	gsize size_bytes;
	g_autofree guint8 *file = copy_of(with_signature, &size_bytes);
	guint8 *header = section_header(file, ".text.lo_ioctl");

	store(header + offsetof(Elf64_Shdr, sh_offset), 8, size_bytes - 140);
	assert_refused(file, size_bytes, HVP_ERROR_BAD_DATA, "outside of the file");
}

static void test_signature_only(void)
{
	static const char marker[] = "~Module signature appended~\n";

	assert_refused((const guint8 *)marker, sizeof marker - 1, HVP_ERROR_BAD_DATA,
		       "a signature's marker and no more");
}

static void add_tables(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(header_cases); i++) {
		g_autofree char *path = g_strconcat("/hostile/header/", header_cases[i].path, NULL);

		g_test_add_data_func(path, &header_cases[i], test_header);
	}
	for (guint i = 0; i < G_N_ELEMENTS(section_cases); i++) {
		g_autofree char *path =
			g_strconcat("/hostile/section/", section_cases[i].path, NULL);

		g_test_add_data_func(path, &section_cases[i], test_section);
	}
	for (guint i = 0; i < G_N_ELEMENTS(relocation_cases); i++) {
		g_autofree char *path =
			g_strconcat("/hostile/relocation/", relocation_cases[i].path, NULL);

		g_test_add_data_func(path, &relocation_cases[i], test_relocation);
	}
	for (guint i = 0; i < G_N_ELEMENTS(modinfo_cases); i++) {
		g_autofree char *path =
			g_strconcat("/hostile/modinfo/", modinfo_cases[i].path, NULL);

		g_test_add_data_func(path, &modinfo_cases[i], test_modinfo);
	}
}

static void add_names(void)
{
	g_test_add_data_func("/hostile/names/sections-unterminated-BAD_DATA", ".shstrtab",
			     test_unterminated_names);
	g_test_add_data_func("/hostile/names/symbols-unterminated-BAD_DATA", ".strtab",
			     test_unterminated_names);
	g_test_add_data_func("/hostile/names/modinfo-unterminated-BAD_DATA", ".modinfo",
			     test_unterminated_names);
	g_test_add_func("/hostile/names/long-symbol-BAD_DATA", test_long_symbol_name);
	g_test_add_data_func("/hostile/names/function-control-BAD_DATA", "f\x1b[2J",
			     test_function_name);
	g_test_add_data_func("/hostile/names/function-empty-BAD_DATA", "", test_function_name);
	g_test_add_data_func("/hostile/names/function-space-BAD_DATA", "a b", test_function_name);
	g_test_add_data_func("/hostile/names/function-utf8-BAD_DATA", "\xc3\xa4",
			     test_function_name);
}

static void add_symbols(void)
{
	g_test_add_data_func("/hostile/symbols/section-out-of-range-BAD_DATA",
			     GUINT_TO_POINTER(0x4000), test_symbol_section);
	g_test_add_data_func("/hostile/symbols/common-BAD_DATA", GUINT_TO_POINTER(SHN_COMMON),
			     test_symbol_section);
	g_test_add_data_func("/hostile/symbols/xindex-BAD_DATA", GUINT_TO_POINTER(SHN_XINDEX),
			     test_symbol_section);
	g_test_add_func("/hostile/symbols/a-million-and-one-BAD_DATA", test_too_many_symbols);
	g_test_add_data_func("/hostile/symbols/too-many-undefined-BAD_DATA", NULL,
			     test_too_many_undefined);
	g_test_add_data_func("/hostile/symbols/too-many-klp-BAD_DATA", "klp",
			     test_too_many_undefined);
	g_test_add_func("/hostile/symbols/many-UNSUPPORTED", test_many_symbols);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_tables();
	add_names();
	add_symbols();
	g_test_add_func("/hostile/truncated-BAD_DATA", test_truncated);
	g_test_add_func("/hostile/every-word-ANSWERED", test_every_word);
	g_test_add_func("/hostile/section/bss-2^63-BAD_DATA", test_huge_bss);
	g_test_add_func("/hostile/relocation/pointer-wraps-BAD_DATA", test_pointer_wraps);
	g_test_add_func("/hostile/modinfo/control-characters-ESCAPED", test_modinfo_escaped);
	g_test_add_func("/hostile/modinfo/four-mib-CUT", test_modinfo_long);
	g_test_add_func("/hostile/modinfo/many-entries-BAD_DATA", test_modinfo_many);
	g_test_add_func("/hostile/modinfo/no-struct-module-UNSUPPORTED", test_no_struct_module);
	g_test_add_func("/hostile/signature/length-past-file-BAD_DATA", test_signature_length);
	g_test_add_func("/hostile/signature/section-in-it-BAD_DATA", test_section_in_signature);
	g_test_add_func("/hostile/signature/marker-only-BAD_DATA", test_signature_only);
	return g_test_run();
}
