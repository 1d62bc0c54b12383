/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The module list with links, sizes, counts and table pointers changed, before it is read or
 * meanwhile: modules with ORC and symbols, or a reason.
 *
 *   input = generation u8, change*        (changes.h)
 */
#include <string.h>

#include "changes.h"
#include "guest/modules.h"

#define MODULES 3U
#define SYMBOL_WORDS 12U /* of four Elf64_Sym */

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes);

typedef struct {
	Changes changes;
	HvpKernel *kernel;
} Scene;

static void add_text_places(Changes *changes, HvpGva module)
{
	const HvpLayout *layout = &changes->guest->layout;
	HvpGva memory;

	if (!hvp_layout_has(layout, HVP_AT_MODULE_MEM)) {
		changes_add_member(changes, module, HVP_AT_MODULE_CORE_BASE);
		changes_add_member(changes, module, HVP_AT_MODULE_CORE_TEXT_SIZE);
		changes_add_member(changes, module, HVP_AT_MODULE_INIT_BASE);
		changes_add_member(changes, module, HVP_AT_MODULE_INIT_TEXT_SIZE);
		return;
	}
	memory = hvp_gva_add(synthetic_guest_member(changes->guest, module, HVP_AT_MODULE_MEM),
			     hvp_layout_get(layout, HVP_AT_MOD_TEXT) *
				     hvp_layout_get(layout, HVP_AT_MODULE_MEMORY_STRIDE));
	changes_add_member(changes, memory, HVP_AT_MODULE_MEMORY_BASE);
	changes_add_member(changes, memory, HVP_AT_MODULE_MEMORY_SIZE);
}

static void add_symbol_places(Changes *changes, HvpGva module)
{
	SyntheticGuest *guest = changes->guest;
	HvpGva kallsyms = hvp_gva(synthetic_guest_get(
		guest, synthetic_guest_member(guest, module, HVP_AT_MODULE_KALLSYMS)));
	HvpGva table = hvp_gva(synthetic_guest_get(
		guest, synthetic_guest_member(guest, kallsyms, HVP_AT_KALLSYMS_SYMTAB)));

	changes_add_member(changes, kallsyms, HVP_AT_KALLSYMS_SYMTAB);
	changes_add_member(changes, kallsyms, HVP_AT_KALLSYMS_STRTAB);
	changes_add_member(changes, kallsyms, HVP_AT_KALLSYMS_COUNT);
	for (guint i = 0; i < SYMBOL_WORDS; i++)
		changes_add_place(changes, hvp_gva_add(table, i * 8));
}

static void add_orc_places(Changes *changes, HvpGva module)
{
	SyntheticGuest *guest = changes->guest;

	changes_add_member(changes, module, HVP_AT_MODULE_ORC_COUNT);
	changes_add_member(changes, module, HVP_AT_MODULE_ORC_IP);
	changes_add_member(changes, module, HVP_AT_MODULE_ORC);
	changes_add_place(changes, hvp_gva(synthetic_guest_get(
					   guest, synthetic_guest_member(guest, module,
									 HVP_AT_MODULE_ORC_IP))));
}

static Scene *scene_of(Generation generation)
{
	static Scene scenes[2];
	Scene *self = &scenes[generation];
	SyntheticOptions options = { .generation = generation };

	if (self->kernel != NULL)
		return self;
	self->changes.guest = synthetic_guest_new(&options);
	changes_add_list(&self->changes, synthetic_guest_symbol(self->changes.guest, "modules"));
	for (guint i = 0; i < MODULES; i++) {
		const char name[] = { 'm', (char)('0' + i), 0 };
		HvpGva module = synthetic_guest_add_module(self->changes.guest, name);

		changes_add_list(&self->changes, synthetic_guest_member(self->changes.guest, module,
									HVP_AT_MODULE_LIST));
		changes_add_member(&self->changes, module, HVP_AT_MODULE_NAME);
		changes_add_member(&self->changes, module, HVP_AT_MODULE_STATE);
		changes_add_member(&self->changes, module, HVP_AT_MODULE_ARGS);
		changes_add_member(&self->changes, module, HVP_AT_MODULE_KALLSYMS);
		add_text_places(&self->changes, module);
		add_symbol_places(&self->changes, module);
		add_orc_places(&self->changes, module);
	}
	self->kernel = synthetic_guest_attach(self->changes.guest);
	return self;
}

static void check_module(HvpModules *modules, HvpModule *module)
{
	const HvpOrc *orc = hvp_modules_get_orc(modules, module);
	HvpGva pc = hvp_gva_add(module->text.start, 0x123);
	HvpOrcEntry entry;
	HvpGvaRange range;
	const char *name;

	g_assert(strlen(module->name) < HVP_MODULE_NAME_BYTES);
	g_assert(hvp_modules_find(modules, module->name) != NULL);
	g_assert(module->text.start.value <= module->text.end.value);
	if (orc != NULL)
		hvp_orc_find(orc, pc, &entry);
	if (!hvp_modules_symbolize(modules, module, pc, &name, &range))
		return;
	g_assert(hvp_gva_range_contains(range, pc));
	g_assert(strlen(name) > 0);
}

static void look(HvpKernel *kernel)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpModules) modules = NULL;

	hvp_address_space_forget(hvp_kernel_get_space(kernel));
	modules = hvp_modules_read(kernel, &error);
	g_assert((modules == NULL) == (error != NULL));
	g_assert(error == NULL || error->domain == HVP_ERROR);
	if (modules == NULL)
		return;
	g_assert(hvp_modules_count(modules) <= HVP_MODULES_MAX);
	for (guint i = 0; i < MIN(hvp_modules_count(modules), MODULES); i++)
		check_module(modules, hvp_modules_get(modules, i));
	hvp_modules_has_symbol(modules, "no_such_symbol");
	hvp_modules_still_hold(modules);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes)
{
	Scene *scene;

	if (size_bytes == 0)
		return 0;
	scene = scene_of(data[0] & 1);
	changes_begin(&scene->changes, data + 1, size_bytes - 1);
	look(scene->kernel);
	changes_end(&scene->changes);
	return 0;
}
