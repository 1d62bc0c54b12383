/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Findings about a VM. */
#pragma once

#include "doctor/facts.h"
#include "doctor/item.h"

/* Adds to @items. */
void hvp_vm_items_add(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm);
