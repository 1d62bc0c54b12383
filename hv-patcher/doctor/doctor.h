/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether hvpatch can work on a host, and on a VM there: a pure function from facts (facts.h) to
 * findings (item.h). It looks at nothing, changes nothing, and knows where each thing that is
 * missing is to be mended.
 */
#pragma once

#include "doctor/facts.h"
#include "doctor/item.h"

/* HvpItem, in the order in which to read them; the caller's. @vm may be NULL: the host alone. */
GPtrArray *hvp_doctor_examine(const HvpFactsHost *host, const HvpFactsVm *vm);

/* Whether nothing is missing. */
bool hvp_doctor_is_healthy(const GPtrArray *items);

/*
 * 0 when healthy, else what commands would end with: 5 (permission, policy) before 3 (cannot
 * work here), before 1 (not installed, not found), before 4 (busy, passes by itself).
 */
int hvp_doctor_get_exit_status(const GPtrArray *items);
