/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "synthetic-guest.h"

#include <string.h>

#define MEMORY_BYTES 0xa00000U
#define FIRST_TABLE 0x1000U
#define FIRST_HEAP 0x100000U
#define IMAGE_GPA 0x600000U
#define DATA_GPA 0x800000U
#define DATA_OFFSET 0x400000U
#define VMALLOC 0xffffc90000000000ULL
#define MODULES 0xffffffffc0400000ULL
#define IDT 0xfffffe0000000000ULL

/* Offsets into the image. */
#define FIRST_FUNCTION 0x1000U
#define ORC_IPS 0x110000U
#define ORC_ENTRIES 0x118000U
#define KALLSYMS 0x120000U
#define BTF 0x180000U
#define NOTES 0x1a0000U
#define BANNER 0x1a1000U
#define TABLES 0x1a2000U
#define ROOT (DATA_OFFSET + 0x2000U)
#define INIT_STACK (DATA_OFFSET + 0x4000U)
#define FIRST_DATA (DATA_OFFSET + 0x10000U)

#define PRESENT 3ULL /* and writable */
#define LARGE 0x80ULL
#define CR0_PG (1ULL << 31)
#define CR4_PAE (1ULL << 5)
#define CR4_LA57 (1ULL << 12)
#define STACK_END_MAGIC 0x57AC6E9DU
#define FILLERS 1000U
#define PER_CPU_BYTES 0x2000U

typedef struct {
	const char *name;
	HvpOrcType type;
	guint sp_reg;
	gint sp_offset;
	guint bp_reg;
	gint bp_offset;
} Function;

static const Function functions[] = {
	{ "startup_64", HVP_ORC_UNDEFINED, 0, 0, 0, 0 },
	{ "__schedule", HVP_ORC_CALL, HVP_ORC_REG_SP, 48, HVP_ORC_REG_PREV_SP, -16 },
	{ "schedule", HVP_ORC_CALL, HVP_ORC_REG_SP, 16, 0, 0 },
	{ "do_wait", HVP_ORC_CALL, HVP_ORC_REG_SP, 32, 0, 0 },
	{ "kthread", HVP_ORC_CALL, HVP_ORC_REG_SP, 64, 0, 0 },
	{ "ret_from_fork", HVP_ORC_END, 0, 0, 0, 0 },
	{ "bp_frame", HVP_ORC_CALL, HVP_ORC_REG_BP, 16, HVP_ORC_REG_PREV_SP, -16 },
	{ "bp_saved_by_bp", HVP_ORC_CALL, HVP_ORC_REG_SP, 16, HVP_ORC_REG_BP, 8 },
	{ "asm_sysvec", HVP_ORC_REGS, HVP_ORC_REG_SP, 0, 0, 0 },
	{ "asm_exc_partial", HVP_ORC_IRET, HVP_ORC_REG_SP, 8, 0, 0 },
	{ "entry_SYSCALL_64", HVP_ORC_REGS, HVP_ORC_REG_SP, 0, 0, 0 },
	{ "call_on_irqstack", HVP_ORC_CALL, HVP_ORC_REG_SP_INDIRECT, 8, 0, 0 },
	{ "bp_indirect", HVP_ORC_CALL, HVP_ORC_REG_BP_INDIRECT, 8, 0, 0 },
	{ "dx_frame", HVP_ORC_CALL, HVP_ORC_REG_DX, 0, 0, 0 },
	{ "di_frame", HVP_ORC_CALL, HVP_ORC_REG_DI, 0, 0, 0 },
	{ "r10_frame", HVP_ORC_CALL, HVP_ORC_REG_R10, 0, 0, 0 },
	{ "r13_frame", HVP_ORC_CALL, HVP_ORC_REG_R13, 0, 0, 0 },
	{ "bad_sp_reg", HVP_ORC_CALL, 15, 8, 0, 0 },
	{ "bad_bp_reg", HVP_ORC_CALL, HVP_ORC_REG_SP, 16, 14, 0 },
	{ "misaligned", HVP_ORC_CALL, HVP_ORC_REG_SP, 12, 0, 0 },
	{ "stuck", HVP_ORC_CALL, HVP_ORC_REG_SP, 0, 0, 0 },
	{ "backwards", HVP_ORC_CALL, HVP_ORC_REG_SP, -32, 0, 0 },
	{ "deep", HVP_ORC_CALL, HVP_ORC_REG_SP, 8, 0, 0 },
	{ "no_orc", HVP_ORC_UNDEFINED, 0, 0, 0, 0 },
	{ "arch_rethook_trampoline", HVP_ORC_CALL, HVP_ORC_REG_SP, 8, 0, 0 },
	{ "return_to_handler", HVP_ORC_CALL, HVP_ORC_REG_SP, 8, 0, 0 },
	{ "asm_exc_page_fault", HVP_ORC_REGS, HVP_ORC_REG_SP, 0, 0, 0 },
	{ "duplicate", HVP_ORC_CALL, HVP_ORC_REG_SP, 8, 0, 0 },
	{ "between", HVP_ORC_CALL, HVP_ORC_REG_SP, 8, 0, 0 },
	{ "duplicate", HVP_ORC_CALL, HVP_ORC_REG_SP, 8, 0, 0 },
	{ "load_module", HVP_ORC_CALL, HVP_ORC_REG_SP, 8, 0, 0 },
	{ "klp_enable_patch", HVP_ORC_CALL, HVP_ORC_REG_SP, 8, 0, 0 },
	{ "frozen", HVP_ORC_CALL, HVP_ORC_REG_SP, 8, 0, 0 },
	{ "deep.cold", HVP_ORC_CALL, HVP_ORC_REG_SP, 8, 0, 0 },
};

void synthetic_guest_free(SyntheticGuest *self)
{
	if (self == NULL)
		return;
	hvp_physical_free(&self->memory->base);
	kallsyms_maker_free(self->symbols);
	g_hash_table_unref(self->addresses);
	g_free(self);
}

/* Physical address behind @gva, by region; only the maker's own addresses. */
static guint64 gpa_of(HvpGva gva)
{
	guint64 value = gva.value;

	if (value >= MODULES)
		return value - MODULES;
	if (value >= SYNTHETIC_BASE + DATA_OFFSET)
		return value - SYNTHETIC_BASE - DATA_OFFSET + DATA_GPA;
	if (value >= SYNTHETIC_BASE)
		return value - SYNTHETIC_BASE + IMAGE_GPA;
	if (value >= VMALLOC)
		return value - VMALLOC;
	g_assert(value >= SYNTHETIC_DIRECT_MAP);
	return value - SYNTHETIC_DIRECT_MAP;
}

guint8 *synthetic_guest_bytes(SyntheticGuest *self, HvpGva gva, gsize length_bytes)
{
	guint64 gpa = gpa_of(gva);

	g_assert(gpa + length_bytes <= self->memory->size_bytes);
	return self->memory->bytes + gpa;
}

void synthetic_guest_put(SyntheticGuest *self, HvpGva gva, guint64 value)
{
	hvp_store_u64(synthetic_guest_bytes(self, gva, 8), value);
}

guint64 synthetic_guest_get(SyntheticGuest *self, HvpGva gva)
{
	return hvp_load_u64(synthetic_guest_bytes(self, gva, 8));
}

HvpGva synthetic_guest_member(SyntheticGuest *self, HvpGva gva, HvpLayoutItem item)
{
	return hvp_gva_add(gva, hvp_layout_get(&self->layout, item));
}

void synthetic_guest_set(SyntheticGuest *self, HvpGva gva, HvpLayoutItem item, guint64 value)
{
	synthetic_guest_put(self, synthetic_guest_member(self, gva, item), value);
}

static HvpGva image(guint64 offset)
{
	return hvp_gva(SYNTHETIC_BASE + offset);
}

HvpGva synthetic_guest_symbol(SyntheticGuest *self, const char *name)
{
	const HvpGva *address = g_hash_table_lookup(self->addresses, name);

	if (address == NULL)
		g_error("no symbol %s was made", name);
	return *address;
}

HvpGva synthetic_guest_return_into(SyntheticGuest *self, const char *name)
{
	return hvp_gva_add(synthetic_guest_symbol(self, name), 0x20);
}

static void add_symbol(SyntheticGuest *self, const char *name, char type, HvpGva address)
{
	bool absolute = address.value < SYNTHETIC_BASE;
	guint64 value = absolute ? address.value : address.value - SYNTHETIC_BASE;

	g_hash_table_insert(self->addresses, g_strdup(name), g_memdup2(&address, sizeof address));
	if (self->options.without != NULL && strcmp(self->options.without, name) == 0)
		return;
	kallsyms_maker_add(self->symbols, name, type, value, absolute);
	if (self->options.twice != NULL && strcmp(self->options.twice, name) == 0)
		kallsyms_maker_add(self->symbols, name, type, value + 8, absolute);
}

static HvpGva add_data(SyntheticGuest *self, const char *name, gsize length_bytes)
{
	HvpGva address = image(self->next_data);

	self->next_data += (length_bytes + 63) & ~(gsize)63;
	g_assert(self->next_data <= SYNTHETIC_IMAGE_BYTES);
	add_symbol(self, name, 'D', address);
	return address;
}

guint64 synthetic_guest_entry(SyntheticGuest *self, guint64 root, HvpGva gva, guint level)
{
	guint64 table = root;

	for (guint at = self->options.five_levels ? 5 : 4; at > level; at--) {
		guint64 entry = table + (gva.value >> (12 + 9 * (at - 1)) & 511) * 8;

		if (image_memory_get_u64(self->memory, entry) == 0) {
			g_assert(self->next_table < FIRST_HEAP);
			image_memory_put_u64(self->memory, entry, self->next_table | PRESENT);
			self->next_table += HVP_PAGE_SIZE;
		}
		table = image_memory_get_u64(self->memory, entry) & 0xffffffffff000;
	}
	return table + (gva.value >> (12 + 9 * (level - 1)) & 511) * 8;
}

void synthetic_guest_map(SyntheticGuest *self, guint64 root, HvpGva gva, guint64 gpa, guint level)
{
	image_memory_put_u64(self->memory, synthetic_guest_entry(self, root, gva, level),
			     gpa | PRESENT | (level > 1 ? LARGE : 0));
}

static guint64 take_heap(SyntheticGuest *self, gsize length_bytes, gsize alignment)
{
	guint64 gpa = (self->next_heap + alignment - 1) & ~(guint64)(alignment - 1);

	self->next_heap = gpa + length_bytes;
	g_assert(self->next_heap <= (self->options.heap_bytes ? self->memory->size_bytes
							      : IMAGE_GPA));
	return gpa;
}

HvpGva synthetic_guest_alloc(SyntheticGuest *self, gsize length_bytes)
{
	return hvp_gva(SYNTHETIC_DIRECT_MAP + take_heap(self, length_bytes, 64));
}

static HvpGva alloc_pages_in(SyntheticGuest *self, guint64 region, gsize length_bytes)
{
	guint64 gpa = take_heap(self, length_bytes + HVP_PAGE_SIZE, HVP_PAGE_SIZE);

	for (guint64 at = 0; at < length_bytes; at += HVP_PAGE_SIZE)
		synthetic_guest_map(self, self->root_gpa, hvp_gva(region + gpa + at), gpa + at, 1);
	return hvp_gva(region + gpa);
}

HvpGva synthetic_guest_alloc_pages(SyntheticGuest *self, gsize length_bytes)
{
	return alloc_pages_in(self, VMALLOC, length_bytes);
}

static void map_image_part(SyntheticGuest *self, guint64 root, guint64 offset, guint64 gpa)
{
	guint level = self->options.small_pages ? 1 : 2;
	guint64 step = self->options.small_pages ? HVP_PAGE_SIZE : 2U << 20;

	for (guint64 at = 0; at < 2U << 20; at += step)
		synthetic_guest_map(self, root, image(offset + at), gpa + at, level);
}

static void make_page_tables(SyntheticGuest *self)
{
	self->root_gpa = DATA_GPA + ROOT - DATA_OFFSET;
	map_image_part(self, self->root_gpa, 0, IMAGE_GPA);
	map_image_part(self, self->root_gpa, DATA_OFFSET, DATA_GPA);
	for (guint64 gpa = 0; gpa < self->memory->size_bytes; gpa += 2U << 20)
		synthetic_guest_map(self, self->root_gpa, hvp_gva(SYNTHETIC_DIRECT_MAP + gpa), gpa,
				    2);
	add_symbol(self, "init_top_pgt", 'D', image(ROOT));
}

static void put_gate(guint8 *gate, HvpGva handler)
{
	hvp_store_u16(gate, (guint16)handler.value);
	hvp_store_u16(gate + 2, 0x10);
	hvp_store_u16(gate + 4, 0x8e00);
	hvp_store_u16(gate + 6, (guint16)(handler.value >> 16));
	hvp_store_u32(gate + 8, (guint32)(handler.value >> 32));
}

static void make_idt(SyntheticGuest *self)
{
	guint64 gpa = take_heap(self, HVP_PAGE_SIZE, HVP_PAGE_SIZE);
	HvpGva handler = synthetic_guest_symbol(self, "asm_exc_page_fault");

	for (guint vector = 0; vector < 256; vector++)
		put_gate(self->memory->bytes + gpa + vector * 16, handler);
	synthetic_guest_map(self, self->root_gpa, hvp_gva(IDT), gpa, 1);
	self->registers = (HvpRegisters){ .rip = 0x401000,
					  .cs = 0x33,
					  .cr0 = CR0_PG | 1,
					  .cr3 = self->root_gpa | 5,
					  .cr4 = CR4_PAE |
						 (self->options.five_levels ? CR4_LA57 : 0),
					  .idt_base = IDT };
	if (!self->options.isolated)
		return;
	/* The user's half: one page of entry text and the IDT. */
	self->user_root_gpa = self->root_gpa + HVP_PAGE_SIZE;
	synthetic_guest_map(self, self->user_root_gpa, hvp_gva(IDT), gpa, 1);
	synthetic_guest_map(self, self->user_root_gpa, hvp_gva(handler.value & ~HVP_PAGE_MASK),
			    gpa_of(handler) & ~HVP_PAGE_MASK, 1);
	self->registers.cr3 = self->user_root_gpa | 0x805;
}

static guint type_number(Generation generation, HvpOrcType type)
{
	static const guint before[] = { 0, 0, 0, 1, 2 };
	static const guint since[] = { 0, 1, 2, 3, 4 };

	return generation == GENERATION_6_1 ? before[type] : since[type];
}

static void put_orc(SyntheticGuest *self, HvpGva ips, HvpGva entries, guint index, HvpGva code,
		    const Function *function)
{
	HvpGva ip = hvp_gva_add(ips, index * 4);
	guint8 *entry = synthetic_guest_bytes(self, hvp_gva_add(entries, index * 6), 6);
	guint bits = type_number(self->options.generation, function->type);

	if (function->type == HVP_ORC_REGS || function->type == HVP_ORC_IRET)
		bits |= self->options.generation != GENERATION_6_1 ? 1U << 3 : 0;
	if (function->type == HVP_ORC_END)
		bits |= self->options.generation == GENERATION_6_1 ? 1U << 4 : 0;
	hvp_store_u32(synthetic_guest_bytes(self, ip, 4), (guint32)(code.value - ip.value));
	hvp_store_u16(entry, (guint16)function->sp_offset);
	hvp_store_u16(entry + 2, (guint16)function->bp_offset);
	entry[4] = (guint8)(function->sp_reg | function->bp_reg << 4);
	entry[5] = (guint8)bits;
}

/* In the order of their addresses: what begins the text has no information. */
static void add_function(SyntheticGuest *self, const Function *function)
{
	static const guint8 slot[] = { 0xf3, 0x0f, 0x1e, 0xfa, 0x0f, 0x1f, 0x44, 0, 0, 0xc3 };
	HvpGva code = image(FIRST_FUNCTION + self->function_count * SYNTHETIC_FUNCTION_BYTES);
	const char *name = function->name;

	/* since 6.5 the assembly part has the suffix */
	if (self->options.generation != GENERATION_6_1 && strcmp(name, "ret_from_fork") == 0)
		name = "ret_from_fork_asm";
	memcpy(synthetic_guest_bytes(self, code, sizeof slot), slot, sizeof slot);
	put_orc(self, self->orc_ips, self->orc_entries, self->orc_count++, code, function);
	if (g_hash_table_contains(self->addresses, name))
		kallsyms_maker_add(self->symbols, name, 't', code.value - SYNTHETIC_BASE, false);
	else
		add_symbol(self, name, 'T', code);
	self->function_count++;
}

static void make_text(SyntheticGuest *self)
{
	self->orc_ips = image(ORC_IPS);
	self->orc_entries = image(ORC_ENTRIES);
	add_symbol(self, "_stext", 'T', image(0));
	add_symbol(self, "_text", 'T', image(0));
	for (guint i = 0; i < G_N_ELEMENTS(functions); i++)
		add_function(self, &functions[i]);
	for (guint i = 0; i < FILLERS; i++) {
		g_autofree char *name = g_strdup_printf("filler_%04u", i);
		Function filler = { name, HVP_ORC_CALL, HVP_ORC_REG_SP, 8, 0, 0 };

		add_function(self, &filler);
	}
	add_symbol(self, "_etext", 'T', image(SYNTHETIC_TEXT_BYTES));
	add_symbol(self, "__start_orc_unwind_ip", 'R', self->orc_ips);
	add_symbol(self, "__stop_orc_unwind_ip", 'R',
		   hvp_gva_add(self->orc_ips, self->orc_count * 4));
	add_symbol(self, "__start_orc_unwind", 'R', self->orc_entries);
}

static void make_btf(SyntheticGuest *self)
{
	g_autoptr(GBytes) whole = btf_maker_kernel(self->options.generation, NULL);
	g_autoptr(GBytes) blob = btf_maker_kernel(self->options.generation, self->options.missing);
	g_autoptr(HvpBtf) btf = hvp_btf_new(whole, NULL);
	gsize bytes;
	const guint8 *data = g_bytes_get_data(blob, &bytes);

	g_assert_true(hvp_layout_resolve(btf, &self->layout, NULL));
	g_assert(bytes <= NOTES - BTF);
	self->btf = image(BTF);
	memcpy(synthetic_guest_bytes(self, self->btf, bytes), data, bytes);
	add_symbol(self, "__start_BTF", 'R', self->btf);
	add_symbol(self, "__stop_BTF", 'R', hvp_gva_add(self->btf, bytes));
}

static void make_identity(SyntheticGuest *self)
{
	static const char text[] = "Linux version 6.1.0-synthetic (tests@example) (gcc) #1 SMP\n";
	guint8 *notes = synthetic_guest_bytes(self, image(NOTES), 64);

	self->notes = image(NOTES);
	self->banner = image(BANNER);
	/* Another note first. */
	hvp_store_u32(notes, 5);
	hvp_store_u32(notes + 4, 2);
	hvp_store_u32(notes + 8, 7);
	memcpy(notes + 12, "Linu", 4);
	hvp_store_u32(notes + 24, 4);
	hvp_store_u32(notes + 28, 20);
	hvp_store_u32(notes + 32, 3);
	memcpy(notes + 36, "GNU", 4);
	for (guint i = 0; i < 20; i++)
		notes[40 + i] = (guint8)(i * 11 + 1);
	memcpy(synthetic_guest_bytes(self, self->banner, sizeof text), text, sizeof text);
	add_symbol(self, "__start_notes", 'R', self->notes);
	add_symbol(self, "__stop_notes", 'R', hvp_gva_add(self->notes, 60));
	add_symbol(self, "linux_banner", 'R', self->banner);
}

void synthetic_guest_list_add(SyntheticGuest *self, HvpGva head, HvpGva node)
{
	HvpGva last = hvp_gva(synthetic_guest_get(self, hvp_gva_add(head, 8)));

	synthetic_guest_put(self, node, head.value);
	synthetic_guest_put(self, hvp_gva_add(node, 8), last.value);
	synthetic_guest_put(self, last, node.value);
	synthetic_guest_put(self, hvp_gva_add(head, 8), node.value);
}

static void list_init(SyntheticGuest *self, HvpGva head)
{
	synthetic_guest_put(self, head, head.value);
	synthetic_guest_put(self, hvp_gva_add(head, 8), head.value);
}

/* What a task leaves on its stack when it goes to sleep. */
static HvpGva make_sleeping_stack(SyntheticGuest *self, HvpGva stack)
{
	static const struct {
		const char *name;
		guint frame_bytes;
	} callers[] = { { "schedule", 48 }, { "do_wait", 16 }, { "kthread", 32 } };
	const char *fork = self->options.generation == GENERATION_6_1 ? "ret_from_fork"
								      : "ret_from_fork_asm";
	HvpGva top = hvp_gva_add(stack, SYNTHETIC_STACK_BYTES - 512);
	HvpGva at = hvp_gva_add(top, hvp_layout_get(&self->layout, HVP_AT_FRAME_SIZE));

	hvp_store_u32(synthetic_guest_bytes(self, stack, 4), STACK_END_MAGIC);
	synthetic_guest_set(self, top, HVP_AT_FRAME_RETURN,
			    synthetic_guest_return_into(self, "__schedule").value);
	for (guint i = 0; i < G_N_ELEMENTS(callers); i++) {
		at = hvp_gva_add(at, callers[i].frame_bytes);
		synthetic_guest_put(self, hvp_gva(at.value - 8),
				    synthetic_guest_return_into(self, callers[i].name).value);
	}
	at = hvp_gva_add(at, 64);
	synthetic_guest_put(self, hvp_gva(at.value - 8),
			    synthetic_guest_return_into(self, fork).value);
	return top;
}

static void fill_task(SyntheticGuest *self, HvpGva task, const char *comm, guint32 pid,
		      guint32 tgid, HvpGva stack)
{
	HvpGva name = synthetic_guest_member(self, task, HVP_AT_TASK_COMM);

	g_strlcpy((char *)synthetic_guest_bytes(self, name, 16), comm, 16);
	synthetic_guest_set(self, task, HVP_AT_TASK_PID, pid);
	synthetic_guest_set(self, task, HVP_AT_TASK_TGID, tgid);
	synthetic_guest_set(self, task, HVP_AT_TASK_STACK, stack.value);
	synthetic_guest_set(self, task, HVP_AT_TASK_SP, make_sleeping_stack(self, stack).value);
	synthetic_guest_set(self, task, HVP_AT_TASK_STATE, 1);
	synthetic_guest_set(self, task, HVP_AT_TASK_START_BOOTTIME, 1000000 + pid);
	synthetic_guest_set(self, task, HVP_AT_TASK_NVCSW, 10 + pid);
	synthetic_guest_set(self, task, HVP_AT_TASK_NIVCSW, 3);
}

static HvpGva add_signal(SyntheticGuest *self, HvpGva task)
{
	HvpGva signal = synthetic_guest_alloc(self, 256);

	list_init(self, synthetic_guest_member(self, signal, HVP_AT_SIGNAL_THREAD_HEAD));
	synthetic_guest_set(self, task, HVP_AT_TASK_SIGNAL, signal.value);
	return signal;
}

HvpGva synthetic_guest_add_task(SyntheticGuest *self, const char *comm, guint32 pid, HvpGva leader)
{
	HvpGva task = synthetic_guest_alloc(self, hvp_layout_get(&self->layout, HVP_AT_TASK_SIZE));
	HvpGva stack = synthetic_guest_alloc_pages(self, SYNTHETIC_STACK_BYTES);
	HvpGva init_task = synthetic_guest_symbol(self, "init_task");
	HvpGva signal;

	if (leader.value == 0) {
		signal = add_signal(self, task);
		fill_task(self, task, comm, pid, pid, stack);
		synthetic_guest_list_add(self,
					 synthetic_guest_member(self, init_task, HVP_AT_TASK_TASKS),
					 synthetic_guest_member(self, task, HVP_AT_TASK_TASKS));
	} else {
		signal = hvp_gva(synthetic_guest_get(
			self, synthetic_guest_member(self, leader, HVP_AT_TASK_SIGNAL)));
		fill_task(self, task, comm, pid,
			  (guint32)synthetic_guest_get(
				  self, synthetic_guest_member(self, leader, HVP_AT_TASK_PID)),
			  stack);
		synthetic_guest_set(self, task, HVP_AT_TASK_SIGNAL, signal.value);
	}
	synthetic_guest_list_add(self,
				 synthetic_guest_member(self, signal, HVP_AT_SIGNAL_THREAD_HEAD),
				 synthetic_guest_member(self, task, HVP_AT_TASK_THREAD_NODE));
	return task;
}

static void make_init_task(SyntheticGuest *self)
{
	HvpGva task = add_data(self, "init_task", hvp_layout_get(&self->layout, HVP_AT_TASK_SIZE));

	add_symbol(self, "init_stack", 'D', image(INIT_STACK));
	add_symbol(self,
		   self->options.generation == GENERATION_6_1 ? "__end_init_task"
							      : "__end_init_stack",
		   'D', image(INIT_STACK + SYNTHETIC_STACK_BYTES));
	fill_task(self, task, "swapper/0", 0, 0, image(INIT_STACK));
	self->signal_of_init = add_signal(self, task);
	list_init(self, synthetic_guest_member(self, task, HVP_AT_TASK_TASKS));
	synthetic_guest_list_add(
		self, synthetic_guest_member(self, self->signal_of_init, HVP_AT_SIGNAL_THREAD_HEAD),
		synthetic_guest_member(self, task, HVP_AT_TASK_THREAD_NODE));
}

/* CPU 1's idle task: on no list. */
static HvpGva make_idle_task(SyntheticGuest *self)
{
	HvpGva task = synthetic_guest_alloc(self, hvp_layout_get(&self->layout, HVP_AT_TASK_SIZE));

	fill_task(self, task, "swapper/1", 0, 0,
		  synthetic_guest_alloc_pages(self, SYNTHETIC_STACK_BYTES));
	add_signal(self, task);
	synthetic_guest_set(self, task, HVP_AT_TASK_CPU, 1);
	return task;
}

HvpGva synthetic_guest_per_cpu(SyntheticGuest *self, const char *name, guint cpu)
{
	HvpGva offsets = synthetic_guest_symbol(self, "__per_cpu_offset");

	return hvp_gva_add(synthetic_guest_symbol(self, name),
			   synthetic_guest_get(self, hvp_gva_add(offsets, cpu * 8)));
}

static void make_cpus(SyntheticGuest *self)
{
	HvpGva offsets = add_data(self, "__per_cpu_offset", SYNTHETIC_CPUS * 8);
	HvpGva possible = add_data(self, "__cpu_possible_mask", 8);
	HvpGva online = add_data(self, "__cpu_online_mask", 8);
	HvpGva count = add_data(self, "nr_cpu_ids", 8);
	HvpGva idle[SYNTHETIC_CPUS] = { synthetic_guest_symbol(self, "init_task"),
					make_idle_task(self) };

	synthetic_guest_put(self, count, SYNTHETIC_CPUS);
	synthetic_guest_put(self, possible, (1U << SYNTHETIC_CPUS) - 1);
	synthetic_guest_put(self, online, (1U << SYNTHETIC_CPUS) - 1);
	add_symbol(self, "runqueues", 'A', hvp_gva(0x100));
	add_symbol(self, "cpu_tss_rw", 'A', hvp_gva(0x1800));
	if (self->options.generation != GENERATION_6_1) {
		add_symbol(self, "pcpu_hot", 'A', hvp_gva(0x1000));
	} else {
		add_symbol(self, "current_task", 'A', hvp_gva(0x1000));
		add_symbol(self, "__preempt_count", 'A', hvp_gva(0x1010));
		add_symbol(self, "hardirq_stack_ptr", 'A', hvp_gva(0x1018));
	}
	for (guint cpu = 0; cpu < SYNTHETIC_CPUS; cpu++) {
		HvpGva area = synthetic_guest_alloc(self, PER_CPU_BYTES);
		HvpGva queue = hvp_gva_add(area, 0x100), current = hvp_gva_add(area, 0x1000);

		synthetic_guest_put(self, hvp_gva_add(offsets, cpu * 8), area.value);
		synthetic_guest_set(self, queue, HVP_AT_RQ_IDLE, idle[cpu].value);
		synthetic_guest_set(self, queue, HVP_AT_RQ_CURR, idle[cpu].value);
		list_init(self, synthetic_guest_member(self, queue, HVP_AT_RQ_CFS_TASKS));
		list_init(self, synthetic_guest_member(self, queue, HVP_AT_RQ_RT_QUEUE));
		if (self->options.generation != GENERATION_6_1)
			list_init(self,
				  synthetic_guest_member(self, queue, HVP_AT_RQ_SCX_RUNNABLE));
		if (self->options.generation != GENERATION_6_1)
			current = synthetic_guest_member(self, current, HVP_AT_HOT_CURRENT);
		synthetic_guest_put(self, current, idle[cpu].value);
	}
}

/* An Elf64_Sym. */
static void put_elf_symbol(SyntheticGuest *self, HvpGva at, guint32 name, HvpGva value)
{
	guint8 *symbol = synthetic_guest_bytes(self, at, 24);

	hvp_store_u32(symbol, name);
	hvp_store_u16(symbol + 6, 1);
	hvp_store_u64(symbol + 8, value.value);
}

static void make_module_symbols(SyntheticGuest *self, HvpGva module, const char *name, HvpGva text)
{
	HvpGva kallsyms = synthetic_guest_alloc(self, 128);
	HvpGva table = synthetic_guest_alloc(self, 3 * 24);
	g_autoptr(GString) strings = g_string_new_len("", 1);
	HvpGva copy;

	put_elf_symbol(self, hvp_gva_add(table, 24), (guint32)strings->len, text);
	g_string_append_printf(strings, "%s_first", name);
	g_string_append_c(strings, 0);
	put_elf_symbol(self, hvp_gva_add(table, 48), (guint32)strings->len,
		       hvp_gva_add(text, 0x800));
	g_string_append_printf(strings, "%s_second", name);
	copy = synthetic_guest_alloc(self, strings->len + 1);
	memcpy(synthetic_guest_bytes(self, copy, strings->len + 1), strings->str, strings->len + 1);
	synthetic_guest_set(self, kallsyms, HVP_AT_KALLSYMS_SYMTAB, table.value);
	synthetic_guest_set(self, kallsyms, HVP_AT_KALLSYMS_COUNT, 3);
	synthetic_guest_set(self, kallsyms, HVP_AT_KALLSYMS_STRTAB, copy.value);
	synthetic_guest_set(self, module, HVP_AT_MODULE_KALLSYMS, kallsyms.value);
}

static void set_module_text(SyntheticGuest *self, HvpGva module, HvpGva text)
{
	HvpGva memory;

	if (self->options.generation == GENERATION_6_1) {
		synthetic_guest_set(self, module, HVP_AT_MODULE_CORE_BASE, text.value);
		synthetic_guest_set(self, module, HVP_AT_MODULE_CORE_SIZE, HVP_PAGE_SIZE);
		synthetic_guest_set(self, module, HVP_AT_MODULE_CORE_TEXT_SIZE, HVP_PAGE_SIZE);
		return;
	}
	memory = hvp_gva_add(synthetic_guest_member(self, module, HVP_AT_MODULE_MEM),
			     hvp_layout_get(&self->layout, HVP_AT_MOD_TEXT) *
				     hvp_layout_get(&self->layout, HVP_AT_MODULE_MEMORY_STRIDE));
	synthetic_guest_set(self, memory, HVP_AT_MODULE_MEMORY_BASE, text.value);
	synthetic_guest_set(self, memory, HVP_AT_MODULE_MEMORY_SIZE, HVP_PAGE_SIZE);
}

HvpGva synthetic_guest_add_module(SyntheticGuest *self, const char *name)
{
	static const Function frame = { NULL, HVP_ORC_CALL, HVP_ORC_REG_SP, 16, 0, 0 };
	HvpGva module = synthetic_guest_alloc(self,
					      hvp_layout_get(&self->layout, HVP_AT_MODULE_SIZE));
	HvpGva text = alloc_pages_in(self, MODULES, HVP_PAGE_SIZE);
	/* Within 2 GiB of the code, as all of a module is. */
	HvpGva orc = alloc_pages_in(self, MODULES, HVP_PAGE_SIZE);
	HvpGva args = synthetic_guest_alloc(self, 64);

	memcpy(synthetic_guest_bytes(self, synthetic_guest_member(self, module, HVP_AT_MODULE_NAME),
				     64),
	       name, strlen(name) + 1);
	set_module_text(self, module, text);
	for (guint i = 0; i < 2; i++)
		put_orc(self, orc, hvp_gva_add(orc, 64), i, hvp_gva_add(text, i * 0x800), &frame);
	synthetic_guest_set(self, module, HVP_AT_MODULE_ORC_COUNT, 2);
	synthetic_guest_set(self, module, HVP_AT_MODULE_ORC_IP, orc.value);
	synthetic_guest_set(self, module, HVP_AT_MODULE_ORC, orc.value + 64);
	synthetic_guest_set(self, module, HVP_AT_MODULE_ARGS, args.value);
	synthetic_guest_set(self, module, HVP_AT_MODULE_REFCNT, 1);
	make_module_symbols(self, module, name, text);
	synthetic_guest_list_add(self, synthetic_guest_symbol(self, "modules"),
				 synthetic_guest_member(self, module, HVP_AT_MODULE_LIST));
	return module;
}

static void make_ftrace(SyntheticGuest *self)
{
	guint32 size = hvp_layout_get(&self->layout, HVP_AT_FTRACE_SIZE);
	HvpGva pages[2], records = synthetic_guest_alloc(self, size * 2);
	const HvpGva slots[] = { synthetic_guest_symbol(self, "do_wait"),
				 hvp_gva_add(synthetic_guest_symbol(self, "between"), 4) };

	for (guint i = 0; i < 2; i++) {
		HvpGva record = hvp_gva_add(records, i * size);

		pages[i] = synthetic_guest_alloc(self, 128);
		synthetic_guest_set(self, record, HVP_AT_FTRACE_IP, slots[i].value);
		synthetic_guest_set(self, record, HVP_AT_FTRACE_FLAGS, i + 1);
		synthetic_guest_set(self, pages[i], HVP_AT_FTRACE_PAGE_RECORDS, record.value);
		synthetic_guest_set(self, pages[i], HVP_AT_FTRACE_PAGE_INDEX, 1);
	}
	synthetic_guest_set(self, pages[0], HVP_AT_FTRACE_PAGE_NEXT, pages[1].value);
	synthetic_guest_put(self, add_data(self, "ftrace_pages_start", 8), pages[0].value);
}

/* A table of one entry, whose first word is the distance to @site. */
static void make_site_table(SyntheticGuest *self, guint index, const char *start, const char *end,
			    guint32 entry_bytes, HvpGva site)
{
	HvpGva table = image(TABLES + index * 64);

	hvp_store_u32(synthetic_guest_bytes(self, table, 4), (guint32)(site.value - table.value));
	add_symbol(self, start, 'R', table);
	add_symbol(self, end, 'R', hvp_gva_add(table, entry_bytes));
}

static void make_text_sites(SyntheticGuest *self)
{
	HvpGva probe = synthetic_guest_alloc(self, 64);
	HvpGva table;

	make_site_table(self, 0, "__start___jump_table", "__stop___jump_table", 16,
			hvp_gva_add(synthetic_guest_symbol(self, "do_wait"), 0x10));
	make_site_table(self, 1, "__start_static_call_sites", "__stop_static_call_sites", 8,
			hvp_gva_add(synthetic_guest_symbol(self, "kthread"), 0x18));
	make_site_table(self, 2, "__start___ex_table", "__stop___ex_table", 12,
			hvp_gva_add(synthetic_guest_symbol(self, "bp_frame"), 0x30));
	make_site_table(self, 3, "__smp_locks", "__smp_locks_end", 4,
			hvp_gva_add(synthetic_guest_symbol(self, "schedule"), 0x40));
	synthetic_guest_put(self, add_data(self, "uniproc_patched", 8), 1);
	table = add_data(self, "kprobe_table", 64 * 8);
	synthetic_guest_put(self, hvp_gva_add(table, 17 * 8), probe.value);
	synthetic_guest_set(self, probe, HVP_AT_KPROBE_ADDRESS,
			    synthetic_guest_symbol(self, "dx_frame").value);
}

static void make_variables(SyntheticGuest *self)
{
	static const char *const locks[] = { "text_mutex",   "kprobe_mutex", "jump_label_mutex",
					     "ftrace_lock",  "module_mutex", "klp_mutex",
					     "tasklist_lock" };
	HvpGva parameter = synthetic_guest_alloc(self, 64), enforce;

	for (guint i = 0; i < G_N_ELEMENTS(locks); i++)
		add_data(self, locks[i], 64);
	add_data(self, "total_forks", 8);
	add_data(self, "nr_threads", 8);
	add_data(self, "modules_disabled", 8);
	add_data(self, "kernel_locked_down", 8);
	add_data(self, "ima_appraise", 8);
	enforce = add_data(self, "sig_enforce", 8);
	parameter = add_data(self, "__param_sig_enforce", 64);
	synthetic_guest_set(self, parameter, HVP_AT_KERNEL_PARAM_ARG, enforce.value);
	g_strlcpy((char *)synthetic_guest_bytes(self, add_data(self, "vermagic", 64), 64),
		  "6.1.0-synthetic SMP preempt mod_unload ", 64);
}

SyntheticGuest *synthetic_guest_new(const SyntheticOptions *options)
{
	SyntheticGuest *self = g_new0(SyntheticGuest, 1);

	self->options = *options;
	self->memory = image_memory_new(MEMORY_BYTES + options->heap_bytes);
	self->symbols = kallsyms_maker_new();
	self->addresses = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	self->next_table = FIRST_TABLE;
	self->next_heap = options->heap_bytes ? MEMORY_BYTES : FIRST_HEAP;
	self->next_data = FIRST_DATA;
	make_btf(self);
	make_page_tables(self);
	make_text(self);
	make_idt(self);
	make_identity(self);
	make_init_task(self);
	make_cpus(self);
	list_init(self, add_data(self, "modules", 16));
	make_ftrace(self);
	make_text_sites(self);
	make_variables(self);
	self->kallsyms = kallsyms_maker_write(
		self->symbols,
		options->generation == GENERATION_6_1 ? KALLSYMS_BEFORE_6_4 : KALLSYMS_SINCE_6_4,
		KALLSYMS_ABSOLUTE_PERCPU, image(0), self->memory->bytes + IMAGE_GPA, BTF, KALLSYMS);
	return self;
}

HvpKernel *synthetic_guest_attach(SyntheticGuest *self)
{
	g_autoptr(GError) error = NULL;
	HvpKernel *kernel = hvp_kernel_attach(&self->memory->base, &self->registers, 1, NULL,
					      &error);

	g_assert_no_error(error);
	return kernel;
}

guint synthetic_guest_used(SyntheticGuest *self, HvpGpaRange *ret_ranges, guint most)
{
	const HvpGpaRange all[] = {
		{ hvp_gpa(FIRST_TABLE), hvp_gpa(self->next_table) },
		{ hvp_gpa(FIRST_HEAP), hvp_gpa(self->next_heap) },
		{ hvp_gpa(IMAGE_GPA + ORC_IPS), hvp_gpa(IMAGE_GPA + ORC_IPS + 0x200) },
		{ hvp_gpa(IMAGE_GPA + ORC_ENTRIES), hvp_gpa(IMAGE_GPA + ORC_ENTRIES + 0x200) },
		{ hvp_gpa(IMAGE_GPA + KALLSYMS), hvp_gpa(IMAGE_GPA + self->kallsyms.end) },
		{ hvp_gpa(IMAGE_GPA + BTF), hvp_gpa(IMAGE_GPA + BTF + 0x3000) },
		{ hvp_gpa(IMAGE_GPA + NOTES), hvp_gpa(IMAGE_GPA + NOTES + 64) },
		{ hvp_gpa(IMAGE_GPA + BANNER), hvp_gpa(IMAGE_GPA + BANNER + 64) },
		{ hvp_gpa(IMAGE_GPA + TABLES), hvp_gpa(IMAGE_GPA + TABLES + 256) },
		{ hvp_gpa(self->root_gpa), hvp_gpa(self->root_gpa + HVP_PAGE_SIZE) },
		{ hvp_gpa(DATA_GPA + FIRST_DATA - DATA_OFFSET),
		  hvp_gpa(DATA_GPA + self->next_data - DATA_OFFSET) },
	};
	guint count = MIN(most, (guint)G_N_ELEMENTS(all));

	memcpy(ret_ranges, all, count * sizeof all[0]);
	return count;
}
