/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/orc.h"

#include "base/bytes.h"

/* Where the fields of a struct orc_entry are, fetched from the layout once. */
typedef struct {
	guint32 entry_bytes;
	guint32 sp_offset;
	guint32 bp_offset;
	HvpLayoutValue sp_reg;
	HvpLayoutValue bp_reg;
	HvpLayoutValue type;
	HvpLayoutValue end;
	HvpLayoutValue signal;
} Fields;

struct HvpOrc {
	HvpGva ips_address;
	guint32 count;
	guint8 *ips;
	guint8 *entries;
	Fields fields;
};

void hvp_orc_free(HvpOrc *self)
{
	if (self == NULL)
		return;
	g_free(self->ips);
	g_free(self->entries);
	g_free(self);
}

static Fields load_fields(const HvpLayout *layout)
{
	return (Fields){ .entry_bytes = hvp_layout_get(layout, HVP_AT_ORC_SIZE),
			 .sp_offset = hvp_layout_get(layout, HVP_AT_ORC_SP_OFFSET),
			 .bp_offset = hvp_layout_get(layout, HVP_AT_ORC_BP_OFFSET),
			 .sp_reg = layout->items[HVP_AT_ORC_SP_REG],
			 .bp_reg = layout->items[HVP_AT_ORC_BP_REG],
			 .type = layout->items[HVP_AT_ORC_TYPE],
			 .end = layout->items[HVP_AT_ORC_END],
			 .signal = layout->items[HVP_AT_ORC_SIGNAL] };
}

static bool fits(const Fields *fields, const HvpLayoutValue *field)
{
	return field->value == HVP_LAYOUT_ABSENT ||
	       (field->value + (field->bit + field->bits + 7U) / 8 <= fields->entry_bytes &&
		field->bits > 0 && field->bits <= 8);
}

static bool check_fields(const Fields *fields, GError **error)
{
	if (fields->entry_bytes < 6 || fields->entry_bytes > 16 ||
	    fields->sp_offset + 2 > fields->entry_bytes ||
	    fields->bp_offset + 2 > fields->entry_bytes || !fits(fields, &fields->sp_reg) ||
	    !fits(fields, &fields->bp_reg) || !fits(fields, &fields->type) ||
	    !fits(fields, &fields->end) || !fits(fields, &fields->signal))
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the guest's struct orc_entry has no known form");
	return true;
}

static guint64 ip_at(const HvpOrc *self, guint32 index)
{
	gint32 offset = (gint32)hvp_load_u32(self->ips + (gsize)index * 4);

	return self->ips_address.value + (guint64)index * 4 + (guint64)(gint64)offset;
}

static bool check_ascending(const HvpOrc *self, GError **error)
{
	for (guint32 i = 1; i < self->count; i++)
		if (ip_at(self, i) < ip_at(self, i - 1))
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "ORC address %u at 0x%" G_GINT64_MODIFIER
					     "x does not ascend",
					     i, self->ips_address.value);
	return true;
}

HvpOrc *hvp_orc_load(HvpKernel *kernel, HvpGva ips, HvpGva entries, guint64 count, GError **error)
{
	g_autoptr(HvpOrc) self = g_new0(HvpOrc, 1);
	HvpAddressSpace *space = hvp_kernel_get_space(kernel);

	self->ips_address = ips;
	self->fields = load_fields(hvp_kernel_get_layout(kernel));
	if (!check_fields(&self->fields, error))
		return NULL;
	if (count > HVP_ORC_MAX_ENTRIES) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "%" G_GUINT64_FORMAT " ORC entries",
			      count);
		return NULL;
	}
	self->count = (guint32)count;
	self->ips = g_try_malloc(count * 4 + 1);
	self->entries = g_try_malloc(count * self->fields.entry_bytes + 1);
	if (self->ips == NULL || self->entries == NULL) {
		hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "no memory for the guest's ORC tables");
		return NULL;
	}
	if (!hvp_address_space_read(space, ips, self->ips, count * 4, error) ||
	    !hvp_address_space_read(space, entries, self->entries, count * self->fields.entry_bytes,
				    error) ||
	    !check_ascending(self, error))
		return NULL;
	return g_steal_pointer(&self);
}

HvpOrc *hvp_orc_load_image(HvpKernel *kernel, GError **error)
{
	HvpGva ips, ips_end, entries;

	if (!hvp_kernel_symbol(kernel, "__start_orc_unwind_ip", &ips, NULL) ||
	    !hvp_kernel_symbol(kernel, "__stop_orc_unwind_ip", &ips_end, NULL) ||
	    !hvp_kernel_symbol(kernel, "__start_orc_unwind", &entries, NULL)) {
		hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			      "the guest kernel has no ORC tables (no UNWINDER_ORC)");
		return NULL;
	}
	return hvp_orc_load(kernel, ips, entries, (ips_end.value - ips.value) / 4, error);
}

static guint extract(const guint8 *entry, const HvpLayoutValue *field)
{
	guint value = entry[field->value];

	if (field->bit + field->bits > 8)
		value |= (guint)entry[field->value + 1] << 8;
	return (value >> field->bit) & ((1U << field->bits) - 1);
}

/*
 * Until 6.3 the types were CALL 0, REGS 1, REGS_PARTIAL 2, and an entry without a stack
 * register meant the end or nothing by its `end` bit; 6.4 (fb799447ae29) made both types:
 * UNDEFINED 0, END_OF_STACK 1, CALL 2, REGS 3, REGS_PARTIAL 4.
 */
static HvpOrcType decode_type(const Fields *fields, const guint8 *entry, guint sp_reg)
{
	static const HvpOrcType since_6_4[] = { HVP_ORC_UNDEFINED, HVP_ORC_END, HVP_ORC_CALL,
						HVP_ORC_REGS, HVP_ORC_IRET };
	static const HvpOrcType before[] = { HVP_ORC_CALL, HVP_ORC_REGS, HVP_ORC_IRET };
	guint type = extract(entry, &fields->type);

	if (fields->end.value == HVP_LAYOUT_ABSENT)
		return type < G_N_ELEMENTS(since_6_4) ? since_6_4[type] : HVP_ORC_UNDEFINED;
	if (sp_reg == HVP_ORC_REG_UNDEFINED)
		return extract(entry, &fields->end) ? HVP_ORC_END : HVP_ORC_UNDEFINED;
	return type < G_N_ELEMENTS(before) ? before[type] : HVP_ORC_UNDEFINED;
}

static HvpOrcEntry decode(const HvpOrc *self, guint32 index)
{
	const Fields *fields = &self->fields;
	const guint8 *entry = self->entries + (gsize)index * fields->entry_bytes;
	HvpOrcEntry decoded = { .sp_offset = (gint16)hvp_load_u16(entry + fields->sp_offset),
				.bp_offset = (gint16)hvp_load_u16(entry + fields->bp_offset),
				.sp_reg = (guint8)extract(entry, &fields->sp_reg),
				.bp_reg = (guint8)extract(entry, &fields->bp_reg) };

	decoded.type = decode_type(fields, entry, decoded.sp_reg);
	/* Before 6.3 (ffb1b4a41016) being a signal frame followed from the type. */
	decoded.signal = fields->signal.value != HVP_LAYOUT_ABSENT
				 ? extract(entry, &fields->signal) != 0
				 : decoded.type == HVP_ORC_REGS || decoded.type == HVP_ORC_IRET;
	return decoded;
}

bool hvp_orc_find(const HvpOrc *self, HvpGva pc, HvpOrcEntry *ret_entry)
{
	guint32 low = 0, high = self->count;

	while (low < high) {
		guint32 middle = low + (high - low) / 2;

		if (ip_at(self, middle) <= pc.value)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return false;
	*ret_entry = decode(self, low - 1);
	return true;
}
