/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each vCPU of a stopped guest runs: which of the guest's CPUs it is, in which
 * mode, on whose stack. Decided by registers and per-CPU data, never by a task's own
 * claim to be on a CPU: during a switch and for offline CPUs that is true of two.
 */
#pragma once

#include "engine/target.h"
#include "guest/tasks.h"

typedef struct {
	bool started; /* false: it runs nothing of this kernel */
	guint cpu;    /* the guest's number */
	bool in_user_mode;
	HvpGva current;		      /* what the guest says runs there: the owner in user mode */
	HvpGvaRange irq_stack;	      /* empty where there is none */
	HvpGvaRange exception_stacks; /* those of NMI, #DF, #DB, #MC, with their guards */
} HvpRunning;

/*
 * Fills in @ret_running[@count] from @registers[@count]. BUSY: not a moment to judge (a vCPU is in
 * entry code, or one of the guest's online CPUs is on no vCPU). May be called while
 * stopped; allocates nothing.
 */
bool hvp_running_classify(HvpKernel *kernel, const HvpRegisters *registers, guint count,
			  HvpRunning *ret_running, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether the vCPU with @registers stands on @task's behalf: whose stack holds its RSP decides. */
bool hvp_running_is_owner(const HvpRunning *self, const HvpTask *task, guint32 stack_bytes,
			  const HvpRegisters *registers);
