/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hvpatch without its stack proof, so that a test can show that the oracle sees what comes of it.
 * The linker puts these in the place of the real ones (--wrap). Never installed.
 */
#include "engine/prove.h"

bool __wrap_hvp_prove(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count);
bool __wrap_hvp_prove_changed(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count);
bool __wrap_hvp_prove_is_blocked(const HvpSweep *sweep, const HvpForbidden *forbidden,
				 gsize count);

bool __wrap_hvp_prove(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count)
{
	(void)sweep;
	(void)forbidden;
	(void)count;
	return true;
}

bool __wrap_hvp_prove_changed(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count)
{
	return __wrap_hvp_prove(sweep, forbidden, count);
}

bool __wrap_hvp_prove_is_blocked(const HvpSweep *sweep, const HvpForbidden *forbidden, gsize count)
{
	(void)sweep;
	(void)forbidden;
	(void)count;
	return false;
}
