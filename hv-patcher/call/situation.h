/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What runs on a vCPU that stands at a trap, and whether it may sleep there. */
#pragma once

#include "base/registers.h"
#include "guest/kernel.h"
#include "guest/task.h"

typedef struct {
	HvpTask task;
	guint32 preempt_count;
	guint32 rcu_nesting;
	guint32 system_state;
	bool interrupts_on;
} HvpSituation;

/* While stopped: reads it for the vCPU with @registers. BUSY: its GS is not a CPU's; FAULT. */
bool hvp_situation_read(HvpKernel *kernel, const HvpRegisters *registers,
			HvpSituation *ret_situation, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Why whoever is there must not sleep, a phrase; NULL where it may. */
const char *hvp_situation_why_atomic(const HvpSituation *self);
