/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/text-sites.h"

#include "base/bytes.h"

#define MAX_TABLE_BYTES (32U << 20)
#define MAX_KPROBES 65536U
/* KPROBE_HASH_BITS in kernel/kprobes.c */
#define KPROBE_BUCKETS 64U
#define SMP_LOCK_BYTES 4U

typedef struct {
	const char *kind;
	GArray *addresses; /* guint64 */
} SiteTable;

enum { TABLE_JUMP_LABELS, TABLE_STATIC_CALLS, TABLE_EXCEPTIONS, TABLE_SMP_LOCKS, TABLE_COUNT };

struct HvpTextSites {
	SiteTable tables[TABLE_COUNT];
};

void hvp_text_sites_free(HvpTextSites *self)
{
	if (self == NULL)
		return;
	for (guint i = 0; i < TABLE_COUNT; i++)
		if (self->tables[i].addresses != NULL)
			g_array_unref(self->tables[i].addresses);
	g_free(self);
}

/*
 * Reads @total bytes of entries of @size bytes at @start; each holds at @member a signed 32-bit
 * distance from that field to the site.
 */
static bool read_entries(HvpKernel *kernel, HvpGva start, guint64 total, guint32 size,
			 guint32 member, GArray *addresses, GError **error)
{
	g_autofree guint8 *bytes = NULL;

	if (size == 0 || member + 4 > size || total > MAX_TABLE_BYTES)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the table at 0x%" G_GINT64_MODIFIER "x is malformed",
				     start.value);
	bytes = g_try_malloc(total + 1);
	if (bytes == NULL)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "no memory for the table at 0x%" G_GINT64_MODIFIER "x",
				     start.value);
	if (!hvp_address_space_read(hvp_kernel_get_space(kernel), start, bytes, total, error))
		return false;
	for (guint64 at = 0; at + size <= total; at += size) {
		gint32 distance = (gint32)hvp_load_u32(bytes + at + member);
		guint64 address = start.value + at + member + (guint64)(gint64)distance;

		g_array_append_val(addresses, address);
	}
	return true;
}

/* The same between two symbols. */
static bool read_table(HvpKernel *kernel, const char *start_name, const char *end_name,
		       guint32 size, guint32 member, GArray *addresses, GError **error)
{
	HvpGva start, end;

	if (!hvp_kernel_symbol(kernel, start_name, &start, error) ||
	    !hvp_kernel_symbol(kernel, end_name, &end, error))
		return false;
	if (read_entries(kernel, start, end.value - start.value, size, member, addresses, error))
		return true;
	g_prefix_error(error, "%s: ", start_name);
	return false;
}

/* A kernel that lacks the table (a feature not configured) has no such sites. */
static bool read_optional(HvpTextSites *self, HvpKernel *kernel, guint table, const char *kind,
			  const char *start, const char *end, HvpLayoutItem size,
			  HvpLayoutItem member, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);

	self->tables[table].kind = kind;
	self->tables[table].addresses = g_array_new(FALSE, FALSE, sizeof(guint64));
	if (!hvp_kernel_has_symbol(kernel, start))
		return true;
	if (!hvp_layout_require(layout, size, error) || !hvp_layout_require(layout, member, error))
		return false;
	return read_table(kernel, start, end, hvp_layout_get(layout, size),
			  hvp_layout_get(layout, member), self->tables[table].addresses, error);
}

/* Lock prefixes are rewritten when a second CPU comes, so only while there is one. */
static bool read_uniproc(HvpKernel *kernel, bool *ret_uniproc, GError **error)
{
	HvpGva flag;
	guint8 patched = 0;

	*ret_uniproc = false;
	if (!hvp_kernel_has_symbol(kernel, "uniproc_patched"))
		return true;
	if (!hvp_kernel_symbol(kernel, "uniproc_patched", &flag, error) ||
	    !hvp_address_space_read(hvp_kernel_get_space(kernel), flag, &patched, 1, error))
		return false;
	*ret_uniproc = patched != 0;
	return true;
}

static bool read_smp_locks(HvpTextSites *self, HvpKernel *kernel, GError **error)
{
	bool uniproc;

	self->tables[TABLE_SMP_LOCKS].kind = "an SMP lock prefix";
	self->tables[TABLE_SMP_LOCKS].addresses = g_array_new(FALSE, FALSE, sizeof(guint64));
	if (!read_uniproc(kernel, &uniproc, error))
		return false;
	return !uniproc || read_table(kernel, "__smp_locks", "__smp_locks_end", SMP_LOCK_BYTES, 0,
				      self->tables[TABLE_SMP_LOCKS].addresses, error);
}

HvpTextSites *hvp_text_sites_read(HvpKernel *kernel, GError **error)
{
	g_autoptr(HvpTextSites) self = g_new0(HvpTextSites, 1);

	if (!read_optional(self, kernel, TABLE_JUMP_LABELS, "a jump label", "__start___jump_table",
			   "__stop___jump_table", HVP_AT_JUMP_ENTRY_SIZE, HVP_AT_JUMP_ENTRY_CODE,
			   error) ||
	    !read_optional(self, kernel, TABLE_STATIC_CALLS, "a static call",
			   "__start_static_call_sites", "__stop_static_call_sites",
			   HVP_AT_STATIC_CALL_SITE_SIZE, HVP_AT_STATIC_CALL_SITE_ADDRESS, error) ||
	    !read_optional(self, kernel, TABLE_EXCEPTIONS, "an exception-table entry",
			   "__start___ex_table", "__stop___ex_table", HVP_AT_EXTABLE_SIZE,
			   HVP_AT_EXTABLE_INSN, error) ||
	    !read_smp_locks(self, kernel, error))
		return NULL;
	return g_steal_pointer(&self);
}

static bool add_module_table(HvpTextSites *self, HvpKernel *kernel, guint table, HvpGva start,
			     guint32 count, HvpLayoutItem size, HvpLayoutItem member,
			     GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	guint32 bytes = hvp_layout_get(layout, size);

	if (count == 0)
		return true;
	return hvp_layout_require(layout, size, error) &&
	       hvp_layout_require(layout, member, error) &&
	       read_entries(kernel, start, (guint64)count * bytes, bytes,
			    hvp_layout_get(layout, member), self->tables[table].addresses, error);
}

static bool read_alternative(HvpKernel *kernel, guint64 entry, HvpLayoutItem item,
			     guint64 *ret_value, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);

	return hvp_layout_require(layout, item, error) &&
	       hvp_address_space_read_u64(hvp_kernel_get_space(kernel),
					  hvp_gva(entry + hvp_layout_get(layout, item)), ret_value,
					  error);
}

/* A module's lock prefixes are known to the list that a second CPU will walk. */
static bool add_module_locks(HvpTextSites *self, HvpKernel *kernel, const HvpModule *module,
			     GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	guint64 at, owner, start, end;
	HvpGva head;
	bool uniproc;

	if (!read_uniproc(kernel, &uniproc, error))
		return false;
	if (!uniproc)
		return true;
	if (!hvp_layout_require(layout, HVP_AT_SMP_ALT_NEXT, error) ||
	    !hvp_kernel_symbol(kernel, "smp_alt_modules", &head, error) ||
	    !hvp_address_space_read_u64(hvp_kernel_get_space(kernel), head, &at, error))
		return false;
	for (guint i = 0; at != head.value; i++) {
		guint64 entry = at - hvp_layout_get(layout, HVP_AT_SMP_ALT_NEXT);

		if (i > HVP_MODULES_MAX)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "the guest's list of SMP locks does not end");
		if (!read_alternative(kernel, entry, HVP_AT_SMP_ALT_MODULE, &owner, error) ||
		    !read_alternative(kernel, entry, HVP_AT_SMP_ALT_LOCKS, &start, error) ||
		    !read_alternative(kernel, entry, HVP_AT_SMP_ALT_LOCKS_END, &end, error) ||
		    !read_alternative(kernel, entry, HVP_AT_SMP_ALT_NEXT, &at, error))
			return false;
		if (owner == module->address.value)
			return read_entries(kernel, hvp_gva(start), end - start, SMP_LOCK_BYTES, 0,
					    self->tables[TABLE_SMP_LOCKS].addresses, error);
	}
	return true;
}

bool hvp_text_sites_add_module(HvpTextSites *self, HvpKernel *kernel, const HvpModule *module,
			       GError **error)
{
	if (add_module_table(self, kernel, TABLE_JUMP_LABELS, module->jump_labels,
			     module->jump_label_count, HVP_AT_JUMP_ENTRY_SIZE,
			     HVP_AT_JUMP_ENTRY_CODE, error) &&
	    add_module_table(self, kernel, TABLE_STATIC_CALLS, module->static_calls,
			     module->static_call_count, HVP_AT_STATIC_CALL_SITE_SIZE,
			     HVP_AT_STATIC_CALL_SITE_ADDRESS, error) &&
	    add_module_table(self, kernel, TABLE_EXCEPTIONS, module->exceptions,
			     module->exception_count, HVP_AT_EXTABLE_SIZE, HVP_AT_EXTABLE_INSN,
			     error) &&
	    add_module_locks(self, kernel, module, error))
		return true;
	g_prefix_error(error, "module %s: ", module->name);
	return false;
}

/* The address of the first of @table's in @range; false: there is none. */
static bool find_site(const SiteTable *table, HvpGvaRange range, guint64 *ret_address)
{
	for (guint i = 0; i < table->addresses->len; i++) {
		*ret_address = g_array_index(table->addresses, guint64, i);
		if (hvp_gva_range_contains(range, hvp_gva(*ret_address)))
			return true;
	}
	return false;
}

bool hvp_text_sites_check(const HvpTextSites *self, HvpGvaRange range, GError **error)
{
	guint64 address;

	for (guint table = 0; table < TABLE_COUNT; table++)
		if (find_site(&self->tables[table], range, &address))
			return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
					     "%s lies at 0x%" G_GINT64_MODIFIER
					     "x, in the bytes to be replaced",
					     self->tables[table].kind, address);
	return true;
}

bool hvp_text_sites_check_exits(const HvpTextSites *self, HvpGvaRange range, GError **error)
{
	static const guint exits[] = { TABLE_JUMP_LABELS, TABLE_EXCEPTIONS };
	guint64 address;

	for (guint i = 0; i < G_N_ELEMENTS(exits); i++)
		if (find_site(&self->tables[exits[i]], range, &address))
			return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
					     "%s lies at 0x%" G_GINT64_MODIFIER "x",
					     self->tables[exits[i]].kind, address);
	return true;
}

/* Follows one bucket; struct kprobe starts with its hlist_node. */
static bool check_bucket(HvpKernel *kernel, guint64 probe, HvpGvaRange range, guint *steps,
			 GError **error)
{
	HvpAddressSpace *space = hvp_kernel_get_space(kernel);
	guint32 offset = hvp_layout_get(hvp_kernel_get_layout(kernel), HVP_AT_KPROBE_ADDRESS);

	while (probe != 0) {
		guint64 address;

		if (++*steps > MAX_KPROBES)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "the guest's kprobe table does not end");
		if (!hvp_address_space_read_u64(space, hvp_gva_add(hvp_gva(probe), offset),
						&address, error))
			return false;
		if (hvp_gva_range_contains(range, hvp_gva(address)))
			return hvp_error_set(error, HVP_ERROR_CONFLICT,
					     "a kprobe of the guest lies at 0x%" G_GINT64_MODIFIER
					     "x, in the bytes to be replaced",
					     address);
		if (!hvp_address_space_read_u64(space, hvp_gva(probe), &probe, error))
			return false;
	}
	return true;
}

bool hvp_text_sites_check_kprobes(HvpKernel *kernel, HvpGvaRange range, GError **error)
{
	guint8 buckets[KPROBE_BUCKETS * 8];
	HvpGva table;
	guint steps = 0;

	if (!hvp_kernel_has_symbol(kernel, "kprobe_table"))
		return true;
	if (!hvp_layout_require(hvp_kernel_get_layout(kernel), HVP_AT_KPROBE_ADDRESS, error) ||
	    !hvp_kernel_symbol(kernel, "kprobe_table", &table, error) ||
	    !hvp_address_space_read(hvp_kernel_get_space(kernel), table, buckets, sizeof buckets,
				    error))
		return false;
	for (guint i = 0; i < KPROBE_BUCKETS; i++)
		if (!check_bucket(kernel, hvp_load_u64(buckets + i * 8), range, &steps, error))
			return false;
	return true;
}
