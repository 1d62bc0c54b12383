/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "call/situation.h"

#include "guest/tasks.h"

/* preempt_count's need-resched bit is inverted and no count. */
#define PREEMPT_NEED_RESCHED 0x80000000U

bool hvp_situation_read(HvpKernel *kernel, const HvpRegisters *registers,
			HvpSituation *ret_situation, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	HvpAddressSpace *space = hvp_kernel_get_space(kernel);
	HvpGva current_address, count_address;
	guint64 current;
	guint cpu;

	if (!hvp_kernel_find_cpu(kernel, registers->gs_base, &cpu))
		return hvp_error_set(error, HVP_ERROR_BUSY, "GS is not a CPU's");
	hvp_address_space_forget(space);
	if (!hvp_kernel_current_address(kernel, cpu, &current_address, error) ||
	    !hvp_address_space_read_u64(space, current_address, &current, error) ||
	    !hvp_kernel_preempt_count_address(kernel, cpu, &count_address, error) ||
	    !hvp_address_space_read_u32(space, count_address, &ret_situation->preempt_count,
					error) ||
	    !hvp_kernel_read_u32(kernel, "system_state", &ret_situation->system_state, error) ||
	    !hvp_tasks_read_one(kernel, hvp_gva(current), &ret_situation->task, error))
		return false;
	ret_situation->interrupts_on = (registers->rflags & HVP_RFLAGS_IF) != 0;
	ret_situation->rcu_nesting = 0;
	return !hvp_layout_has(layout, HVP_AT_TASK_RCU_NESTING) ||
	       hvp_address_space_read_u32(
		       space, hvp_gva(current + hvp_layout_get(layout, HVP_AT_TASK_RCU_NESTING)),
		       &ret_situation->rcu_nesting, error);
}

const char *hvp_situation_why_atomic(const HvpSituation *self)
{
	if (!self->interrupts_on)
		return "interrupts are off";
	if ((self->preempt_count & ~PREEMPT_NEED_RESCHED) != 0)
		return "preemption is off";
	if (self->rcu_nesting != 0)
		return "it is in an RCU read section";
	return NULL;
}
