/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/gdb-target.h"

#include <string.h>

#include "base/bytes.h"

#define MAX_REGISTER_BITS 4096

typedef struct {
	const char *name;
	gsize offset; /* into HvpRegisters */
	guint size_bytes; /* there */
	guint least_bytes; /* in the stub */
} Field;

#define GENERAL(name, index) { name, G_STRUCT_OFFSET(HvpRegisters, general[index]), 8, 8 }
#define CONTROL(name, member) { name, G_STRUCT_OFFSET(HvpRegisters, member), 8, 8 }
#define FLAGS(name, member) { name, G_STRUCT_OFFSET(HvpRegisters, member), 8, 4 }
#define SELECTOR(name, member) { name, G_STRUCT_OFFSET(HvpRegisters, member), 4, 4 }

/* In the order of writing: what may be written first, RSP and RIP last of it. */
static const Field fields[HVP_GDB_TARGET_FIELDS] = {
	GENERAL("rax", HVP_RAX), GENERAL("rcx", HVP_RCX), GENERAL("rdx", HVP_RDX),
	GENERAL("rbx", HVP_RBX), GENERAL("rbp", HVP_RBP), GENERAL("rsi", HVP_RSI),
	GENERAL("rdi", HVP_RDI), GENERAL("r8", HVP_R8), GENERAL("r9", HVP_R9),
	GENERAL("r10", HVP_R10), GENERAL("r11", HVP_R11), GENERAL("r12", HVP_R12),
	GENERAL("r13", HVP_R13), GENERAL("r14", HVP_R14), GENERAL("r15", HVP_R15),
	FLAGS("eflags", rflags), GENERAL("rsp", HVP_RSP), CONTROL("rip", rip),
	SELECTOR("cs", cs), SELECTOR("ss", ss),
	CONTROL("fs_base", fs_base), CONTROL("gs_base", gs_base),
	CONTROL("k_gs_base", kernel_gs_base),
	CONTROL("cr0", cr0), CONTROL("cr3", cr3), CONTROL("cr4", cr4), CONTROL("efer", efer),
};

#define WRITABLE_FIELDS 18

typedef struct {
	HvpGdbTarget *target;
	guint next_number;
	gsize next_offset_bytes;
	bool seen[HVP_GDB_TARGET_FIELDS];
	GPtrArray *includes;
} Reader;

static const char *attribute(const gchar **names, const gchar **values, const char *name)
{
	for (guint i = 0; names[i] != NULL; i++)
		if (strcmp(names[i], name) == 0)
			return values[i];
	return NULL;
}

static bool attribute_number(const char *text, guint64 limit, guint *ret_number, GError **error)
{
	guint64 number;

	if (text == NULL || !g_ascii_string_to_unsigned(text, 10, 0, limit, &number, NULL))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "gdb stub describes a register without a size or number");
	*ret_number = (guint)number;
	return true;
}

static bool record(Reader *self, guint field, guint size_bytes, GError **error)
{
	HvpGdbTargetField *place = &self->target->fields[field];

	if (self->seen[field] || (size_bytes != 4 && size_bytes != 8) ||
	    size_bytes < fields[field].least_bytes)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "gdb stub's register %s has %u bytes or comes twice",
				     fields[field].name, size_bytes);
	self->seen[field] = true;
	*place = (HvpGdbTargetField){ self->next_number, self->next_offset_bytes, size_bytes };
	self->target->g_bytes = MAX(self->target->g_bytes, self->next_offset_bytes + size_bytes);
	return true;
}

static bool read_register(Reader *self, const gchar **names, const gchar **values, GError **error)
{
	const char *name = attribute(names, values, "name");
	const char *number_text = attribute(names, values, "regnum");
	guint bits = 0, number = self->next_number;

	if (!attribute_number(attribute(names, values, "bitsize"), MAX_REGISTER_BITS, &bits,
			      error))
		return false;
	if (number_text != NULL &&
	    !attribute_number(number_text, HVP_GDB_TARGET_MAX_REGISTERS, &number, error))
		return false;
	/* A gap would shift all offsets behind it. */
	if (number != self->next_number || number >= HVP_GDB_TARGET_MAX_REGISTERS || bits % 8 != 0)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "gdb stub numbers its registers with gaps");
	for (guint i = 0; name != NULL && i < HVP_GDB_TARGET_FIELDS; i++)
		if (strcmp(fields[i].name, name) == 0 &&
		    !record(self, i, bits / 8, error))
			return false;
	self->next_number++;
	self->next_offset_bytes += bits / 8;
	return true;
}

static void start_element(GMarkupParseContext *context G_GNUC_UNUSED, const gchar *element,
			  const gchar **names, const gchar **values, gpointer user_data,
			  GError **error)
{
	Reader *self = user_data;
	const char *href;

	if (self->includes == NULL) {
		if (strcmp(element, "reg") == 0 && !read_register(self, names, values, error))
			return;
	} else if (strcmp(element, "xi:include") == 0) {
		href = attribute(names, values, "href");
		if (href == NULL || self->includes->len == HVP_GDB_TARGET_MAX_INCLUDES ||
		    strlen(href) > 64 || strpbrk(href, ":#$}*,") != NULL)
			hvp_error_set(error, HVP_ERROR_BAD_DATA,
				      "gdb stub's target description has bad includes");
		else
			g_ptr_array_add(self->includes, g_strdup(href));
	}
}

static bool read_xml(Reader *self, const char *xml, GError **error)
{
	static const GMarkupParser parser = { .start_element = start_element };
	g_autoptr(GMarkupParseContext) context =
		g_markup_parse_context_new(&parser, 0, self, NULL);
	g_autoptr(GError) local = NULL;

	if (g_markup_parse_context_parse(context, xml, -1, &local) &&
	    g_markup_parse_context_end_parse(context, &local))
		return true;
	if (local->domain == HVP_ERROR)
		g_propagate_error(error, g_steal_pointer(&local));
	else
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "gdb stub's target description: %s",
			      local->message);
	return false;
}

GPtrArray *hvp_gdb_target_find_includes(const char *xml, GError **error)
{
	g_autoptr(GPtrArray) includes = g_ptr_array_new_with_free_func(g_free);
	Reader reader = { .includes = includes };

	if (!read_xml(&reader, xml, error))
		return NULL;
	return g_steal_pointer(&includes);
}

bool hvp_gdb_target_parse(HvpGdbTarget *ret_target, const GPtrArray *xmls, GError **error)
{
	HvpGdbTarget target = { 0 };
	Reader reader = { .target = &target };

	for (guint i = 0; i < xmls->len; i++)
		if (!read_xml(&reader, g_ptr_array_index(xmls, i), error))
			return false;
	for (guint i = 0; i < HVP_GDB_TARGET_FIELDS; i++)
		if (!reader.seen[i])
			return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
					     "gdb stub has no register %s", fields[i].name);
	*ret_target = target;
	return true;
}

void hvp_gdb_target_load(const HvpGdbTarget *self, const guint8 *bytes, HvpRegisters *ret_registers)
{
	memset(ret_registers, 0, sizeof *ret_registers);
	for (guint i = 0; i < HVP_GDB_TARGET_FIELDS; i++) {
		const HvpGdbTargetField *field = &self->fields[i];
		const guint8 *place = bytes + field->offset_bytes;
		guint8 *member = (guint8 *)ret_registers + fields[i].offset;
		guint64 value = field->size_bytes == 8 ? hvp_load_u64(place) : hvp_load_u32(place);

		if (fields[i].size_bytes == 8)
			memcpy(member, &value, 8);
		else
			memcpy(member, &(guint32){ (guint32)value }, 4);
	}
}

guint64 hvp_gdb_target_value(const HvpRegisters *registers, guint index)
{
	const guint8 *member = (const guint8 *)registers + fields[index].offset;
	guint32 narrow;
	guint64 wide;

	if (fields[index].size_bytes == 8) {
		memcpy(&wide, member, 8);
		return wide;
	}
	memcpy(&narrow, member, 4);
	return narrow;
}

guint hvp_gdb_target_difference(const HvpRegisters *from, const HvpRegisters *to,
				guint ret_fields[HVP_GDB_TARGET_FIELDS])
{
	guint count = 0;

	for (guint i = 0; i < WRITABLE_FIELDS; i++)
		if (hvp_gdb_target_value(from, i) != hvp_gdb_target_value(to, i))
			ret_fields[count++] = i;
	return count;
}
