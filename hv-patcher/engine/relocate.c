/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/relocate.h"

#include "base/bytes.h"

#include <elf.h>
#include <string.h>

#define PREFIX ".klp.rela."
#define SHF_RELA_LIVEPATCH 0x00100000U
#define MAX_SECTION_NAME_BYTES 512U

/* What the loader kept of the module's ELF file. */
typedef struct {
	guint16 count;
	HvpGva sections; /* Elf64_Shdr[count] */
	HvpGva names;
	HvpGva strings; /* of the symbols */
	guint32 symbols_index;
} ElfInfo;

static bool read_info(HvpKernel *kernel, HvpGva module, ElfInfo *ret_info, GError **error)
{
	static const HvpLayoutItem needed[] = {
		HVP_AT_MODULE_KLP_INFO, HVP_AT_MODULE_CORE_KALLSYMS, HVP_AT_KALLSYMS_STRTAB,
		HVP_AT_KLP_INFO_HDR,	HVP_AT_KLP_INFO_SECTIONS,    HVP_AT_KLP_INFO_NAMES,
		HVP_AT_KLP_INFO_SYMBOLS
	};
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	HvpAddressSpace *space = hvp_kernel_get_space(kernel);
	guint8 header[sizeof(Elf64_Ehdr)];
	guint64 info;

	for (guint i = 0; i < G_N_ELEMENTS(needed); i++)
		if (!hvp_layout_require(layout, needed[i], error))
			return false;
	if (!hvp_address_space_read_u64(
		    space, hvp_gva_add(module, hvp_layout_get(layout, HVP_AT_MODULE_KLP_INFO)),
		    &info, error) ||
	    !hvp_address_space_read_u64(
		    space,
		    hvp_gva_add(module, hvp_layout_get(layout, HVP_AT_MODULE_CORE_KALLSYMS) +
						hvp_layout_get(layout, HVP_AT_KALLSYMS_STRTAB)),
		    &ret_info->strings.value, error) ||
	    !hvp_address_space_read(space,
				    hvp_gva(info + hvp_layout_get(layout, HVP_AT_KLP_INFO_HDR)),
				    header, sizeof header, error) ||
	    !hvp_address_space_read_u64(
		    space, hvp_gva(info + hvp_layout_get(layout, HVP_AT_KLP_INFO_SECTIONS)),
		    &ret_info->sections.value, error) ||
	    !hvp_address_space_read_u64(
		    space, hvp_gva(info + hvp_layout_get(layout, HVP_AT_KLP_INFO_NAMES)),
		    &ret_info->names.value, error) ||
	    !hvp_address_space_read_u32(
		    space, hvp_gva(info + hvp_layout_get(layout, HVP_AT_KLP_INFO_SYMBOLS)),
		    &ret_info->symbols_index, error))
		return false;
	ret_info->count = hvp_load_u16(header + G_STRUCT_OFFSET(Elf64_Ehdr, e_shnum));
	return true;
}

/* Whether @section is named .klp.rela.OBJECT.SOMETHING. */
static bool is_of_object(HvpKernel *kernel, const ElfInfo *info, const Elf64_Shdr *section,
			 const char *object)
{
	char name[MAX_SECTION_NAME_BYTES];
	gsize length = strlen(object);

	return (section->sh_flags & SHF_RELA_LIVEPATCH) != 0 &&
	       hvp_address_space_read_string(hvp_kernel_get_space(kernel),
					     hvp_gva_add(info->names, section->sh_name), name,
					     sizeof name, NULL) &&
	       g_str_has_prefix(name, PREFIX) &&
	       strncmp(name + strlen(PREFIX), object, length) == 0 &&
	       name[strlen(PREFIX) + length] == '.';
}

static bool apply_section(HvpBorrow *borrow, const ElfInfo *info, HvpGva module, guint index,
			  const char *object, HvpDeadline deadline, GError **error)
{
	HvpGva name = hvp_gva_add(hvp_borrow_scratch(borrow), HVP_BORROW_SCRATCH_BYTES / 2);
	guint64 arguments[] = { module.value,	     info->sections.value, info->names.value,
				info->strings.value, info->symbols_index,  index,
				name.value };
	guint64 value;

	/* Behind the arguments that do not fit in registers. */
	if (!hvp_borrow_write(borrow, name, object, strlen(object) + 1, error) ||
	    !hvp_borrow_call_name(borrow, "klp_apply_section_relocs", arguments,
				  G_N_ELEMENTS(arguments), deadline, &value, error))
		return false;
	if ((gint32)value == 0)
		return true;
	return hvp_error_set(error, HVP_ERROR_CONFLICT,
			     "the guest cannot relocate the patch for module %s: %s (its log says "
			     "why)",
			     object, g_strerror(-(gint32)value));
}

bool hvp_relocate_object(HvpBorrow *borrow, HvpKernel *kernel, HvpGva module, const char *name,
			 HvpDeadline deadline, GError **error)
{
	g_autofree Elf64_Shdr *sections = NULL;
	ElfInfo info = { 0 };

	if (!read_info(kernel, module, &info, error))
		return false;
	sections = g_new(Elf64_Shdr, (gsize)info.count + 1);
	if (!hvp_address_space_read(hvp_kernel_get_space(kernel), info.sections, sections,
				    info.count * sizeof *sections, error))
		return false;
	for (guint i = 1; i < info.count; i++)
		if (is_of_object(kernel, &info, &sections[i], name) &&
		    !apply_section(borrow, &info, module, i, name, deadline, error))
			return false;
	return true;
}
