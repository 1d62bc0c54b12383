/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/kernel.h"

#include "base/bytes.h"
#include "base/text.h"
#include "guest/kallsyms.h"
#include "guest/kernel-cache.h"

#include <string.h>

#define MAX_BTF_BYTES (64U << 20)
#define MAX_NOTES_BYTES (64U << 10)
#define NOTE_GNU_BUILD_ID 3U
#define MIN_STACK_BYTES (8U << 10)
#define MAX_STACK_BYTES (128U << 10)
/* include/uapi/linux/magic.h */
#define STACK_END_MAGIC 0x57AC6E9DU
#define PGD_LAST_ENTRY (511U * 8)
/* Accessed and dirty: set by each CPU in each copy of an entry. */
#define ENTRY_HARDWARE_BITS ((1ULL << 5) | (1ULL << 6))
#define ENTRY_ADDRESS_BITS 0x000ffffffffff000ULL
#define CR3_USER_HALF (1ULL << 12)

struct HvpKernel {
	HvpPhysical *physical;
	HvpImageLocation location;
	HvpAddressSpace *space;
	HvpSymbols *symbols;
	HvpLayout layout;
	HvpKernelIdentity identity;
	HvpGpa root_gpa; /* of init_top_pgt */
	char *banner;
	char *release;
	char *build_id;
	GArray *cpu_offsets; /* guint64; 0 for a CPU that is not possible */
	guint32 stack_bytes;
	bool cached;
	gint64 attach_usec;
};

void hvp_kernel_free(HvpKernel *self)
{
	if (self == NULL)
		return;
	hvp_address_space_free(self->space);
	hvp_symbols_free(self->symbols);
	g_free(self->banner);
	g_free(self->release);
	g_free(self->build_id);
	if (self->cpu_offsets != NULL)
		g_array_unref(self->cpu_offsets);
	g_free(self);
}

HvpAddressSpace *hvp_kernel_get_space(HvpKernel *self)
{
	return self->space;
}

const HvpLayout *hvp_kernel_get_layout(HvpKernel *self)
{
	return &self->layout;
}

const HvpSymbols *hvp_kernel_get_symbols(HvpKernel *self)
{
	return self->symbols;
}

const HvpImageLocation *hvp_kernel_get_location(HvpKernel *self)
{
	return &self->location;
}

const char *hvp_kernel_get_banner(HvpKernel *self)
{
	return self->banner;
}

const char *hvp_kernel_get_release(HvpKernel *self)
{
	return self->release;
}

const char *hvp_kernel_get_build_id(HvpKernel *self)
{
	return self->build_id;
}

bool hvp_kernel_was_cached(HvpKernel *self)
{
	return self->cached;
}

gint64 hvp_kernel_get_attach_usec(HvpKernel *self)
{
	return self->attach_usec;
}

static HvpGva symbol_address(HvpKernel *self, const HvpSymbol *symbol)
{
	return symbol->absolute ? hvp_gva(symbol->value)
				: hvp_gva_add(self->location.range.start, symbol->value);
}

bool hvp_kernel_has_symbol(HvpKernel *self, const char *name)
{
	gsize first;

	return hvp_symbols_find(self->symbols, name, &first) > 0;
}

GArray *hvp_kernel_functions_named(HvpKernel *self, const char *name)
{
	GArray *ranges = g_array_new(FALSE, FALSE, sizeof(HvpGvaRange));
	const HvpSymbols *symbols = hvp_kernel_get_symbols(self);
	HvpGva base = hvp_kernel_get_location(self)->range.start;
	gsize length = strlen(name), first = 0;
	gsize count = hvp_symbols_find_prefix(symbols, name, &first);

	for (gsize i = 0; i < count; i++) {
		HvpSymbol symbol = hvp_symbols_by_name(symbols, first + i);
		const char *found;
		HvpGvaRange range;

		if ((symbol.name[length] == 0 || symbol.name[length] == '.') && !symbol.absolute &&
		    hvp_kernel_find_address(self, hvp_gva_add(base, symbol.value), &found, &range))
			g_array_append_val(ranges, range);
	}
	return ranges;
}

bool hvp_kernel_has_symbol_at(HvpKernel *self, const char *name, guint64 position)
{
	gsize first, count = hvp_symbols_find(self->symbols, name, &first);

	return position == 0 ? count == 1 : position <= count;
}

bool hvp_kernel_symbol(HvpKernel *self, const char *name, HvpGva *ret_address, GError **error)
{
	gsize first, count = hvp_symbols_find(self->symbols, name, &first);
	HvpSymbol symbol;

	if (count == 0)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
				     "the guest kernel has no symbol %s", name);
	if (count > 1)
		return hvp_error_set(error, HVP_ERROR_AMBIGUOUS,
				     "the guest kernel has %" G_GSIZE_FORMAT " symbols named %s",
				     count, name);
	symbol = hvp_symbols_by_name(self->symbols, first);
	*ret_address = symbol_address(self, &symbol);
	return true;
}

static bool ambiguous(HvpKernel *self, const char *name, gsize first, gsize count, GError **error)
{
	g_autoptr(GString) places = g_string_new(NULL);

	for (gsize i = 0; i < MIN(count, 8); i++) {
		HvpSymbol symbol = hvp_symbols_by_name(self->symbols, first + i);

		g_string_append_printf(places, "%s0x%" G_GINT64_MODIFIER "x", i ? ", " : "",
				       symbol_address(self, &symbol).value);
	}
	return hvp_error_set(error, HVP_ERROR_AMBIGUOUS,
			     "%" G_GSIZE_FORMAT
			     " functions are named %s (%s%s) and the patch gives no position",
			     count, name, places->str, count > 8 ? ", ..." : "");
}

/* [@start, @end) from the base, as far as it is in the image. */
static HvpGvaRange clip_to_image(HvpKernel *self, guint64 start, guint64 end)
{
	HvpGva base = self->location.range.start;

	end = MIN(end, hvp_gva_range_size(self->location.range));
	return (HvpGvaRange){ hvp_gva_add(base, start), hvp_gva_add(base, end) };
}

bool hvp_kernel_function(HvpKernel *self, const char *name, guint64 position,
			 HvpGvaRange *ret_range, GError **error)
{
	gsize first, count = hvp_symbols_find(self->symbols, name, &first);
	HvpSymbol symbol, found;
	guint64 end;

	if (count == 0)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
				     "the guest kernel has no function %s", name);
	if (count > 1 && position == 0)
		return ambiguous(self, name, first, count, error);
	if (position > count)
		return hvp_error_set(
			error, HVP_ERROR_NOT_FOUND,
			"the guest kernel has %" G_GSIZE_FORMAT
			" functions named %s, the patch wants number %" G_GUINT64_FORMAT,
			count, name, position);
	symbol = hvp_symbols_by_name(self->symbols, first + (position ? position - 1 : 0));
	if (symbol.absolute || symbol.value >= hvp_gva_range_size(self->location.range) ||
	    !hvp_symbols_find_address(self->symbols, symbol.value, &found, &end))
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND, "%s is not in the guest's image",
				     name);
	*ret_range = clip_to_image(self, symbol.value, end);
	return true;
}

bool hvp_kernel_find_address(HvpKernel *self, HvpGva address, const char **ret_name,
			     HvpGvaRange *ret_range)
{
	HvpSymbol symbol;
	guint64 end;

	if (!hvp_gva_range_contains(self->location.range, address) ||
	    !hvp_symbols_find_address(
		    self->symbols, address.value - self->location.range.start.value, &symbol, &end))
		return false;
	*ret_name = symbol.name;
	*ret_range = clip_to_image(self, symbol.value, end);
	return true;
}

HvpGvaRange hvp_kernel_get_text(HvpKernel *self)
{
	HvpGvaRange text = { 0 };

	/* Checked at attach. */
	(void)!hvp_kernel_symbol(self, "_stext", &text.start, NULL);
	(void)!hvp_kernel_symbol(self, "_etext", &text.end, NULL);
	return text;
}

bool hvp_kernel_read_u32(HvpKernel *self, const char *name, guint32 *ret_value, GError **error)
{
	HvpGva address;

	return hvp_kernel_symbol(self, name, &address, error) &&
	       hvp_address_space_read_u32(self->space, address, ret_value, error);
}

bool hvp_kernel_read_u64(HvpKernel *self, const char *name, guint64 *ret_value, GError **error)
{
	HvpGva address;

	return hvp_kernel_symbol(self, name, &address, error) &&
	       hvp_address_space_read_u64(self->space, address, ret_value, error);
}

guint32 hvp_kernel_get_stack_bytes(HvpKernel *self)
{
	return self->stack_bytes;
}

guint hvp_kernel_get_cpu_count(HvpKernel *self)
{
	return self->cpu_offsets->len;
}

guint64 hvp_kernel_get_cpu_offset(HvpKernel *self, guint cpu)
{
	return g_array_index(self->cpu_offsets, guint64, cpu);
}

bool hvp_kernel_find_cpu(HvpKernel *self, guint64 gs_base, guint *ret_cpu)
{
	for (guint cpu = 0; gs_base != 0 && cpu < self->cpu_offsets->len; cpu++)
		if (hvp_kernel_get_cpu_offset(self, cpu) == gs_base) {
			*ret_cpu = cpu;
			return true;
		}
	return false;
}

bool hvp_kernel_find_cpu_by_tss(HvpKernel *self, guint64 tr_base, guint *ret_cpu)
{
	HvpGpa wanted, found;
	HvpGva address;

	if (tr_base == 0 || !hvp_kernel_has_symbol(self, "cpu_tss_rw") ||
	    !hvp_address_space_translate(self->space, hvp_gva(tr_base), &wanted, NULL))
		return false;
	for (guint cpu = 0; cpu < self->cpu_offsets->len; cpu++) {
		if (hvp_kernel_get_cpu_offset(self, cpu) == 0 ||
		    !hvp_kernel_per_cpu(self, "cpu_tss_rw", cpu, &address, NULL) ||
		    !hvp_address_space_translate(self->space, address, &found, NULL) ||
		    found.value != wanted.value)
			continue;
		*ret_cpu = cpu;
		return true;
	}
	return false;
}

bool hvp_kernel_per_cpu(HvpKernel *self, const char *name, guint cpu, HvpGva *ret_address,
			GError **error)
{
	HvpGva address;

	if (!hvp_kernel_symbol(self, name, &address, error))
		return false;
	/* Absolute offsets before 6.15, addresses in the image since: the sum is the same. */
	*ret_address = hvp_gva_add(address, hvp_kernel_get_cpu_offset(self, cpu));
	return true;
}

static bool hot_address(HvpKernel *self, HvpLayoutItem hot_item, const char *name, guint cpu,
			HvpGva *ret_address, GError **error)
{
	if (hvp_layout_has(&self->layout, hot_item) && hvp_kernel_has_symbol(self, "pcpu_hot")) {
		if (!hvp_kernel_per_cpu(self, "pcpu_hot", cpu, ret_address, error))
			return false;
		*ret_address = hvp_gva_add(*ret_address, hvp_layout_get(&self->layout, hot_item));
		return true;
	}
	return hvp_kernel_per_cpu(self, name, cpu, ret_address, error);
}

bool hvp_kernel_current_address(HvpKernel *self, guint cpu, HvpGva *ret_address, GError **error)
{
	return hot_address(self, HVP_AT_HOT_CURRENT, "current_task", cpu, ret_address, error);
}

bool hvp_kernel_preempt_count_address(HvpKernel *self, guint cpu, HvpGva *ret_address,
				      GError **error)
{
	return hot_address(self, HVP_AT_HOT_PREEMPT_COUNT, "__preempt_count", cpu, ret_address,
			   error);
}

bool hvp_kernel_irq_stack_address(HvpKernel *self, guint cpu, HvpGva *ret_address, GError **error)
{
	return hot_address(self, HVP_AT_HOT_HARDIRQ_STACK, "hardirq_stack_ptr", cpu, ret_address,
			   error);
}

/* The entry of root @cr3 under which the kernel image hangs. */
static bool read_kernel_entry(HvpKernel *self, guint64 cr3, guint64 *ret_entry)
{
	guint8 bytes[8];

	if (!hvp_physical_read(self->physical, hvp_gpa((cr3 & ENTRY_ADDRESS_BITS) + PGD_LAST_ENTRY),
			       bytes, sizeof bytes, NULL))
		return false;
	*ret_entry = hvp_load_u64(bytes) & ~ENTRY_HARDWARE_BITS;
	return true;
}

bool hvp_kernel_is_mapped_by(HvpKernel *self, guint64 cr3)
{
	guint64 ours, theirs;

	if (!read_kernel_entry(self, self->root_gpa.value, &ours) ||
	    !read_kernel_entry(self, cr3, &theirs))
		return false;
	if (ours != theirs && (cr3 & CR3_USER_HALF) != 0 &&
	    !read_kernel_entry(self, cr3 & ~CR3_USER_HALF, &theirs))
		return false;
	return ours == theirs &&
	       hvp_kernel_cache_matches(&self->identity, self->space, self->location.range.start);
}

/* An offset range of the image between two symbols, checked against its size. */
static bool image_range(HvpKernel *self, GBytes *image, const char *start, const char *end,
			gsize *ret_offset, gsize *ret_bytes, GError **error)
{
	HvpGva from, to;
	guint64 base = self->location.range.start.value;

	if (!hvp_kernel_symbol(self, start, &from, error) ||
	    !hvp_kernel_symbol(self, end, &to, error))
		return false;
	if (from.value < base || to.value < from.value || to.value - base > g_bytes_get_size(image))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s..%s is not in the image", start,
				     end);
	*ret_offset = from.value - base;
	*ret_bytes = to.value - from.value;
	return true;
}

static bool find_build_id(HvpKernel *self, GBytes *image, GError **error)
{
	gsize offset, bytes;
	HvpCursor cursor;

	if (!image_range(self, image, "__start_notes", "__stop_notes", &offset, &bytes, error))
		return false;
	cursor = hvp_cursor((const guint8 *)g_bytes_get_data(image, NULL) + offset,
			    MIN(bytes, MAX_NOTES_BYTES));
	while (cursor.offset_bytes + 12 <= cursor.length_bytes && !cursor.failed) {
		guint32 name_bytes = hvp_cursor_u32(&cursor);
		guint32 data_bytes = hvp_cursor_u32(&cursor);
		guint32 type = hvp_cursor_u32(&cursor);
		const guint8 *name = hvp_cursor_take(&cursor, ((gsize)name_bytes + 3) & ~(gsize)3);
		gsize at = cursor.offset_bytes;
		const guint8 *data = hvp_cursor_take(&cursor, ((gsize)data_bytes + 3) & ~(gsize)3);

		if (data == NULL || type != NOTE_GNU_BUILD_ID || name_bytes != 4 ||
		    memcmp(name, "GNU", 4) != 0 || data_bytes != HVP_KERNEL_CACHE_ID_BYTES)
			continue;
		memcpy(self->identity.build_id, data, HVP_KERNEL_CACHE_ID_BYTES);
		self->identity.build_id_offset = offset + at;
		return true;
	}
	return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "the guest kernel has no build-id");
}

static bool find_banner(HvpKernel *self, GBytes *image, GError **error)
{
	HvpGva address;
	const guint8 *bytes = g_bytes_get_data(image, NULL);
	guint64 offset;

	if (!hvp_kernel_symbol(self, "linux_banner", &address, error))
		return false;
	offset = address.value - self->location.range.start.value;
	if (offset >= g_bytes_get_size(image) - HVP_KERNEL_CACHE_BANNER_BYTES)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "linux_banner is not in the image");
	self->identity.banner_offset = offset;
	memcpy(self->identity.banner, bytes + offset, sizeof self->identity.banner - 1);
	return true;
}

static bool resolve_layout(HvpKernel *self, GBytes *image, GError **error)
{
	g_autoptr(GBytes) blob = NULL;
	g_autoptr(HvpBtf) btf = NULL;
	gsize offset, bytes;

	if (!hvp_kernel_has_symbol(self, "__start_BTF"))
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the guest kernel carries no BTF type information");
	if (!image_range(self, image, "__start_BTF", "__stop_BTF", &offset, &bytes, error))
		return false;
	if (bytes > MAX_BTF_BYTES)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "the guest's BTF is too large");
	self->identity.pieces[HVP_KALLSYMS_PIECES] = (HvpKallsymsPiece){ offset, bytes };
	blob = g_bytes_new_from_bytes(image, offset, bytes);
	btf = hvp_btf_new(blob, error);
	return btf != NULL && hvp_layout_resolve(btf, &self->layout, error);
}

/* The long way: from a copy of the whole image. */
static bool decode_image(HvpKernel *self, GError **error)
{
	g_autoptr(GBytes) image = hvp_image_copy(self->space, &self->location, error);
	gsize bytes;
	const guint8 *data;

	if (image == NULL)
		return false;
	data = g_bytes_get_data(image, &bytes);
	self->symbols = hvp_kallsyms_decode(data, bytes, self->location.range.start,
					    self->identity.pieces, error);
	if (self->symbols == NULL || !find_build_id(self, image, error) ||
	    !find_banner(self, image, error) || !resolve_layout(self, image, error))
		return false;
	hvp_kernel_cache_seal(&self->identity, image);
	return true;
}

/* A root that lives as long as the kernel, not as long as whichever task ran just now. */
static bool use_own_root(HvpKernel *self, GError **error)
{
	HvpGva root;

	if (!hvp_kernel_symbol(self, "init_top_pgt", &root, error) ||
	    !hvp_address_space_translate(self->space, root, &self->root_gpa, error))
		return false;
	hvp_address_space_free(self->space);
	self->space = hvp_address_space_new(self->physical, self->root_gpa.value,
					    self->location.cr4);
	self->location.cr3 = self->root_gpa.value;
	return true;
}

static bool load_cpus(HvpKernel *self, GError **error)
{
	guint32 count;
	HvpGva offsets, possible;
	guint8 mask[HVP_KERNEL_MAX_CPUS / 8] = { 0 };

	if (!hvp_kernel_read_u32(self, "nr_cpu_ids", &count, error) ||
	    !hvp_kernel_symbol(self, "__per_cpu_offset", &offsets, error) ||
	    !hvp_kernel_symbol(self, "__cpu_possible_mask", &possible, error))
		return false;
	if (count == 0 || count > HVP_KERNEL_MAX_CPUS)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "the guest claims %u CPUs", count);
	if (!hvp_address_space_read(self->space, possible, mask, (count + 63) / 64 * 8, error))
		return false;
	for (guint32 cpu = 0; cpu < count; cpu++) {
		guint64 offset = 0;

		if ((mask[cpu / 8] >> (cpu % 8) & 1) != 0 &&
		    !hvp_address_space_read_u64(self->space, hvp_gva_add(offsets, cpu * 8), &offset,
						error))
			return false;
		g_array_append_val(self->cpu_offsets, offset);
	}
	return true;
}

/* Stacks have no type that BTF keeps: the boot task's, between linker symbols, tells their size. */
static bool load_stack_size(HvpKernel *self, GError **error)
{
	HvpGva start, end;
	/* since 6.10 (2cb16181a1d1) named after the stack */
	const char *end_name = hvp_kernel_has_symbol(self, "__end_init_stack") ? "__end_init_stack"
									       : "__end_init_task";
	guint64 bytes;
	guint32 canary;

	if (!hvp_kernel_symbol(self, "init_stack", &start, error) ||
	    !hvp_kernel_symbol(self, end_name, &end, error) ||
	    !hvp_address_space_read_u32(self->space, start, &canary, error))
		return false;
	bytes = end.value - start.value;
	if (bytes < MIN_STACK_BYTES || bytes > MAX_STACK_BYTES || (bytes & (bytes - 1)) != 0 ||
	    canary != STACK_END_MAGIC)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the guest's init_stack is not a stack (0x%" G_GINT64_MODIFIER
				     "x bytes, canary 0x%x)",
				     bytes, canary);
	self->stack_bytes = (guint32)bytes;
	return true;
}

/* Facts that hold in every Linux kernel: offsets that are plausible but wrong end here. */
static bool cross_check(HvpKernel *self, GError **error)
{
	static const char idle_comm[] = "swapper";
	char comm[sizeof idle_comm - 1];
	HvpGva task, start, end;
	guint32 pid;

	if (!hvp_kernel_symbol(self, "init_task", &task, error) ||
	    !hvp_kernel_symbol(self, "_stext", &start, error) ||
	    !hvp_kernel_symbol(self, "_etext", &end, error) ||
	    !hvp_address_space_read(
		    self->space, hvp_gva_add(task, hvp_layout_get(&self->layout, HVP_AT_TASK_COMM)),
		    comm, sizeof comm, error) ||
	    !hvp_address_space_read_u32(
		    self->space, hvp_gva_add(task, hvp_layout_get(&self->layout, HVP_AT_TASK_PID)),
		    &pid, error))
		return false;
	if (start.value >= end.value || !hvp_gva_range_contains(self->location.range, start) ||
	    end.value > self->location.range.end.value)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the guest's _stext.._etext is not in its kernel image");
	if (memcmp(comm, idle_comm, sizeof comm) != 0 || pid != 0)
		return hvp_error_set(
			error, HVP_ERROR_BAD_DATA,
			"the guest's init_task is not where its type information says");
	return true;
}

static void describe(HvpKernel *self)
{
	const char *banner = self->identity.banner;
	gsize skip = strlen("Linux version ");
	GString *build_id = g_string_new(NULL);

	self->banner = hvp_text_escape(banner, strcspn(banner, "\n"),
				       HVP_KERNEL_CACHE_BANNER_BYTES);
	self->release = g_str_has_prefix(banner, "Linux version ")
				? hvp_text_escape(banner + skip, strcspn(banner + skip, " \n"), 128)
				: g_strdup("unknown");
	for (guint i = 0; i < sizeof self->identity.build_id; i++)
		g_string_append_printf(build_id, "%02x", self->identity.build_id[i]);
	self->build_id = g_string_free(build_id, FALSE);
}

static bool load_or_decode(HvpKernel *self, const char *cache_folder, GError **error)
{
	g_autoptr(GError) not_cached = NULL;

	if (cache_folder != NULL) {
		self->cached = hvp_kernel_cache_load(cache_folder, self->space,
						     self->location.range.start, &self->identity,
						     &self->layout, &self->symbols, NULL);
		if (self->cached)
			return true;
	}
	if (!decode_image(self, error))
		return false;
	if (cache_folder != NULL &&
	    !hvp_kernel_cache_store(cache_folder, &self->identity, &self->layout, self->symbols,
				    &not_cached))
		g_debug("kernel is not cached: %s", not_cached->message);
	return true;
}

HvpKernel *hvp_kernel_attach(HvpPhysical *physical, const HvpRegisters *registers, guint count,
			     const char *cache_folder, GError **error)
{
	g_autoptr(HvpKernel) self = g_new0(HvpKernel, 1);
	gint64 started = g_get_monotonic_time();

	self->physical = physical;
	self->cpu_offsets = g_array_new(FALSE, FALSE, sizeof(guint64));
	if (!hvp_image_locate(physical, registers, count, &self->location, error))
		return NULL;
	self->space = hvp_address_space_new(physical, self->location.cr3, self->location.cr4);
	if (!load_or_decode(self, cache_folder, error) || !use_own_root(self, error) ||
	    !load_cpus(self, error) || !load_stack_size(self, error) || !cross_check(self, error))
		return NULL;
	describe(self);
	self->attach_usec = g_get_monotonic_time() - started;
	return g_steal_pointer(&self);
}
