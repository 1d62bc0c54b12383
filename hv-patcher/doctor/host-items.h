/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Findings about the host. What is missing depends on the VM, if there is one: without KVM an
 * emulated guest can be patched all the same.
 */
#pragma once

#include "doctor/facts.h"
#include "doctor/item.h"

/* Adds to @items; @vm may be NULL. */
void hvp_host_items_add(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm);

/* Whether @rules, text of an AppArmor profile, let a process of label @label read and trace. */
bool hvp_host_items_allow_tracing(const char *rules, const char *label);
