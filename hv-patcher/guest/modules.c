/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/modules.h"

#include "base/bytes.h"

#include <elf.h>
#include <string.h>

#define MAX_MODULE_STRUCT_BYTES (64U << 10)
#define MAX_MODULE_SYMBOLS (1U << 20)
#define MAX_MODULE_STRINGS_BYTES (64U << 20)
#define MAX_MODULE_ORC_ENTRIES (2U << 20)
/* Symbols and ORC tables of all modules together. */
#define MAX_LOADED_BYTES (1U << 30)
/* Elf64_Sym: st_name u32, st_info u8, st_other u8, st_shndx u16, st_value u64, st_size u64. */
#define ELF_SYMBOL_BYTES 24U
#define ELF_SYMBOL_SECTION 6U

typedef struct HvpModuleSymbols {
	guint32 count;
	guint8 *table;
	char *strings;
	gsize strings_bytes;
} ModuleSymbols;

struct HvpModules {
	HvpKernel *kernel;
	GPtrArray *modules; /* HvpModule */
	GPtrArray *copies;  /* the struct module of each, as it was read */
	HvpGva head;
	guint64 first;	 /* the list's head as it was read */
	guint8 *scratch; /* room for one struct module */
	guint32 module_bytes;
	guint64 loaded_bytes; /* of symbols and ORC tables */
};

static void symbols_free(ModuleSymbols *symbols)
{
	if (symbols == NULL)
		return;
	g_free(symbols->table);
	g_free(symbols->strings);
	g_free(symbols);
}

static void module_free(gpointer data)
{
	HvpModule *module = data;

	hvp_orc_free(module->orc);
	symbols_free(module->symbols);
	g_free(module);
}

void hvp_modules_free(HvpModules *self)
{
	if (self == NULL)
		return;
	g_ptr_array_unref(self->modules);
	g_ptr_array_unref(self->copies);
	g_free(self->scratch);
	g_free(self);
}

static guint64 field_u64(const HvpModules *self, const guint8 *copy, HvpLayoutItem item)
{
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);

	return hvp_layout_has(layout, item) ? hvp_load_u64(copy + hvp_layout_get(layout, item)) : 0;
}

static guint32 field_u32(const HvpModules *self, const guint8 *copy, HvpLayoutItem item)
{
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);

	return hvp_layout_has(layout, item) ? hvp_load_u32(copy + hvp_layout_get(layout, item)) : 0;
}

static HvpGvaRange range_of(guint64 base, guint32 bytes)
{
	/* A size that would wrap is no range. */
	if (base + bytes < base)
		bytes = 0;
	return (HvpGvaRange){ hvp_gva(base), hvp_gva(base + bytes) };
}

/* Since 6.4: mem[type] of struct module_memory. */
static HvpGvaRange memory_range(const HvpModules *self, const guint8 *copy, HvpLayoutItem type)
{
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);
	guint32 at = hvp_layout_get(layout, HVP_AT_MODULE_MEM) +
		     hvp_layout_get(layout, type) *
			     hvp_layout_get(layout, HVP_AT_MODULE_MEMORY_STRIDE);

	return range_of(
		hvp_load_u64(copy + at + hvp_layout_get(layout, HVP_AT_MODULE_MEMORY_BASE)),
		hvp_load_u32(copy + at + hvp_layout_get(layout, HVP_AT_MODULE_MEMORY_SIZE)));
}

static void decode_ranges(const HvpModules *self, const guint8 *copy, HvpModule *module)
{
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);

	if (hvp_layout_has(layout, HVP_AT_MODULE_MEM)) {
		module->text = memory_range(self, copy, HVP_AT_MOD_TEXT);
		module->init_text = memory_range(self, copy, HVP_AT_MOD_INIT_TEXT);
		return;
	}
	module->text = range_of(field_u64(self, copy, HVP_AT_MODULE_CORE_BASE),
				field_u32(self, copy, HVP_AT_MODULE_CORE_TEXT_SIZE));
	module->init_text = range_of(field_u64(self, copy, HVP_AT_MODULE_INIT_BASE),
				     field_u32(self, copy, HVP_AT_MODULE_INIT_TEXT_SIZE));
}

static HvpModule *decode_module(const HvpModules *self, HvpGva address, const guint8 *copy)
{
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);
	HvpModule *module = g_new0(HvpModule, 1);

	module->address = address;
	memcpy(module->name, copy + hvp_layout_get(layout, HVP_AT_MODULE_NAME),
	       MIN(HVP_MODULE_NAME_BYTES - 1, layout->items[HVP_AT_MODULE_NAME].count));
	module->state = field_u32(self, copy, HVP_AT_MODULE_STATE);
	module->args = hvp_gva(field_u64(self, copy, HVP_AT_MODULE_ARGS));
	module->refcount = (gint32)field_u32(self, copy, HVP_AT_MODULE_REFCNT);
	module->orc_count = field_u32(self, copy, HVP_AT_MODULE_ORC_COUNT);
	module->orc_ips = hvp_gva(field_u64(self, copy, HVP_AT_MODULE_ORC_IP));
	module->orc_entries = hvp_gva(field_u64(self, copy, HVP_AT_MODULE_ORC));
	module->kallsyms = hvp_gva(field_u64(self, copy, HVP_AT_MODULE_KALLSYMS));
	module->jump_labels = hvp_gva(field_u64(self, copy, HVP_AT_MODULE_JUMP_ENTRIES));
	module->jump_label_count = field_u32(self, copy, HVP_AT_MODULE_JUMP_COUNT);
	module->static_calls = hvp_gva(field_u64(self, copy, HVP_AT_MODULE_STATIC_CALLS));
	module->static_call_count = field_u32(self, copy, HVP_AT_MODULE_STATIC_CALL_COUNT);
	module->exceptions = hvp_gva(field_u64(self, copy, HVP_AT_MODULE_EXTABLE));
	module->exception_count = field_u32(self, copy, HVP_AT_MODULE_EXTABLE_COUNT);
	decode_ranges(self, copy, module);
	return module;
}

static bool read_list(HvpModules *self, GError **error)
{
	HvpAddressSpace *space = hvp_kernel_get_space(self->kernel);
	guint32 list = hvp_layout_get(hvp_kernel_get_layout(self->kernel), HVP_AT_MODULE_LIST);
	guint64 previous = self->head.value, at;

	if (!hvp_address_space_read_u64(space, self->head, &self->first, error))
		return false;
	for (at = self->first; at != self->head.value;) {
		g_autofree guint8 *copy = g_malloc(self->module_bytes);

		if (self->modules->len >= HVP_MODULES_MAX)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "the guest's module list does not end");
		if (!hvp_address_space_read(space, hvp_gva(at - list), copy, self->module_bytes,
					    error))
			return false;
		if (hvp_load_u64(copy + list + 8) != previous)
			return hvp_error_set(error, HVP_ERROR_BUSY,
					     "the guest's module list is being changed");
		g_ptr_array_add(self->modules, decode_module(self, hvp_gva(at - list), copy));
		previous = at;
		at = hvp_load_u64(copy + list);
		g_ptr_array_add(self->copies, g_steal_pointer(&copy));
	}
	return true;
}

static bool require_all(const HvpLayout *layout, const HvpLayoutItem *items, guint count,
			GError **error)
{
	for (guint i = 0; i < count; i++)
		if (!hvp_layout_require(layout, items[i], error))
			return false;
	return true;
}

/* Whether every mem[] that is looked at lies in struct module, and its fields in it. */
static bool check_memory_layout(HvpModules *self, const HvpLayout *layout, GError **error)
{
	static const HvpLayoutItem needed[] = { HVP_AT_MODULE_MEMORY_BASE,
						HVP_AT_MODULE_MEMORY_SIZE,
						HVP_AT_MODULE_MEMORY_STRIDE, HVP_AT_MOD_TEXT,
						HVP_AT_MOD_INIT_TEXT };
	guint64 stride, last;

	if (!require_all(layout, needed, G_N_ELEMENTS(needed), error))
		return false;
	stride = hvp_layout_get(layout, HVP_AT_MODULE_MEMORY_STRIDE);
	last = MAX(hvp_layout_get(layout, HVP_AT_MOD_TEXT),
		   hvp_layout_get(layout, HVP_AT_MOD_INIT_TEXT));
	if (hvp_layout_get(layout, HVP_AT_MODULE_MEMORY_BASE) + 8 > stride ||
	    hvp_layout_get(layout, HVP_AT_MODULE_MEMORY_SIZE) + 4 > stride ||
	    hvp_layout_get(layout, HVP_AT_MODULE_MEM) + (last + 1) * stride > self->module_bytes)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "struct module_memory is malformed");
	return true;
}

static bool check_layout(HvpModules *self, GError **error)
{
	static const HvpLayoutItem needed[] = { HVP_AT_MODULE_LIST, HVP_AT_MODULE_NAME,
						HVP_AT_MODULE_STATE, HVP_AT_MODULE_ARGS,
						HVP_AT_MODULE_SIZE };
	static const HvpLayoutItem core[] = { HVP_AT_MODULE_CORE_BASE,
					      HVP_AT_MODULE_CORE_TEXT_SIZE };
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);
	bool since_6_4 = hvp_layout_has(layout, HVP_AT_MODULE_MEM);

	if (!require_all(layout, needed, G_N_ELEMENTS(needed), error) ||
	    (!since_6_4 && !require_all(layout, core, G_N_ELEMENTS(core), error)))
		return false;
	self->module_bytes = hvp_layout_get(layout, HVP_AT_MODULE_SIZE);
	if (hvp_layout_get(layout, HVP_AT_MODULE_LIST) + 16 > self->module_bytes ||
	    hvp_layout_get(layout, HVP_AT_MODULE_NAME) + HVP_MODULE_NAME_BYTES > self->module_bytes)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "struct module is malformed");
	if (self->module_bytes > MAX_MODULE_STRUCT_BYTES)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "struct module has %u bytes",
				     self->module_bytes);
	/* Offsets come from the same BTF as the size; one that passes it is a lie. */
	for (guint i = HVP_AT_MODULE_LIST; i <= HVP_AT_MODULE_MEM; i++)
		if (hvp_layout_has(layout, i) && layout->items[i].value + 8 > self->module_bytes)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "struct module is malformed");
	return !since_6_4 || check_memory_layout(self, layout, error);
}

HvpModules *hvp_modules_read(HvpKernel *kernel, GError **error)
{
	g_autoptr(HvpModules) self = g_new0(HvpModules, 1);

	self->kernel = kernel;
	self->modules = g_ptr_array_new_with_free_func(module_free);
	self->copies = g_ptr_array_new_with_free_func(g_free);
	if (!hvp_kernel_has_symbol(kernel, "modules"))
		return g_steal_pointer(&self);
	if (!hvp_kernel_symbol(kernel, "modules", &self->head, error) ||
	    !check_layout(self, error) || !read_list(self, error))
		return NULL;
	self->scratch = g_malloc(self->module_bytes);
	return g_steal_pointer(&self);
}

guint hvp_modules_count(const HvpModules *self)
{
	return self->modules->len;
}

HvpModule *hvp_modules_get(HvpModules *self, guint index)
{
	return g_ptr_array_index(self->modules, index);
}

HvpModule *hvp_modules_find(HvpModules *self, const char *name)
{
	for (guint i = 0; i < self->modules->len; i++)
		if (strcmp(hvp_modules_get(self, i)->name, name) == 0)
			return hvp_modules_get(self, i);
	return NULL;
}

HvpModule *hvp_modules_find_address(HvpModules *self, HvpGva pc)
{
	for (guint i = 0; i < self->modules->len; i++) {
		HvpModule *module = hvp_modules_get(self, i);

		if (hvp_gva_range_contains(module->text, pc) ||
		    hvp_gva_range_contains(module->init_text, pc))
			return module;
	}
	return NULL;
}

/* Takes @bytes of what all modules may have together; false when it is used up. */
static bool take_budget(HvpModules *self, guint64 bytes)
{
	if (bytes > MAX_LOADED_BYTES - self->loaded_bytes)
		return false;
	self->loaded_bytes += bytes;
	return true;
}

const HvpOrc *hvp_modules_get_orc(HvpModules *self, HvpModule *module)
{
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);
	guint64 entry_bytes = 4 + (guint64)hvp_layout_get(layout, HVP_AT_ORC_SIZE);

	if (module->orc == NULL && !module->orc_failed) {
		if (module->orc_count <= MAX_MODULE_ORC_ENTRIES &&
		    take_budget(self, module->orc_count * entry_bytes))
			module->orc = hvp_orc_load(self->kernel, module->orc_ips,
						   module->orc_entries, module->orc_count, NULL);
		module->orc_failed = module->orc == NULL;
	}
	return module->orc;
}

/* The three fields of the struct mod_kallsyms at @at. */
static bool read_kallsyms(HvpModules *self, HvpGva at, guint64 *ret_table, guint64 *ret_strings,
			  guint32 *ret_count)
{
	static const HvpLayoutItem needed[] = { HVP_AT_KALLSYMS_SYMTAB, HVP_AT_KALLSYMS_STRTAB,
						HVP_AT_KALLSYMS_COUNT };
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);
	HvpAddressSpace *space = hvp_kernel_get_space(self->kernel);

	if (!require_all(layout, needed, G_N_ELEMENTS(needed), NULL))
		return false;
	return hvp_address_space_read_u64(
		       space, hvp_gva_add(at, hvp_layout_get(layout, HVP_AT_KALLSYMS_SYMTAB)),
		       ret_table, NULL) &&
	       hvp_address_space_read_u64(
		       space, hvp_gva_add(at, hvp_layout_get(layout, HVP_AT_KALLSYMS_STRTAB)),
		       ret_strings, NULL) &&
	       hvp_address_space_read_u32(
		       space, hvp_gva_add(at, hvp_layout_get(layout, HVP_AT_KALLSYMS_COUNT)),
		       ret_count, NULL);
}

static bool read_symbol_table(HvpModules *self, HvpGva table, guint32 count, ModuleSymbols *symbols)
{
	gsize bytes = (gsize)count * ELF_SYMBOL_BYTES;

	if (count > MAX_MODULE_SYMBOLS || !take_budget(self, bytes))
		return false;
	symbols->table = g_try_malloc(bytes + 1);
	if (symbols->table == NULL || !hvp_address_space_read(hvp_kernel_get_space(self->kernel),
							      table, symbols->table, bytes, NULL))
		return false;
	for (guint32 i = 0; i < count; i++) {
		guint32 name = hvp_load_u32(symbols->table + (gsize)i * ELF_SYMBOL_BYTES);

		symbols->strings_bytes = MAX(symbols->strings_bytes, (gsize)name + 1);
	}
	return true;
}

static bool read_symbol_strings(HvpModules *self, HvpGva strings, ModuleSymbols *symbols)
{
	HvpAddressSpace *space = hvp_kernel_get_space(self->kernel);
	gsize bytes = symbols->strings_bytes, room = bytes + HVP_SYMBOLS_MAX_NAME_BYTES + 1;

	if (bytes > MAX_MODULE_STRINGS_BYTES || !take_budget(self, room))
		return false;
	symbols->strings = g_try_malloc0(room);
	if (symbols->strings == NULL ||
	    !hvp_address_space_read(space, strings, symbols->strings, bytes, NULL))
		return false;
	/* Where the last string ends is unknown: a name more, as far as it is mapped. */
	if (symbols->strings[bytes - 1] != 0)
		(void)!hvp_address_space_read_string(space, hvp_gva_add(strings, bytes),
						     symbols->strings + bytes,
						     HVP_SYMBOLS_MAX_NAME_BYTES, NULL);
	return true;
}

/* None where they cannot be read. */
static ModuleSymbols *load_symbols(HvpModules *self, HvpModule *module)
{
	ModuleSymbols *symbols = g_new0(ModuleSymbols, 1);
	guint64 table, strings;
	guint32 count;

	if (read_kallsyms(self, module->kallsyms, &table, &strings, &count) && count > 0 &&
	    read_symbol_table(self, hvp_gva(table), count, symbols) &&
	    read_symbol_strings(self, hvp_gva(strings), symbols))
		symbols->count = count;
	return symbols;
}

bool hvp_modules_symbolize(HvpModules *self, HvpModule *module, HvpGva pc, const char **ret_name,
			   HvpGvaRange *ret_range)
{
	const guint8 *best = NULL;
	guint64 end = module->text.end.value;

	if (module->symbols == NULL)
		module->symbols = load_symbols(self, module);
	for (guint32 i = 0; i < module->symbols->count; i++) {
		const guint8 *symbol = module->symbols->table + (gsize)i * ELF_SYMBOL_BYTES;
		guint64 value = hvp_load_u64(symbol + 8);

		/* Nameless ones (of sections) are no function; the kernel skips them, too. */
		if (!hvp_gva_range_contains(module->text, hvp_gva(value)) ||
		    module->symbols->strings[hvp_load_u32(symbol)] == 0)
			continue;
		if (value <= pc.value && (best == NULL || value > hvp_load_u64(best + 8)))
			best = symbol;
		if (value > pc.value)
			end = MIN(end, value);
	}
	/* Symbols of the init part are not looked at. */
	if (best == NULL || pc.value >= end)
		return false;
	*ret_name = module->symbols->strings + hvp_load_u32(best);
	ret_range->start = hvp_gva(hvp_load_u64(best + 8));
	ret_range->end = hvp_gva(end);
	return true;
}

/* The index'th symbol's name; loads the table. NULL behind the last. */
static const char *symbol_name(HvpModules *self, HvpModule *module, guint32 index,
			       HvpGva *ret_value)
{
	const guint8 *symbol;

	if (module->symbols == NULL)
		module->symbols = load_symbols(self, module);
	if (index >= module->symbols->count)
		return NULL;
	symbol = module->symbols->table + (gsize)index * ELF_SYMBOL_BYTES;
	*ret_value = hvp_gva(hvp_load_u64(symbol + 8));
	return module->symbols->strings + hvp_load_u32(symbol);
}

bool hvp_modules_module_has_symbol(HvpModules *self, HvpModule *module, const char *name)
{
	const char *found;
	HvpGva value;

	for (guint32 i = 0; (found = symbol_name(self, module, i, &value)) != NULL; i++)
		if (strcmp(found, name) == 0)
			return true;
	return false;
}

/* Of a symbol that symbol_name() has told. */
static bool is_defined(const HvpModule *module, guint32 index)
{
	const guint8 *symbol = module->symbols->table + (gsize)index * ELF_SYMBOL_BYTES;

	return hvp_load_u16(symbol + ELF_SYMBOL_SECTION) != SHN_UNDEF;
}

bool hvp_modules_function(HvpModules *self, HvpModule *module, const char *name, guint64 position,
			  HvpGvaRange *ret_range, GError **error)
{
	const char *found, *ignored;
	HvpGva value, chosen = { 0 };
	guint64 count = 0;

	/* Data of that name counts as well: positions are those of klp_find_callback(). */
	for (guint32 i = 0; (found = symbol_name(self, module, i, &value)) != NULL; i++) {
		if (strcmp(found, name) != 0 || !is_defined(module, i))
			continue;
		count++;
		if (count == MAX(position, 1))
			chosen = value;
	}
	if (count == 0 || count < position)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
				     "module %s has %s function %s in the guest", module->name,
				     count == 0 ? "no" : "no such", name);
	if (position == 0 && count > 1)
		return hvp_error_set(error, HVP_ERROR_AMBIGUOUS,
				     "module %s has %" G_GUINT64_FORMAT
				     " symbols named %s, the patch does not say which",
				     module->name, count, name);
	if (!hvp_gva_range_contains(module->text, chosen) ||
	    !hvp_modules_symbolize(self, module, chosen, &ignored, ret_range))
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
				     "function %s of module %s has no place in its text", name,
				     module->name);
	return true;
}

GArray *hvp_modules_functions_named(HvpModules *self, HvpModule *module, const char *name)
{
	GArray *ranges = g_array_new(FALSE, FALSE, sizeof(HvpGvaRange));
	gsize length = strlen(name);
	const char *found;
	HvpGva value;

	for (guint32 i = 0; (found = symbol_name(self, module, i, &value)) != NULL; i++) {
		HvpGvaRange range;
		const char *ignored;

		if (strncmp(found, name, length) == 0 &&
		    (found[length] == 0 || found[length] == '.') &&
		    hvp_gva_range_contains(module->text, value) &&
		    hvp_modules_symbolize(self, module, value, &ignored, &range))
			g_array_append_val(ranges, range);
	}
	return ranges;
}

bool hvp_modules_is_live(const HvpModules *self, const HvpModule *module)
{
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);

	return hvp_layout_has(layout, HVP_AT_MODULE_STATE_LIVE) &&
	       module->state == hvp_layout_get(layout, HVP_AT_MODULE_STATE_LIVE);
}

bool hvp_modules_has_symbol(HvpModules *self, const char *name)
{
	for (guint i = 0; i < self->modules->len; i++)
		if (hvp_modules_module_has_symbol(self, hvp_modules_get(self, i), name))
			return true;
	return false;
}

/* What must not have changed: the links, and what a range or table hangs on. */
static bool same_module(const HvpModules *self, const guint8 *old_copy, const guint8 *new_copy)
{
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);
	HvpModule *was = decode_module(self, hvp_gva(0), old_copy);
	HvpModule *now = decode_module(self, hvp_gva(0), new_copy);
	guint32 list = hvp_layout_get(layout, HVP_AT_MODULE_LIST);
	bool same = memcmp(old_copy + list, new_copy + list, 16) == 0 &&
		    strcmp(was->name, now->name) == 0 && was->state == now->state &&
		    memcmp(&was->text, &now->text, sizeof was->text) == 0 &&
		    memcmp(&was->init_text, &now->init_text, sizeof was->init_text) == 0 &&
		    was->orc_count == now->orc_count && was->args.value == now->args.value &&
		    was->orc_ips.value == now->orc_ips.value &&
		    was->orc_entries.value == now->orc_entries.value;

	g_free(was);
	g_free(now);
	return same;
}

bool hvp_modules_still_hold(HvpModules *self)
{
	HvpAddressSpace *space = hvp_kernel_get_space(self->kernel);
	guint64 first;

	if (self->head.value == 0)
		return true;
	if (!hvp_address_space_read_u64(space, self->head, &first, NULL) || first != self->first)
		return false;
	for (guint i = 0; i < self->modules->len; i++) {
		if (!hvp_address_space_read(space, hvp_modules_get(self, i)->address, self->scratch,
					    self->module_bytes, NULL) ||
		    !same_module(self, g_ptr_array_index(self->copies, i), self->scratch))
			return false;
	}
	return true;
}
