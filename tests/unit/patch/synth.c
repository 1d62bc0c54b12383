/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "synth.h"

#include <gelf.h>
#include <libelf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SHF_RELA_LIVEPATCH 0x00100000U
#define SHN_LIVEPATCH 0xff20U

typedef struct {
	char *name;
	guint32 type;
	guint64 flags;
	GByteArray *bytes;
	guint64 entry_bytes;
	guint32 link;
	guint32 info;
	/* Index of its .rela section, 0: none yet. */
	guint rela;
} SynthSection;

struct Synth {
	/* Of SynthSection *; index 0 is the null section. */
	GPtrArray *sections;
	guint symbols;
	guint names;
	guint strings;
	guint strings_symbol;
	guint functions;
};

static void section_free(gpointer data)
{
	SynthSection *section = data;

	g_free(section->name);
	g_byte_array_unref(section->bytes);
	g_free(section);
}

static SynthSection *section_at(Synth *self, guint index)
{
	return g_ptr_array_index(self->sections, index);
}

guint synth_section(Synth *self, const char *name, guint32 type, guint64 flags, const void *data,
		    gsize size_bytes)
{
	SynthSection *section = g_new0(SynthSection, 1);

	section->name = g_strdup(name);
	section->type = type;
	section->flags = flags;
	section->bytes = g_byte_array_new();
	g_byte_array_set_size(section->bytes, (guint)size_bytes);
	if (size_bytes != 0 && data != NULL)
		memcpy(section->bytes->data, data, size_bytes);
	else if (size_bytes != 0)
		memset(section->bytes->data, 0, size_bytes);
	g_ptr_array_add(self->sections, section);
	return self->sections->len - 1;
}

guint8 *synth_bytes(Synth *self, guint section)
{
	return section_at(self, section)->bytes->data;
}

static guint32 append_text(Synth *self, guint section, const char *text)
{
	GByteArray *bytes = section_at(self, section)->bytes;
	guint32 offset = bytes->len;

	g_byte_array_append(bytes, (const guint8 *)text, (guint)strlen(text) + 1);
	return offset;
}

guint synth_symbol(Synth *self, const char *name, guint section, guint64 value, guint64 size_bytes,
		   guint type)
{
	GByteArray *table = section_at(self, self->symbols)->bytes;
	Elf64_Sym symbol = {
		.st_name = append_text(self, self->names, name),
		.st_info = ELF64_ST_INFO(STB_GLOBAL, type),
		.st_shndx = (Elf64_Half)section,
		.st_value = value,
		.st_size = size_bytes,
	};

	g_byte_array_append(table, (const guint8 *)&symbol, sizeof symbol);
	return table->len / sizeof symbol - 1;
}

static guint new_rela(Synth *self, const char *name, guint section, guint64 flags)
{
	guint index = synth_section(self, name, SHT_RELA, flags, NULL, 0);
	SynthSection *rela = section_at(self, index);

	rela->entry_bytes = sizeof(Elf64_Rela);
	rela->link = self->symbols;
	rela->info = section;
	return index;
}

static void append_rela(Synth *self, guint rela, guint64 offset, guint symbol, guint type,
			gint64 addend)
{
	Elf64_Rela entry = { offset, ELF64_R_INFO((guint64)symbol, type), addend };

	g_byte_array_append(section_at(self, rela)->bytes, (const guint8 *)&entry, sizeof entry);
}

void synth_rela(Synth *self, guint section, guint64 offset, guint symbol, guint type, gint64 addend)
{
	SynthSection *target = section_at(self, section);
	g_autofree char *name = g_strconcat(".rela", target->name, NULL);

	if (target->rela == 0)
		target->rela = new_rela(self, name, section, SHF_INFO_LINK);
	append_rela(self, target->rela, offset, symbol, type, addend);
}

void synth_pointer(Synth *self, guint section, guint64 offset, guint symbol, gint64 addend)
{
	synth_rela(self, section, offset, symbol, R_X86_64_64, addend);
}

guint synth_klp_rela(Synth *self, const char *object, guint section, guint64 offset, guint symbol,
		     guint type)
{
	g_autofree char *name =
		g_strconcat(".klp.rela.", object, ".", section_at(self, section)->name, NULL);
	guint rela = new_rela(self, name, section, SHF_ALLOC | SHF_RELA_LIVEPATCH);

	append_rela(self, rela, offset, symbol, type, 0);
	return rela;
}

void synth_string(Synth *self, guint section, guint64 offset, const char *text)
{
	guint32 at = append_text(self, self->strings, text);

	synth_pointer(self, section, offset, self->strings_symbol, at);
}

Synth *synth_new(void)
{
	Synth *self = g_new0(Synth, 1);
	Elf64_Sym null_symbol = { 0 };

	self->sections = g_ptr_array_new_with_free_func(section_free);
	synth_section(self, "", SHT_NULL, 0, NULL, 0);
	self->symbols =
		synth_section(self, ".symtab", SHT_SYMTAB, 0, &null_symbol, sizeof null_symbol);
	self->names = synth_section(self, ".strtab", SHT_STRTAB, 0, "", 1);
	section_at(self, self->symbols)->entry_bytes = sizeof null_symbol;
	section_at(self, self->symbols)->link = self->names;
	section_at(self, self->symbols)->info = 1;
	self->strings = synth_section(self, ".rodata.str1.1", SHT_PROGBITS, SHF_ALLOC, "", 1);
	self->strings_symbol = synth_symbol(self, "strings", self->strings, 0, 0, STT_OBJECT);
	return self;
}

void synth_free(Synth *self)
{
	g_ptr_array_unref(self->sections);
	g_free(self);
}

static void write_section(Elf *elf, const SynthSection *section, guint32 name)
{
	Elf_Scn *scn = elf_newscn(elf);
	Elf_Data *data = elf_newdata(scn);
	GElf_Shdr header;

	g_assert_nonnull(gelf_getshdr(scn, &header));
	header.sh_name = name;
	header.sh_type = section->type;
	header.sh_flags = section->flags;
	header.sh_entsize = section->entry_bytes;
	header.sh_link = section->link;
	header.sh_info = section->info;
	data->d_type = ELF_T_BYTE;
	data->d_version = EV_CURRENT;
	data->d_align = 8;
	data->d_size = section->bytes->len;
	data->d_buf = section->type == SHT_NOBITS ? NULL : section->bytes->data;
	g_assert_cmpint(gelf_update_shdr(scn, &header), !=, 0);
}

static void write_elf(Synth *self, int fd)
{
	Elf *elf = elf_begin(fd, ELF_C_WRITE, NULL);
	Elf64_Ehdr *header = elf64_newehdr(elf);
	guint names = synth_section(self, ".shstrtab", SHT_STRTAB, 0, "", 1);

	header->e_type = ET_REL;
	header->e_machine = EM_X86_64;
	header->e_version = EV_CURRENT;
	header->e_ident[EI_DATA] = ELFDATA2LSB;
	header->e_shstrndx = (Elf64_Half)names;
	for (guint i = 1; i < self->sections->len; i++) {
		guint32 name = append_text(self, names, section_at(self, i)->name);

		write_section(elf, section_at(self, i), name);
	}
	g_assert_cmpint(elf_update(elf, ELF_C_WRITE), >, 0);
	elf_end(elf);
}

GBytes *synth_finish(Synth *self)
{
	int fd = memfd_create("synth", MFD_CLOEXEC);
	gsize size_bytes;
	guint8 *bytes;

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpuint(elf_version(EV_CURRENT), !=, EV_NONE);
	write_elf(self, fd);
	size_bytes = (gsize)lseek(fd, 0, SEEK_END);
	bytes = g_malloc(size_bytes);
	g_assert_cmpint(pread(fd, bytes, size_bytes, 0), ==, (gssize)size_bytes);
	close(fd);
	return g_bytes_new_take(bytes, size_bytes);
}

guint synth_function(Synth *self, const char *name, gsize size_bytes)
{
	g_autofree char *section_name = g_strconcat(".text.", name, NULL);
	guint section = synth_section(self, section_name, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR,
				      NULL, size_bytes);

	self->functions = section;
	return synth_symbol(self, name, section, 0, size_bytes, STT_FUNC);
}

void synth_module(Synth *self, const char *name, const char *modinfo, gsize modinfo_bytes)
{
	guint module = synth_section(self, ".gnu.linkonce.this_module", SHT_PROGBITS,
				     SHF_ALLOC | SHF_WRITE, NULL, 896);
	guint init = synth_function(self, "init_module", 16);
	guint cleanup = synth_function(self, "cleanup_module", 16);

	memcpy(synth_bytes(self, module) + 24, name, MIN(strlen(name) + 1, 200));
	synth_symbol(self, "__this_module", module, 0, 896, STT_OBJECT);
	synth_pointer(self, module, 0x138, init, 0);
	synth_pointer(self, module, 0x350, cleanup, 0);
	synth_section(self, ".modinfo", SHT_PROGBITS, SHF_ALLOC, modinfo, modinfo_bytes);
	synth_symbol(self, "klp_enable_patch", SHN_UNDEF, 0, 0, STT_NOTYPE);
}

void synth_livepatch_module(Synth *self)
{
	static const char modinfo[] = "livepatch=Y\0license=GPL\0depends=\0\0\0name=synth\0"
				      "description=made by a test\0srcversion=0123\0"
				      "vermagic=6.1.0 SMP preempt mod_unload modversions ";

	synth_module(self, "synth", modinfo, sizeof modinfo);
}

/* A klp symbol of vmlinux and its use in the function made last. */
static void add_klp_symbol(Synth *self)
{
	guint symbol = synth_symbol(self, ".klp.sym.vmlinux.offset_lock,1", SHN_LIVEPATCH, 0, 0,
				    STT_OBJECT);

	synth_klp_rela(self, "vmlinux", self->functions, 4, symbol, R_X86_64_32S);
}

static guint find_this_module(Synth *self)
{
	GByteArray *table = section_at(self, self->symbols)->bytes;
	const char *names = (const char *)section_at(self, self->names)->bytes->data;

	for (guint i = 0; i < table->len / sizeof(Elf64_Sym); i++) {
		Elf64_Sym symbol;

		memcpy(&symbol, table->data + i * sizeof symbol, sizeof symbol);
		if (strcmp(names + symbol.st_name, "__this_module") == 0)
			return i;
	}
	g_assert_not_reached();
}

/* Offsets in the one data section: klp_patch, 3 klp_object, funcs of each, states. */
enum {
	KLP_PATCH = 0,
	KLP_OBJECTS = 200,
	KLP_FUNCS_VMLINUX = KLP_OBJECTS + 3 * 168,
	KLP_FUNCS_LOOP = KLP_FUNCS_VMLINUX + 3 * 152,
	KLP_STATES = KLP_FUNCS_LOOP + 2 * 152,
	KLP_END = KLP_STATES + 2 * 24,
};

static void fill_klp_functions(Synth *self, guint data)
{
	guint cmdline = synth_function(self, "new_cmdline_proc_show", 48);
	guint sysinfo = synth_function(self, "new_sysinfo", 32);
	guint ioctl = synth_function(self, "new_lo_ioctl", 64);

	synth_string(self, data, KLP_FUNCS_VMLINUX, "cmdline_proc_show");
	synth_pointer(self, data, KLP_FUNCS_VMLINUX + 8, cmdline, 0);
	synth_string(self, data, KLP_FUNCS_VMLINUX + 152, "sysinfo");
	synth_pointer(self, data, KLP_FUNCS_VMLINUX + 152 + 8, sysinfo, 0);
	synth_bytes(self, data)[KLP_FUNCS_VMLINUX + 152 + 16] = 2;
	synth_string(self, data, KLP_FUNCS_LOOP, "lo_ioctl");
	synth_pointer(self, data, KLP_FUNCS_LOOP + 8, ioctl, 0);
}

Synth *synth_klp(void)
{
	Synth *self = synth_new();
	guint data =
		synth_section(self, ".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, NULL, KLP_END);
	guint start = synth_symbol(self, "patch", data, 0, 200, STT_OBJECT);
	guint callback = synth_function(self, "callback", 16);

	synth_livepatch_module(self);
	synth_pointer(self, data, KLP_PATCH, find_this_module(self), 0);
	synth_pointer(self, data, KLP_PATCH + 8, start, KLP_OBJECTS);
	synth_pointer(self, data, KLP_PATCH + 16, start, KLP_STATES);
	synth_bytes(self, data)[KLP_PATCH + 24] = 1;
	synth_pointer(self, data, KLP_OBJECTS + 8, start, KLP_FUNCS_VMLINUX);
	synth_pointer(self, data, KLP_OBJECTS + 16, callback, 0);
	synth_pointer(self, data, KLP_OBJECTS + 40, callback, 0);
	synth_string(self, data, KLP_OBJECTS + 168, "loop");
	synth_pointer(self, data, KLP_OBJECTS + 168 + 8, start, KLP_FUNCS_LOOP);
	fill_klp_functions(self, data);
	synth_bytes(self, data)[KLP_STATES] = 7;
	synth_bytes(self, data)[KLP_STATES + 8] = 3;
	add_klp_symbol(self);
	return self;
}

Synth *synth_klp_build(const char *objects_section, const char *funcs_section)
{
	Synth *self = synth_new();
	guint objects = synth_section(self, objects_section, SHT_PROGBITS, SHF_ALLOC | SHF_WRITE,
				      NULL, 2 * 64);
	guint funcs = synth_section(self, funcs_section, SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, NULL,
				    2 * 24);
	guint start = synth_symbol(self, "funcs", funcs, 0, 0, STT_OBJECT);
	guint cmdline = synth_function(self, "cmdline_proc_show", 48);
	guint ioctl = synth_function(self, "lo_ioctl", 64);

	synth_livepatch_module(self);
	synth_pointer(self, objects, 8, start, 0);
	synth_pointer(self, objects, 24, cmdline, 0);
	synth_bytes(self, objects)[56] = 1;
	synth_string(self, objects, 64, "loop");
	synth_pointer(self, objects, 64 + 8, start, 24);
	synth_bytes(self, objects)[64 + 56] = 1;
	synth_string(self, funcs, 0, "cmdline_proc_show");
	synth_pointer(self, funcs, 8, cmdline, 0);
	synth_string(self, funcs, 24, "lo_ioctl");
	synth_pointer(self, funcs, 24 + 8, ioctl, 0);
	synth_bytes(self, funcs)[24 + 16] = 1;
	/* What post-link leaves of an entry that became a klp relocation. */
	synth_rela(self, funcs, 0, 0, R_X86_64_NONE, 0);
	synth_symbol(self, ".klp.tombstone.some_key", SHN_UNDEF, 0, 0, STT_NOTYPE);
	add_klp_symbol(self);
	return self;
}

Synth *synth_kpatch(void)
{
	Synth *self = synth_new();
	guint funcs = synth_section(self, ".kpatch.funcs", SHT_PROGBITS, SHF_ALLOC, NULL, 2 * 56);
	guint callbacks = synth_section(self, ".kpatch.callbacks.pre_unpatch", SHT_PROGBITS,
					SHF_ALLOC | SHF_WRITE, NULL, 16 + 8);
	guint cmdline = synth_function(self, "cmdline_proc_show", 48);
	guint ioctl = synth_function(self, "lo_ioctl", 64);

	synth_livepatch_module(self);
	synth_pointer(self, funcs, 0, cmdline, 0);
	synth_bytes(self, funcs)[8] = 48;
	synth_string(self, funcs, 40, "cmdline_proc_show");
	synth_string(self, funcs, 48, "vmlinux");
	synth_pointer(self, funcs, 56, ioctl, 0);
	synth_bytes(self, funcs)[56 + 8] = 64;
	synth_bytes(self, funcs)[56 + 32] = 1;
	synth_string(self, funcs, 56 + 40, "lo_ioctl");
	synth_string(self, funcs, 56 + 48, "loop");
	synth_pointer(self, callbacks, 0, ioctl, 0);
	synth_string(self, callbacks, 8, "loop");
	add_klp_symbol(self);
	return self;
}

GBytes *synth_klp_file(void)
{
	g_autoptr(Synth) synth = synth_klp();

	return synth_finish(synth);
}

GBytes *synth_klp_build_file(void)
{
	g_autoptr(Synth) synth = synth_klp_build(".init.klp_objects", ".init.klp_funcs");

	return synth_finish(synth);
}

GBytes *synth_kpatch_file(void)
{
	g_autoptr(Synth) synth = synth_kpatch();

	return synth_finish(synth);
}

GBytes *synth_sign(GBytes *unsigned_file)
{
	static const char marker[] = "~Module signature appended~\n";
	/* PKCS#7, no signer, no key id, 100 bytes in big endian. */
	static const guint8 trailer[12] = { 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 100 };
	guint8 signature[100] = { 0x30 };
	GByteArray *file = g_byte_array_new();
	gsize size_bytes;
	const guint8 *bytes = g_bytes_get_data(unsigned_file, &size_bytes);

	g_byte_array_append(file, bytes, (guint)size_bytes);
	g_byte_array_append(file, signature, sizeof signature);
	g_byte_array_append(file, trailer, sizeof trailer);
	g_byte_array_append(file, (const guint8 *)marker, sizeof marker - 1);
	return g_byte_array_free_to_bytes(file);
}
