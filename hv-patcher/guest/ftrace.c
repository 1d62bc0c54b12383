/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/ftrace.h"

#include "base/bytes.h"

#define MAX_PAGES 65536U
#define MAX_RECORDS (4U << 20)
#define MAX_RECORD_BYTES 256U
#define ENDBR_BYTES 4U

struct HvpFtrace {
	GArray *records; /* HvpFtraceRecord, sorted by ip */
};

void hvp_ftrace_free(HvpFtrace *self)
{
	if (self == NULL)
		return;
	g_array_unref(self->records);
	g_free(self);
}

static bool read_records(HvpFtrace *self, HvpKernel *kernel, HvpGva records, guint32 count,
			 GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	guint32 size = hvp_layout_get(layout, HVP_AT_FTRACE_SIZE);
	g_autofree guint8 *bytes = NULL;

	if (count > MAX_RECORDS || self->records->len + count > MAX_RECORDS)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "too many ftrace records");
	bytes = g_try_malloc((gsize)count * size + 1);
	if (bytes == NULL)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "no memory for the guest's ftrace records");
	if (!hvp_address_space_read(hvp_kernel_get_space(kernel), records, bytes,
				    (gsize)count * size, error))
		return false;
	for (guint32 i = 0; i < count; i++) {
		const guint8 *at = bytes + (gsize)i * size;
		HvpFtraceRecord record = {
			hvp_gva_add(records, (guint64)i * size),
			hvp_gva(hvp_load_u64(at + hvp_layout_get(layout, HVP_AT_FTRACE_IP))),
			hvp_load_u64(at + hvp_layout_get(layout, HVP_AT_FTRACE_FLAGS)),
		};

		g_array_append_val(self->records, record);
	}
	return true;
}

static bool read_page(HvpFtrace *self, HvpKernel *kernel, HvpGva page, guint64 *ret_next,
		      GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	HvpAddressSpace *space = hvp_kernel_get_space(kernel);
	guint64 records;
	guint32 count;

	return hvp_address_space_read_u64(
		       space, hvp_gva_add(page, hvp_layout_get(layout, HVP_AT_FTRACE_PAGE_NEXT)),
		       ret_next, error) &&
	       hvp_address_space_read_u64(
		       space, hvp_gva_add(page, hvp_layout_get(layout, HVP_AT_FTRACE_PAGE_RECORDS)),
		       &records, error) &&
	       hvp_address_space_read_u32(
		       space, hvp_gva_add(page, hvp_layout_get(layout, HVP_AT_FTRACE_PAGE_INDEX)),
		       &count, error) &&
	       read_records(self, kernel, hvp_gva(records), count, error);
}

static int compare_records(const void *a, const void *b)
{
	guint64 left = ((const HvpFtraceRecord *)a)->ip.value;
	guint64 right = ((const HvpFtraceRecord *)b)->ip.value;

	return left < right ? -1 : left > right;
}

static bool check_layout(HvpKernel *kernel, GError **error)
{
	static const HvpLayoutItem needed[] = {
		HVP_AT_FTRACE_PAGE_NEXT,  HVP_AT_FTRACE_PAGE_RECORDS, HVP_AT_FTRACE_PAGE_INDEX,
		HVP_AT_FTRACE_IP,	  HVP_AT_FTRACE_FLAGS,	      HVP_AT_FTRACE_SIZE,
		HVP_AT_FTRACE_FL_IPMODIFY
	};
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	guint32 record_bytes;

	for (guint i = 0; i < G_N_ELEMENTS(needed); i++)
		if (!hvp_layout_require(layout, needed[i], error))
			return false;
	record_bytes = hvp_layout_get(layout, HVP_AT_FTRACE_SIZE);
	if (record_bytes > MAX_RECORD_BYTES ||
	    hvp_layout_get(layout, HVP_AT_FTRACE_IP) + 8 > record_bytes ||
	    hvp_layout_get(layout, HVP_AT_FTRACE_FLAGS) + 8 > record_bytes)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "struct dyn_ftrace is malformed");
	return true;
}

HvpFtrace *hvp_ftrace_read(HvpKernel *kernel, GError **error)
{
	g_autoptr(HvpFtrace) self = g_new0(HvpFtrace, 1);
	guint64 page;

	self->records = g_array_new(FALSE, FALSE, sizeof(HvpFtraceRecord));
	if (!hvp_kernel_has_symbol(kernel, "ftrace_pages_start")) {
		hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			      "the guest kernel has no dynamic ftrace");
		return NULL;
	}
	if (!check_layout(kernel, error) ||
	    !hvp_kernel_read_u64(kernel, "ftrace_pages_start", &page, error))
		return NULL;
	for (guint pages = 0; page != 0; pages++) {
		if (pages >= MAX_PAGES) {
			hvp_error_set(error, HVP_ERROR_BAD_DATA, "the ftrace pages do not end");
			return NULL;
		}
		if (!read_page(self, kernel, hvp_gva(page), &page, error))
			return NULL;
	}
	g_array_sort(self->records, compare_records);
	return g_steal_pointer(&self);
}

bool hvp_ftrace_find(const HvpFtrace *self, HvpGva function, HvpFtraceRecord *ret_record,
		     GError **error)
{
	for (guint32 skip = 0; skip <= ENDBR_BYTES; skip += ENDBR_BYTES) {
		HvpFtraceRecord wanted = { .ip = hvp_gva_add(function, skip) };
		guint index;

		if (g_array_binary_search(self->records, &wanted, compare_records, &index)) {
			*ret_record = g_array_index(self->records, HvpFtraceRecord, index);
			return true;
		}
	}
	return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
			     "no ftrace record at its entry 0x%" G_GINT64_MODIFIER
			     "x (notrace, noinstr or assembly)",
			     function.value);
}

bool hvp_ftrace_read_flags(HvpKernel *kernel, HvpGva record, guint64 *ret_flags, GError **error)
{
	guint32 offset = hvp_layout_get(hvp_kernel_get_layout(kernel), HVP_AT_FTRACE_FLAGS);

	return hvp_address_space_read_u64(hvp_kernel_get_space(kernel), hvp_gva_add(record, offset),
					  ret_flags, error);
}

bool hvp_ftrace_check_flags(HvpKernel *kernel, guint64 flags, const char *name, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);

	if (flags & hvp_layout_get(layout, HVP_AT_FTRACE_FL_IPMODIFY))
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "%s is redirected by the guest itself (its own livepatch)",
				     name);
	if (hvp_layout_has(layout, HVP_AT_FTRACE_FL_DISABLED) &&
	    (flags & hvp_layout_get(layout, HVP_AT_FTRACE_FL_DISABLED)))
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the guest's ftrace has disabled %s", name);
	return true;
}
