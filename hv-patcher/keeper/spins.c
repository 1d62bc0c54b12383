/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/spins.h"

#include <string.h>

/* jmp to itself */
static const guint8 spin_bytes[HVP_KEEPER_SPIN_BYTES] = { 0xeb, 0xfe };

static bool is_valid(const HvpKeeperSpin *site)
{
	return site->pc.value != 0 &&
	       (site->gpa.value & HVP_PAGE_MASK) + HVP_KEEPER_SPIN_BYTES <= HVP_PAGE_SIZE &&
	       memcmp(site->old_bytes, spin_bytes, sizeof spin_bytes) != 0 &&
	       (site->emulation.kind == HVP_EMULATION_NONE ||
		hvp_emulation_is_valid(&site->emulation));
}

bool hvp_spins_set(HvpSpins *self, const HvpKeeperSpin *sites, gsize count, GError **error)
{
	if (count > HVP_KEEPER_MAX_SPINS)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "more than %d spin traps",
				     HVP_KEEPER_MAX_SPINS);
	for (gsize i = 0; i < count; i++)
		if (!is_valid(&sites[i]))
			return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
					     "no spin trap can be at 0x%" G_GINT64_MODIFIER "x",
					     sites[i].pc.value);
	if (count > 0)
		memmove(self->sites, sites, count * sizeof *sites);
	self->count = count;
	return true;
}

const HvpKeeperSpin *hvp_spins_find(const HvpSpins *self, HvpGva pc)
{
	for (gsize i = 0; i < self->count; i++)
		if (self->sites[i].pc.value == pc.value)
			return &self->sites[i];
	return NULL;
}

static bool holds(const HvpKeeperSpin *site, HvpBackend *backend, const guint8 *bytes,
		  bool *ret_holds, GError **error)
{
	guint8 now[HVP_KEEPER_SPIN_BYTES];

	if (!hvp_backend_read_physical(backend, site->gpa, now, sizeof now, error))
		return false;
	*ret_holds = memcmp(now, bytes, sizeof now) == 0;
	return true;
}

static bool write_and_verify(const HvpKeeperSpin *site, HvpBackend *backend, const guint8 *bytes,
			     GError **error)
{
	bool arrived;

	if (!hvp_backend_write_physical(backend, site->gpa, bytes, HVP_KEEPER_SPIN_BYTES, error) ||
	    !holds(site, backend, bytes, &arrived, error))
		return false;
	return arrived || hvp_error_set(error, HVP_ERROR_FAULT,
					"the spin trap at 0x%" G_GINT64_MODIFIER
					"x does not hold what was written",
					site->pc.value);
}

bool hvp_spins_plant(const HvpKeeperSpin *site, HvpBackend *backend, GError **error)
{
	bool is_old;

	if (!holds(site, backend, site->old_bytes, &is_old, error))
		return false;
	if (!is_old)
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "foreign bytes at 0x%" G_GINT64_MODIFIER
				     "x, where a spin trap was to be",
				     site->pc.value);
	return write_and_verify(site, backend, spin_bytes, error);
}

bool hvp_spins_remove(const HvpKeeperSpin *site, HvpBackend *backend, bool *ret_removed,
		      GError **error)
{
	bool is_planted, is_old;

	*ret_removed = false;
	if (!hvp_spins_is_planted(site, backend, &is_planted, error))
		return false;
	if (is_planted) {
		*ret_removed = write_and_verify(site, backend, site->old_bytes, error);
		return *ret_removed;
	}
	if (!holds(site, backend, site->old_bytes, &is_old, error))
		return false;
	*ret_removed = true;
	return is_old || hvp_error_set(error, HVP_ERROR_CONFLICT,
				       "the guest wrote over the spin trap at "
				       "0x%" G_GINT64_MODIFIER "x",
				       site->pc.value);
}

bool hvp_spins_is_planted(const HvpKeeperSpin *site, HvpBackend *backend, bool *ret_planted,
			  GError **error)
{
	return holds(site, backend, spin_bytes, ret_planted, error);
}
