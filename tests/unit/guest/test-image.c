/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "guest/image.h"
#include "synthetic-guest.h"

static void assert_located(SyntheticGuest *guest)
{
	g_autoptr(GError) error = NULL;
	HvpImageLocation found;

	g_assert_true(hvp_image_locate(&guest->memory->base, &guest->registers, 1, &found, &error));
	g_assert_cmphex(found.range.start.value, ==, SYNTHETIC_BASE);
	g_assert_cmphex(found.range.end.value, ==, SYNTHETIC_BASE + SYNTHETIC_IMAGE_BYTES);
	g_assert_cmphex(found.base_gpa.value, ==, 0x600000);
}

static void assert_not_located(SyntheticGuest *guest, HvpErrorCode code)
{
	g_autoptr(GError) error = NULL;
	HvpImageLocation found;

	g_assert_false(
		hvp_image_locate(&guest->memory->base, &guest->registers, 1, &found, &error));
	g_assert_error(error, HVP_ERROR, (int)code);
	g_assert_cmpuint(guest->memory->calls, <, 100000);
}

static void test_page_sizes(void)
{
	for (guint i = 0; i < 4; i++) {
		SyntheticOptions options = { .small_pages = i & 1, .five_levels = i & 2 };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);

		assert_located(guest);
	}
}

static void test_isolated(void)
{
	for (guint i = 0; i < 2; i++) {
		SyntheticOptions options = { .isolated = true, .five_levels = i };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		g_autoptr(HvpKernel) kernel = NULL;

		g_assert_cmphex(guest->registers.cr3 & 0x1000, ==, 0x1000);
		assert_located(guest);
		/* In kernel mode the bit is clear. */
		guest->registers.cr3 &= ~0x1000ULL;
		assert_located(guest);
		kernel = synthetic_guest_attach(guest);
		g_assert_true(hvp_kernel_is_mapped_by(kernel, guest->registers.cr3));
		g_assert_true(hvp_kernel_is_mapped_by(kernel, guest->user_root_gpa | 0x805));
		g_assert_false(hvp_kernel_is_mapped_by(kernel, 0x5000));
		g_assert_false(hvp_kernel_is_mapped_by(kernel, 0xfffffffff000));
	}
}

static void test_no_kernel(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	HvpRegisters good = guest->registers;
	g_autoptr(GError) error = NULL;
	HvpImageLocation found;

	/* Real mode; paging without PAE; a root that is empty or not there; no IDT. */
	guest->registers.cr0 = 0x10;
	assert_not_located(guest, HVP_ERROR_NOT_FOUND);
	guest->registers = good;
	guest->registers.cr4 = 0;
	assert_not_located(guest, HVP_ERROR_NOT_FOUND);
	guest->registers = good;
	guest->registers.cr3 = 0x700000;
	assert_not_located(guest, HVP_ERROR_NOT_FOUND);
	guest->registers.cr3 = 0xffffffffff000;
	assert_not_located(guest, HVP_ERROR_NOT_FOUND);
	guest->registers = good;
	guest->registers.idt_base = 0x1234000;
	assert_not_located(guest, HVP_ERROR_NOT_FOUND);
	guest->registers.idt_base = 0x8000000000000000;
	assert_not_located(guest, HVP_ERROR_NOT_FOUND);
	/* FRED: no IDT, and a RIP of a user's program. */
	guest->registers.idt_base = 0;
	assert_not_located(guest, HVP_ERROR_NOT_FOUND);
	guest->registers.rip = synthetic_guest_symbol(guest, "schedule").value;
	assert_located(guest);
	g_assert_false(hvp_image_locate(&guest->memory->base, NULL, 0, &found, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
}

static void test_second_vcpu(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	HvpRegisters all[3] = { [2] = guest->registers };
	HvpImageLocation found;

	g_assert_true(hvp_image_locate(&guest->memory->base, all, 3, &found, NULL));
	g_assert_cmphex(found.range.start.value, ==, SYNTHETIC_BASE);
}

static void test_handler_elsewhere(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	HvpGva hole = hvp_gva(SYNTHETIC_BASE + SYNTHETIC_IMAGE_BYTES + 0x100000);
	guint64 entry = synthetic_guest_entry(guest, guest->root_gpa, hvp_gva(0xfffffe0000000000),
					      1);
	guint64 gpa = image_memory_get_u64(guest->memory, entry) & 0xffffffffff000;

	/* Behind the image, then outside the kernel's range altogether. */
	hvp_store_u16(guest->memory->bytes + gpa + 14 * 16, (guint16)hole.value);
	hvp_store_u16(guest->memory->bytes + gpa + 14 * 16 + 6, (guint16)(hole.value >> 16));
	assert_not_located(guest, HVP_ERROR_NOT_FOUND);
	hvp_store_u32(guest->memory->bytes + gpa + 14 * 16 + 8, 0xfffff800);
	assert_not_located(guest, HVP_ERROR_NOT_FOUND);
}

/*
 * Nothing is mapped at the top, and all of the lower half is, by tables that contain
 * themselves: the search must not go on past the end of the address space.
 */
static void test_wrap(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	HvpGva handler = synthetic_guest_symbol(guest, "asm_exc_page_fault");

	for (guint i = 0; i < 511; i++)
		if (i != 508)
			image_memory_put_u64(guest->memory, guest->root_gpa + i * 8,
					     guest->root_gpa | 3);
	image_memory_put_u64(guest->memory, guest->root_gpa + 511 * 8, 0);
	g_assert_cmphex(handler.value >> 32, ==, 0xffffffff);
	assert_not_located(guest, HVP_ERROR_NOT_FOUND);
}

static void test_gone(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);

	guest->memory->gone = true;
	assert_not_located(guest, HVP_ERROR_VM_GONE);
}

static void test_copy(void)
{
	for (guint i = 0; i < 2; i++) {
		SyntheticOptions options = { .small_pages = i };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		g_autoptr(HvpAddressSpace) space = hvp_address_space_new(
			&guest->memory->base, guest->registers.cr3, guest->registers.cr4);
		g_autoptr(GBytes) copy = NULL;
		g_autoptr(GError) error = NULL;
		HvpImageLocation found;
		const guint8 *bytes;

		g_assert_true(
			hvp_image_locate(&guest->memory->base, &guest->registers, 1, &found, NULL));
		copy = hvp_image_copy(space, &found, &error);
		g_assert_no_error(error);
		bytes = g_bytes_get_data(copy, NULL);
		g_assert_cmpuint(g_bytes_get_size(copy), ==, SYNTHETIC_IMAGE_BYTES);
		g_assert_cmpmem(bytes, 2U << 20, guest->memory->bytes + 0x600000, 2U << 20);
		g_assert_cmpmem(bytes + 0x400000, 2U << 20, guest->memory->bytes + 0x800000,
				2U << 20);
		for (guint at = 0x200000; at < 0x400000; at += 8)
			g_assert_cmphex(hvp_load_u64(bytes + at), ==, 0);
	}
}

static void test_copy_too_large(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpAddressSpace) space = hvp_address_space_new(
		&guest->memory->base, guest->registers.cr3, guest->registers.cr4);
	HvpImageLocation found = { .range = { hvp_gva(0xffffffff80000000),
					      hvp_gva(0xffffffff80000000 + HVP_IMAGE_MAX_BYTES +
						      1) } };
	g_autoptr(GError) error = NULL;

	g_assert_null(hvp_image_copy(space, &found, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/image/4K-2M-and-5-levels-LOCATED", test_page_sizes);
	g_test_add_func("/image/user-half-of-isolated-tables-LOCATED", test_isolated);
	g_test_add_func("/image/no-kernel-NOT_FOUND", test_no_kernel);
	g_test_add_func("/image/third-vcpu-LOCATED", test_second_vcpu);
	g_test_add_func("/image/handler-outside-image-NOT_FOUND", test_handler_elsewhere);
	g_test_add_func("/image/hole-up-to-2-64-NOT_FOUND-soon", test_wrap);
	g_test_add_func("/image/memory-gone-VM_GONE", test_gone);
	g_test_add_func("/image/copy-WHOLE-with-holes-of-zeros", test_copy);
	g_test_add_func("/image/copy-too-large-UNSUPPORTED", test_copy_too_large);
	return g_test_run();
}
