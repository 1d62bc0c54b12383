/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "guest/modules.h"
#include "synthetic-guest.h"

typedef struct {
	SyntheticGuest *guest;
	HvpKernel *kernel;
	HvpGva first, second;
} Fixture;

static void set_up(Fixture *self, Generation generation)
{
	SyntheticOptions options = { .generation = generation };

	self->guest = synthetic_guest_new(&options);
	self->first = synthetic_guest_add_module(self->guest, "first_module");
	self->second = synthetic_guest_add_module(self->guest, "second");
	self->kernel = synthetic_guest_attach(self->guest);
}

static void tear_down(Fixture *self)
{
	hvp_kernel_free(self->kernel);
	synthetic_guest_free(self->guest);
}

static HvpModules *read_modules(Fixture *self)
{
	g_autoptr(GError) error = NULL;
	HvpModules *modules;

	hvp_address_space_forget(hvp_kernel_get_space(self->kernel));
	modules = hvp_modules_read(self->kernel, &error);
	g_assert_no_error(error);
	return modules;
}

static void assert_refused(HvpKernel *kernel, HvpErrorCode code)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpModules) modules = hvp_modules_read(kernel, &error);

	g_assert_null(modules);
	g_assert_error(error, HVP_ERROR, (int)code);
}

static void test_read(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		g_autoptr(HvpModules) modules = NULL;
		HvpModule *module;
		Fixture f;

		set_up(&f, generation);
		modules = read_modules(&f);
		g_assert_cmpuint(hvp_modules_count(modules), ==, 2);
		module = hvp_modules_find(modules, "second");
		g_assert_true(module == hvp_modules_get(modules, 1));
		g_assert_cmphex(module->address.value, ==, f.second.value);
		g_assert_cmpuint(hvp_gva_range_size(module->text), ==, HVP_PAGE_SIZE);
		g_assert_cmpuint(hvp_gva_range_size(module->init_text), ==, 0);
		g_assert_cmpint(module->refcount, ==, 1);
		g_assert_cmpuint(module->state, ==, 0);
		g_assert_cmphex(module->args.value, !=, 0);
		g_assert_null(hvp_modules_find(modules, "third"));
		g_assert_true(hvp_modules_find_address(modules, module->text.start) == module);
		g_assert_true(hvp_modules_find_address(
				      modules, hvp_gva(module->text.end.value - 1)) == module);
		g_assert_null(hvp_modules_find_address(modules, module->text.end));
		g_assert_null(hvp_modules_find_address(modules, hvp_gva(0)));
		g_assert_true(hvp_modules_still_hold(modules));
		tear_down(&f);
	}
}

static void test_empty(void)
{
	static const char *const without[] = { NULL, "modules" };

	for (guint i = 0; i < G_N_ELEMENTS(without); i++) {
		SyntheticOptions options = { .without = without[i] };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
		g_autoptr(HvpModules) modules = hvp_modules_read(kernel, NULL);

		g_assert_cmpuint(hvp_modules_count(modules), ==, 0);
		g_assert_true(hvp_modules_still_hold(modules));
		g_assert_false(hvp_modules_has_symbol(modules, "x"));
	}
	hvp_modules_free(NULL);
}

static void test_missing_layout(void)
{
	static const char *const items[] = { "module",	     "module.list",  "module.name",
					     "module.state", "module.args",  "module_memory.base",
					     "MOD_TEXT",     "module_memory" };

	for (guint i = 0; i < G_N_ELEMENTS(items); i++) {
		SyntheticOptions options = { .generation = GENERATION_6_12, .missing = items[i] };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);

		assert_refused(kernel, HVP_ERROR_UNSUPPORTED);
	}
}

static void test_links(void)
{
	static const guint64 nowhere[] = { 0, 0x1000, 0x4141414141414141, G_MAXUINT64 };

	for (guint generation = 0; generation < 2; generation++) {
		Fixture f;
		HvpGva link, head, first;

		set_up(&f, generation);
		head = synthetic_guest_symbol(f.guest, "modules");
		first = synthetic_guest_member(f.guest, f.first, HVP_AT_MODULE_LIST);
		link = synthetic_guest_member(f.guest, f.second, HVP_AT_MODULE_LIST);
		for (guint i = 0; i < G_N_ELEMENTS(nowhere); i++) {
			synthetic_guest_put(f.guest, link, nowhere[i]);
			assert_refused(f.kernel, HVP_ERROR_FAULT);
		}
		/* A cycle past the head; itself; a back link that leads elsewhere. */
		synthetic_guest_put(f.guest, link, first.value);
		assert_refused(f.kernel, HVP_ERROR_BUSY);
		synthetic_guest_put(f.guest, link, link.value);
		assert_refused(f.kernel, HVP_ERROR_BUSY);
		synthetic_guest_put(f.guest, link, head.value);
		synthetic_guest_put(f.guest, hvp_gva_add(link, 8), head.value);
		assert_refused(f.kernel, HVP_ERROR_BUSY);
		f.guest->memory->gone = true;
		assert_refused(f.kernel, HVP_ERROR_VM_GONE);
		tear_down(&f);
	}
}

/* Nodes so close together that what else is in a struct module overlaps. */
static void test_endless(void)
{
	enum { COUNT = HVP_MODULES_MAX + 1 };
	Fixture f;
	HvpGva first, head;

	set_up(&f, GENERATION_6_1);
	head = synthetic_guest_symbol(f.guest, "modules");
	first = synthetic_guest_alloc(
		f.guest, COUNT * 16 + 2 * hvp_layout_get(&f.guest->layout, HVP_AT_MODULE_SIZE));
	first = hvp_gva_add(first, hvp_layout_get(&f.guest->layout, HVP_AT_MODULE_LIST));
	for (guint i = 0; i < COUNT; i++) {
		HvpGva node = hvp_gva_add(first, i * 16);

		synthetic_guest_put(f.guest, node, node.value + 16);
		synthetic_guest_put(f.guest, hvp_gva_add(node, 8),
				    i == 0 ? head.value : node.value - 16);
	}
	synthetic_guest_put(f.guest, head, first.value);
	assert_refused(f.kernel, HVP_ERROR_BAD_DATA);
	/* As many as there may be. */
	synthetic_guest_put(f.guest, hvp_gva_add(first, (COUNT - 2) * 16), head.value);
	hvp_modules_free(read_modules(&f));
	tear_down(&f);
}

static void test_changes(void)
{
	static const HvpLayoutItem items[] = { HVP_AT_MODULE_LIST,     HVP_AT_MODULE_NAME,
					       HVP_AT_MODULE_STATE,    HVP_AT_MODULE_ARGS,
					       HVP_AT_MODULE_ORC,      HVP_AT_MODULE_ORC_IP,
					       HVP_AT_MODULE_ORC_COUNT };

	for (guint generation = 0; generation < 2; generation++) {
		g_autoptr(HvpModules) modules = NULL;
		Fixture f;

		set_up(&f, generation);
		modules = read_modules(&f);
		for (guint i = 0; i < G_N_ELEMENTS(items); i++) {
			HvpGva at = synthetic_guest_member(f.guest, f.first, items[i]);
			guint8 *byte = synthetic_guest_bytes(f.guest, at, 1);

			*byte ^= 1;
			g_assert_false(hvp_modules_still_hold(modules));
			*byte ^= 1;
			g_assert_true(hvp_modules_still_hold(modules));
		}
		/* Its count may change. */
		synthetic_guest_set(f.guest, f.first, HVP_AT_MODULE_REFCNT, 7);
		g_assert_true(hvp_modules_still_hold(modules));
		synthetic_guest_add_module(f.guest, "third");
		g_assert_false(hvp_modules_still_hold(modules));
		hvp_modules_free(g_steal_pointer(&modules));
		modules = read_modules(&f);
		g_assert_cmpuint(hvp_modules_count(modules), ==, 3);
		f.guest->memory->gone = true;
		g_assert_false(hvp_modules_still_hold(modules));
		tear_down(&f);
	}
}

static void test_symbols(void)
{
	g_autoptr(HvpModules) modules = NULL;
	HvpModule *module;
	const char *name;
	HvpGvaRange range;
	Fixture f;

	set_up(&f, GENERATION_6_12);
	modules = read_modules(&f);
	module = hvp_modules_find(modules, "second");
	g_assert_true(hvp_modules_symbolize(modules, module, hvp_gva_add(module->text.start, 0x7ff),
					    &name, &range));
	g_assert_cmpstr(name, ==, "second_first");
	g_assert_cmphex(hvp_gva_range_size(range), ==, 0x800);
	g_assert_true(hvp_modules_symbolize(modules, module, hvp_gva_add(module->text.start, 0x800),
					    &name, &range));
	/* The last string of the table, whose end no symbol tells. */
	g_assert_cmpstr(name, ==, "second_second");
	g_assert_cmphex(range.end.value, ==, module->text.end.value);
	/* Outside its text no symbol of it holds anything. */
	g_assert_false(hvp_modules_symbolize(modules, module, module->text.end, &name, &range));
	g_assert_false(hvp_modules_symbolize(modules, module, hvp_gva(module->text.start.value - 1),
					     &name, &range));
	g_assert_true(hvp_modules_has_symbol(modules, "first_module_second"));
	g_assert_false(hvp_modules_has_symbol(modules, "first_module_secon"));
	tear_down(&f);
}

static void test_bad_symbols(void)
{
	static const struct {
		HvpLayoutItem item;
		guint64 value;
	} lies[] = {
		{ HVP_AT_KALLSYMS_COUNT, 0 },
		{ HVP_AT_KALLSYMS_COUNT, 1U << 20 },
		{ HVP_AT_KALLSYMS_COUNT, G_MAXUINT32 },
		{ HVP_AT_KALLSYMS_SYMTAB, 0 },
		{ HVP_AT_KALLSYMS_SYMTAB, G_MAXUINT64 },
		{ HVP_AT_KALLSYMS_STRTAB, 0x1000 },
		{ HVP_AT_KALLSYMS_STRTAB, G_MAXUINT64 },
	};

	for (guint i = 0; i < G_N_ELEMENTS(lies) + 3; i++) {
		g_autoptr(HvpModules) modules = NULL;
		HvpModule *module;
		HvpGva kallsyms, table;
		const char *name;
		HvpGvaRange range;
		Fixture f;

		set_up(&f, GENERATION_6_1);
		modules = read_modules(&f);
		module = hvp_modules_get(modules, 0);
		kallsyms = module->kallsyms;
		table = hvp_gva(synthetic_guest_get(
			f.guest,
			synthetic_guest_member(f.guest, kallsyms, HVP_AT_KALLSYMS_SYMTAB)));
		if (i < G_N_ELEMENTS(lies))
			synthetic_guest_set(f.guest, kallsyms, lies[i].item, lies[i].value);
		else if (i == G_N_ELEMENTS(lies))
			module->kallsyms = hvp_gva(0);
		else
			/* A name far off, and one as far as there is. */
			hvp_store_u32(synthetic_guest_bytes(f.guest, table, 4),
				      i % 2 ? G_MAXUINT32 : 32U << 20);
		g_assert_false(
			hvp_modules_symbolize(modules, module, module->text.start, &name, &range));
		g_assert_false(hvp_modules_has_symbol(modules, "first_module_first"));
		g_assert_true(hvp_modules_has_symbol(modules, "second_first"));
		tear_down(&f);
	}
}

static void test_orc(void)
{
	static const struct {
		HvpLayoutItem item;
		guint64 value;
	} lies[] = {
		{ HVP_AT_MODULE_ORC_COUNT, G_MAXUINT32 },
		{ HVP_AT_MODULE_ORC_COUNT, 8U << 20 },
		{ HVP_AT_MODULE_ORC, 0 },
		{ HVP_AT_MODULE_ORC_IP, 0x1000 },
		{ HVP_AT_MODULE_ORC_IP, G_MAXUINT64 },
	};

	for (guint i = 0; i < G_N_ELEMENTS(lies); i++) {
		g_autoptr(HvpModules) modules = NULL;
		HvpOrcEntry entry;
		Fixture f;

		set_up(&f, i & 1);
		synthetic_guest_set(f.guest, f.second, lies[i].item, lies[i].value);
		modules = read_modules(&f);
		g_assert_null(hvp_modules_get_orc(modules, hvp_modules_get(modules, 1)));
		g_assert_null(hvp_modules_get_orc(modules, hvp_modules_get(modules, 1)));
		g_assert_nonnull(hvp_modules_get_orc(modules, hvp_modules_get(modules, 0)));
		g_assert_true(
			hvp_orc_find(hvp_modules_get_orc(modules, hvp_modules_get(modules, 0)),
				     hvp_modules_get(modules, 0)->text.start, &entry));
		g_assert_cmpint(entry.type, ==, HVP_ORC_CALL);
		g_assert_cmpint(entry.sp_offset, ==, 16);
		tear_down(&f);
	}
}

/* A size that would wrap; a name without an end. */
static void test_hostile_fields(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		g_autoptr(HvpModules) modules = NULL;
		HvpGva name, base;
		Fixture f;

		set_up(&f, generation);
		name = synthetic_guest_member(f.guest, f.first, HVP_AT_MODULE_NAME);
		memset(synthetic_guest_bytes(f.guest, name, 64), 0xff, 64);
		base = generation == GENERATION_6_1
			       ? synthetic_guest_member(f.guest, f.first, HVP_AT_MODULE_CORE_BASE)
			       : synthetic_guest_member(f.guest,
							synthetic_guest_member(f.guest, f.first,
									       HVP_AT_MODULE_MEM),
							HVP_AT_MODULE_MEMORY_BASE);
		synthetic_guest_put(f.guest, base, G_MAXUINT64 - 100);
		modules = read_modules(&f);
		g_assert_cmpuint(strlen(hvp_modules_get(modules, 0)->name), <,
				 HVP_MODULE_NAME_BYTES);
		g_assert_cmpuint(hvp_gva_range_size(hvp_modules_get(modules, 0)->text), ==, 0);
		g_assert_null(hvp_modules_find_address(modules, hvp_gva(G_MAXUINT64 - 50)));
		tear_down(&f);
	}
}

/* BTF in which a struct module is smaller than its members, or larger than any. */
static void test_malformed_layout(void)
{
	static const struct {
		const char *name;
		guint32 bytes;
	} lies[] = { { "module", 0 },	       { "module", 24 },
		     { "module", 200 },	       { "module", 128U << 10 },
		     { "module_memory", 8 },   { "module_memory", 20 },
		     { "module_memory", 400 }, { "module_memory", 1U << 20 } };

	for (guint i = 0; i < G_N_ELEMENTS(lies); i++) {
		SyntheticOptions options = { .generation = GENERATION_6_12 };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		g_autoptr(HvpKernel) kernel = NULL;
		guint8 *btf = synthetic_guest_bytes(guest, guest->btf, 0x10000);
		gsize types_bytes = hvp_load_u32(btf + 12);
		g_autofree char *needle = g_strdup_printf("x%s", lies[i].name);
		const guint8 *strings = btf + 24 + types_bytes, *name;

		needle[0] = 0;
		name = memmem(strings, 0x8000, needle, strlen(lies[i].name) + 2);
		g_assert_nonnull(name);
		for (gsize at = 24; at < 24 + types_bytes; at += 4)
			if (hvp_load_u32(btf + at) == (guint32)(name + 1 - strings))
				hvp_store_u32(btf + at + 8, lies[i].bytes);
		synthetic_guest_add_module(guest, "first_module");
		kernel = synthetic_guest_attach(guest);
		assert_refused(kernel, HVP_ERROR_BAD_DATA);
	}
}

/* The bytes of symbol @index of the second module. */
static guint8 *symbol_bytes(Fixture *self, guint index)
{
	guint64 kallsyms = synthetic_guest_get(
		self->guest,
		synthetic_guest_member(self->guest, self->second, HVP_AT_MODULE_KALLSYMS));
	guint64 table = synthetic_guest_get(
		self->guest,
		synthetic_guest_member(self->guest, hvp_gva(kallsyms), HVP_AT_KALLSYMS_SYMTAB));

	return synthetic_guest_bytes(self->guest, hvp_gva(table + (guint64)index * 24), 24);
}

/* 0: it is found, where the second symbol is; else why not. */
static int find_twice(Fixture *self, guint64 position)
{
	g_autoptr(HvpModules) modules = read_modules(self);
	HvpModule *module = hvp_modules_find(modules, "second");
	g_autoptr(GError) error = NULL;
	HvpGvaRange range;

	if (!hvp_modules_function(modules, module, "second_second", position, &range, &error))
		return error->code;
	g_assert_cmphex(range.start.value, ==, module->text.start.value + 0x800);
	return 0;
}

/* The kernel counts data as well, and nothing that is not defined. */
static void test_positions(void)
{
	Fixture f;
	guint8 *first;

	set_up(&f, GENERATION_6_1);
	g_assert_cmpint(find_twice(&f, 0), ==, 0);
	g_assert_cmpint(find_twice(&f, 2), ==, HVP_ERROR_NOT_FOUND);
	first = symbol_bytes(&f, 1);
	memcpy(first, symbol_bytes(&f, 2), 4);
	hvp_store_u64(first + 8, f.second.value);
	g_assert_cmpint(find_twice(&f, 0), ==, HVP_ERROR_AMBIGUOUS);
	g_assert_cmpint(find_twice(&f, 1), ==, HVP_ERROR_NOT_FOUND);
	g_assert_cmpint(find_twice(&f, 2), ==, 0);
	hvp_store_u16(first + 6, 0);
	g_assert_cmpint(find_twice(&f, 0), ==, 0);
	g_assert_cmpint(find_twice(&f, 1), ==, 0);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/modules/both-layouts-READ", test_read);
	g_test_add_func("/modules/none-or-no-MODULES-EMPTY", test_empty);
	g_test_add_func("/modules/layout-missing-UNSUPPORTED", test_missing_layout);
	g_test_add_func("/modules/broken-links-BUSY-or-FAULT", test_links);
	g_test_add_func("/modules/endless-list-REFUSED", test_endless);
	g_test_add_func("/modules/changed-list-SEEN", test_changes);
	g_test_add_func("/modules/symbols-FOUND", test_symbols);
	g_test_add_func("/modules/positions-AS-THE-KERNEL-COUNTS", test_positions);
	g_test_add_func("/modules/bad-symbols-NONE", test_bad_symbols);
	g_test_add_func("/modules/orc-LOADED-or-none", test_orc);
	g_test_add_func("/modules/wrapping-range-EMPTY", test_hostile_fields);
	g_test_add_func("/modules/malformed-layout-BAD_DATA", test_malformed_layout);
	return g_test_run();
}
