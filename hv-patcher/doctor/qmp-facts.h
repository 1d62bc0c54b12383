/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a plain QEMU tells of itself through its monitor: queries alone, nothing is stopped. */
#pragma once

#include "doctor/facts.h"

/*
 * Asks the QEMU at socket @path, 10 s at most. What fails is told in the facts: reach_error where
 * it does not answer at all; what it does not tell stays unknown.
 */
void hvp_qmp_facts_gather(const char *path, HvpFactsVm *vm);
