/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/image.h"

#include "base/bytes.h"

#define IMAGE_REGION_START 0xffffffff80000000ULL
#define IMAGE_REGION_END 0xffffffffc0000000ULL

#define CR0_PG (1ULL << 31)
#define CR4_PAE (1ULL << 5)
/* Page-table isolation keeps the user half of a root one page above the kernel half. */
#define CR3_USER_HALF (1ULL << 12)

#define GATE_BYTES 16U
#define PAGE_FAULT_GATE 14U
#define MIN_IMAGE_BYTES (4U << 20)

/* The handler that gate @vector of the table at @idt_base leads to. */
static bool read_gate(HvpAddressSpace *space, guint64 idt_base, guint vector, HvpGva *ret_handler,
		      GError **error)
{
	guint8 gate[GATE_BYTES];

	if (!hvp_address_space_read(space, hvp_gva(idt_base + vector * GATE_BYTES), gate,
				    sizeof gate, error))
		return false;
	*ret_handler = hvp_gva(hvp_load_u16(gate) | (guint64)hvp_load_u16(gate + 6) << 16 |
			       (guint64)hvp_load_u32(gate + 8) << 32);
	return true;
}

/* Any address in kernel text that the vCPU's own state gives away. */
static bool find_text_address(HvpAddressSpace *space, const HvpRegisters *registers,
			      HvpGva *ret_address, GError **error)
{
	HvpGva address = hvp_gva(registers->rip);

	/* FRED guests have no IDT: there only a RIP in kernel text tells. */
	if (registers->idt_base != 0 &&
	    !read_gate(space, registers->idt_base, PAGE_FAULT_GATE, &address, error))
		return false;
	if (address.value < IMAGE_REGION_START || address.value >= IMAGE_REGION_END)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
				     "its page-fault handler 0x%" G_GINT64_MODIFIER
				     "x is not in the range of a Linux kernel",
				     address.value);
	*ret_address = address;
	return true;
}

/* First and last mapped block of the image region. */
static bool find_extent(HvpAddressSpace *space, HvpGvaRange *ret_range, HvpGpa *ret_gpa,
			GError **error)
{
	HvpGva at = hvp_gva(IMAGE_REGION_START);
	bool found = false;

	while (at.value < IMAGE_REGION_END) {
		HvpTranslation block;

		if (!hvp_address_space_walk(space, at, &block, error))
			return false;
		if (block.mapped && !found) {
			ret_range->start = at;
			*ret_gpa = block.gpa;
			found = true;
		}
		/* A hole may be larger than the region, and end where addresses wrap. */
		at.value += MIN(block.block_bytes - (at.value & (block.block_bytes - 1)),
				IMAGE_REGION_END - at.value);
		if (block.mapped)
			ret_range->end = at;
	}
	if (!found)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND, "no kernel image is mapped");
	return true;
}

static bool locate_with_root(HvpPhysical *physical, const HvpRegisters *registers, guint64 cr3,
			     HvpImageLocation *ret_location, GError **error)
{
	g_autoptr(HvpAddressSpace) space = hvp_address_space_new(physical, cr3, registers->cr4);
	HvpImageLocation location = { .cr3 = cr3, .cr4 = registers->cr4 };
	HvpGva text = { 0 };

	if (!find_text_address(space, registers, &text, error) ||
	    !find_extent(space, &location.range, &location.base_gpa, error))
		return false;
	if (!hvp_gva_range_contains(location.range, text) ||
	    hvp_gva_range_size(location.range) < MIN_IMAGE_BYTES)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
				     "only the entry text of a kernel is mapped");
	*ret_location = location;
	return true;
}

static bool locate_by_vcpu(HvpPhysical *physical, const HvpRegisters *registers,
			   HvpImageLocation *ret_location, GError **error)
{
	if ((registers->cr0 & CR0_PG) == 0 || (registers->cr4 & CR4_PAE) == 0)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND, "no vCPU is in 64-bit mode");
	if (locate_with_root(physical, registers, registers->cr3, ret_location, NULL))
		return true;
	/* On the user half of an isolated table only entry text is mapped. */
	return locate_with_root(physical, registers, registers->cr3 & ~CR3_USER_HALF, ret_location,
				error);
}

bool hvp_image_locate(HvpPhysical *physical, const HvpRegisters *registers, guint count,
		      HvpImageLocation *ret_location, GError **error)
{
	g_autoptr(GError) reason = NULL;

	for (guint i = 0; i < count; i++) {
		g_clear_error(&reason);
		if (locate_by_vcpu(physical, &registers[i], ret_location, &reason))
			return true;
		if (g_error_matches(reason, HVP_ERROR, HVP_ERROR_VM_GONE) ||
		    g_error_matches(reason, HVP_ERROR, HVP_ERROR_PERMISSION)) {
			g_propagate_error(error, g_steal_pointer(&reason));
			return false;
		}
	}
	return hvp_error_set(error, HVP_ERROR_NOT_FOUND, "no Linux kernel found in the guest: %s",
			     reason ? reason->message : "no vCPU");
}

GBytes *hvp_image_copy(HvpAddressSpace *space, const HvpImageLocation *location, GError **error)
{
	guint64 size = hvp_gva_range_size(location->range);
	g_autofree guint8 *bytes = NULL;
	guint64 done = 0;

	if (size > HVP_IMAGE_MAX_BYTES || (bytes = g_try_malloc0(size)) == NULL) {
		hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			      "the kernel image is too large (%" G_GUINT64_FORMAT " bytes)", size);
		return NULL;
	}
	while (done < size) {
		HvpGva at = hvp_gva_add(location->range.start, done);
		HvpTranslation block;
		guint64 piece;

		if (!hvp_address_space_walk(space, at, &block, error))
			return NULL;
		piece = MIN(size - done, block.block_bytes - (at.value & (block.block_bytes - 1)));
		if (block.mapped && !hvp_address_space_read(space, at, bytes + done, piece, error))
			return NULL;
		done += piece;
	}
	return g_bytes_new_take(g_steal_pointer(&bytes), size);
}
