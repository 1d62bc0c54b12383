/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "call/guest-write.h"

bool hvp_guest_write(HvpKeeper *keeper, HvpAddressSpace *space, HvpGva address, const void *bytes,
		     gsize length_bytes, GError **error)
{
	gsize done = 0;

	hvp_address_space_forget(space);
	while (done < length_bytes) {
		HvpGva at = hvp_gva_add(address, done);
		gsize piece = MIN(length_bytes - done, HVP_PAGE_SIZE - (at.value & HVP_PAGE_MASK));
		HvpGpa gpa;

		if (!hvp_address_space_translate(space, at, &gpa, error) ||
		    !hvp_keeper_write_data(keeper, gpa, (const guint8 *)bytes + done, piece, error))
			return false;
		done += piece;
	}
	return true;
}
