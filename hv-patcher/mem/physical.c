/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mem/physical.h"

void hvp_physical_free(HvpPhysical *self)
{
	if (self != NULL)
		self->ops->free(self);
}

bool hvp_physical_read_batch(HvpPhysical *self, HvpPhysicalRead *reads, gsize count,
			     GError **error)
{
	return self->ops->read(self, reads, count, error);
}

bool hvp_physical_read(HvpPhysical *self, HvpGpa gpa, void *ret_bytes, gsize length_bytes,
		       GError **error)
{
	HvpPhysicalRead read = { gpa, ret_bytes, length_bytes, false };

	if (!self->ops->read(self, &read, 1, error))
		return false;
	if (!read.ok)
		return hvp_error_set(error, HVP_ERROR_FAULT,
				     "no guest memory at physical 0x%" G_GINT64_MODIFIER "x..0x%"
				     G_GINT64_MODIFIER "x", gpa.value, gpa.value + length_bytes);
	return true;
}
