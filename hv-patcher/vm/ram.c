/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/ram.h"

struct HvpRam {
	GArray *ranges; /* of HvpRamRange */
};

static int compare_ranges(const void *a, const void *b)
{
	guint64 a_start = ((const HvpRamRange *)a)->start.value;
	guint64 b_start = ((const HvpRamRange *)b)->start.value;

	return (a_start > b_start) - (a_start < b_start);
}

static bool add_range(GArray *ranges, const HvpRamRange *range, GError **error)
{
	guint64 size_bytes = range->end.value - range->start.value;
	HvpRamRange *previous = NULL;

	if (ranges->len > 0)
		previous = &g_array_index(ranges, HvpRamRange, ranges->len - 1);
	if (range->end.value <= range->start.value || range->hva.value + size_bytes < size_bytes ||
	    (previous != NULL && range->start.value < previous->end.value))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "range of RAM at 0x%" G_GINT64_MODIFIER
				     "x is empty or overlaps another",
				     range->start.value);
	if (previous != NULL && previous->end.value == range->start.value &&
	    previous->hva.value + (previous->end.value - previous->start.value) == range->hva.value)
		previous->end = range->end;
	else
		g_array_append_val(ranges, *range);
	return true;
}

HvpRam *hvp_ram_new(const HvpRamRange *ranges, gsize count, GError **error)
{
	g_autoptr(GArray) sorted = g_array_new(FALSE, TRUE, sizeof(HvpRamRange));
	g_autoptr(HvpRam) self = NULL;

	if (count == 0 || count > HVP_RAM_MAX_RANGES) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "%" G_GSIZE_FORMAT " ranges of RAM",
			      count);
		return NULL;
	}
	g_array_append_vals(sorted, ranges, (guint)count);
	g_array_sort(sorted, compare_ranges);
	self = g_new0(HvpRam, 1);
	self->ranges = g_array_new(FALSE, TRUE, sizeof(HvpRamRange));
	for (guint i = 0; i < sorted->len; i++) {
		if (!add_range(self->ranges, &g_array_index(sorted, HvpRamRange, i), error))
			return NULL;
	}
	return g_steal_pointer(&self);
}

void hvp_ram_free(HvpRam *self)
{
	if (self == NULL)
		return;
	g_array_unref(self->ranges);
	g_free(self);
}

const HvpRamRange *hvp_ram_get_ranges(const HvpRam *self, gsize *ret_count)
{
	*ret_count = self->ranges->len;
	return (const HvpRamRange *)self->ranges->data;
}

const HvpRamRange *hvp_ram_find(const HvpRam *self, HvpGpa gpa)
{
	guint low = 0;
	guint high = self->ranges->len;

	while (low < high) {
		guint middle = low + (high - low) / 2;
		const HvpRamRange *range = &g_array_index(self->ranges, HvpRamRange, middle);

		if (gpa.value < range->start.value)
			high = middle;
		else if (gpa.value >= range->end.value)
			low = middle + 1;
		else
			return range;
	}
	return NULL;
}

guint64 hvp_ram_get_size_bytes(const HvpRam *self)
{
	guint64 size_bytes = 0;

	for (guint i = 0; i < self->ranges->len; i++) {
		const HvpRamRange *range = &g_array_index(self->ranges, HvpRamRange, i);

		size_bytes += range->end.value - range->start.value;
	}
	return size_bytes;
}
