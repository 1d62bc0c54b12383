/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was once decoded of a kernel, on disk by build-id: symbols and layout,
 * relative to the image's base. Files are written to a temporary name and renamed.
 * A reader compares build-id, banner and a digest of the very tables that symbols and layout
 * were decoded from with the guest's memory before it believes a file: what one guest told
 * holds for no other that would not have told the same. It ignores a file that is damaged or of
 * another format.
 *
 *   file = header (KernelCacheHeader), HvpLayout, symbols (hvp_symbols_serialize)
 */
#pragma once

#include "guest/image.h"
#include "guest/kallsyms.h"
#include "guest/layout.h"
#include "guest/symbols.h"

#define HVP_KERNEL_CACHE_ID_BYTES 20U
#define HVP_KERNEL_CACHE_BANNER_BYTES 512U
#define HVP_KERNEL_CACHE_DIGEST_BYTES 32U
/* Those of kallsyms, and BTF. */
#define HVP_KERNEL_CACHE_PIECES (HVP_KALLSYMS_PIECES + 1)

/* How a kernel is recognised: by its names, and by what was decoded of it. */
typedef struct {
	guint64 build_id_offset; /* from the image's base */
	guint64 banner_offset;
	guint8 build_id[HVP_KERNEL_CACHE_ID_BYTES];
	char banner[HVP_KERNEL_CACHE_BANNER_BYTES]; /* NUL-padded */
	HvpKallsymsPiece pieces[HVP_KERNEL_CACHE_PIECES];
	guint8 digest[HVP_KERNEL_CACHE_DIGEST_BYTES]; /* SHA-256 of the pieces */
} HvpKernelIdentity;

/* Computes the digest of the pieces from a copy of the image, which contains them. */
void hvp_kernel_cache_seal(HvpKernelIdentity *self, GBytes *image);

/* Compares build-id and banner with the guest's: quick, and no more than a name. */
bool hvp_kernel_cache_matches(const HvpKernelIdentity *self, HvpAddressSpace *space, HvpGva base);

/*
 * Finds the file in @folder whose identity is the one in the guest. NOT_FOUND when there is
 * none. @ret_symbols is the caller's.
 */
bool hvp_kernel_cache_load(const char *folder, HvpAddressSpace *space, HvpGva base,
			   HvpKernelIdentity *ret_identity, HvpLayout *ret_layout,
			   HvpSymbols **ret_symbols, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Writes the file for @identity, making @folder (0700) when needed. */
bool hvp_kernel_cache_store(const char *folder, const HvpKernelIdentity *identity,
			    const HvpLayout *layout, const HvpSymbols *symbols,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;
