/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing plain data (a file, a record, arguments) into guest memory by its virtual
 * address, through the keeper.
 */
#pragma once

#include "keeper/keeper.h"
#include "mem/address-space.h"

/*
 * While the guest stands still: writes [@address, @address + @length_bytes) page by page. FAULT
 * where it is not mapped; errors of the keeper. Drops @space's cached tables first, since what the
 * guest has just allocated may be mapped anew.
 */
bool hvp_guest_write(HvpKeeper *keeper, HvpAddressSpace *space, HvpGva address, const void *bytes,
		     gsize length_bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;
