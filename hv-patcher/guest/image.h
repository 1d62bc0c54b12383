/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds the kernel image of a running guest from registers and memory alone, and
 * takes a private copy of it.
 *
 * A vCPU's interrupt descriptor table leads into kernel text; the range
 * 0xffffffff80000000..0xffffffffc0000000 holds nothing but the kernel image, so
 * what is mapped there gives its base (KASLR included) and extent.
 *
 * Source: arch/x86/include/asm/page_64_types.h (KERNEL_IMAGE_SIZE),
 * arch/x86/mm/init_64.c (cleanup_highmap).
 */
#pragma once

#include "base/registers.h"
#include "mem/address-space.h"

/* Where the image is, in an address space that reaches it. */
typedef struct {
	HvpGvaRange range; /* first to last mapped byte; may have holes */
	HvpGpa base_gpa;   /* of range.start, to recognise the kernel by */
	guint64 cr3;	   /* the root it was found with */
	guint64 cr4;
} HvpImageLocation;

/*
 * Tries each of @registers until one leads to a kernel. NOT_FOUND with the
 * reason when none does (firmware, another operating system, not 64-bit).
 */
bool hvp_image_locate(HvpPhysical *physical, const HvpRegisters *registers, guint count,
		      HvpImageLocation *ret_location, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Copies the whole image; holes read as zeros. Bounded by the 1 GiB of the range
 * and by HVP_IMAGE_MAX_BYTES. Owned by the caller.
 */
#define HVP_IMAGE_MAX_BYTES (256U << 20)
GBytes *hvp_image_copy(HvpAddressSpace *space, const HvpImageLocation *location, GError **error);
