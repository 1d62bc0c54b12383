/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/running.h"

#define CR0_PG (1ULL << 31)

static bool not_quiescent(GError **error, guint vcpu, const char *why)
{
	return hvp_error_set(error, HVP_ERROR_BUSY, "vCPU %u %s", vcpu, why);
}

/*
 * In user mode the kernel's GS base waits in KERNEL_GS_BASE. The gdb stub gives only its low
 * half to 32-bit code, which tells CPUs apart as well.
 */
static bool find_cpu(HvpKernel *kernel, const HvpRegisters *registers, guint *ret_cpu)
{
	guint64 base = hvp_registers_in_user_mode(registers) ? registers->kernel_gs_base
							     : registers->gs_base;

	if (hvp_kernel_find_cpu(kernel, base, ret_cpu))
		return true;
	/* KVM does not leave that one in its page, but where the task state segment is. */
	if (hvp_registers_in_user_mode(registers) && base == 0)
		return hvp_kernel_find_cpu_by_tss(kernel, registers->tr_base, ret_cpu);
	if (!hvp_registers_in_user_mode(registers) || base > G_MAXUINT32)
		return false;
	for (guint cpu = 0; base != 0 && cpu < hvp_kernel_get_cpu_count(kernel); cpu++)
		if ((guint32)hvp_kernel_get_cpu_offset(kernel, cpu) == base) {
			*ret_cpu = cpu;
			return true;
		}
	return false;
}

static bool read_pointer(HvpKernel *kernel, HvpGva address, guint64 *ret_pointer)
{
	return hvp_address_space_read_u64(hvp_kernel_get_space(kernel), address, ret_pointer, NULL);
}

/* The pointer is to the topmost word (arch/x86/kernel/irq_64.c); all stacks are equal in size. */
static bool read_irq_stack(HvpKernel *kernel, guint cpu, HvpGvaRange *ret_range)
{
	guint32 stack_bytes = hvp_kernel_get_stack_bytes(kernel);
	HvpGva address;
	guint64 top;

	*ret_range = (HvpGvaRange){ 0 };
	if (!hvp_kernel_irq_stack_address(kernel, cpu, &address, NULL) ||
	    !read_pointer(kernel, address, &top))
		return false;
	if (top != 0)
		*ret_range = (HvpGvaRange){ hvp_gva(top + 8 - stack_bytes), hvp_gva(top + 8) };
	return true;
}

/* A kernel that keeps them elsewhere has none here: a vCPU on one is then on nobody's stack. */
static void read_exception_stacks(HvpKernel *kernel, guint cpu, HvpGvaRange *ret_range)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	HvpGva address;
	guint64 start;

	*ret_range = (HvpGvaRange){ 0 };
	if (!hvp_layout_has(layout, HVP_AT_EXCEPTION_STACKS_SIZE) ||
	    !hvp_kernel_has_symbol(kernel, "cea_exception_stacks") ||
	    !hvp_kernel_per_cpu(kernel, "cea_exception_stacks", cpu, &address, NULL) ||
	    !read_pointer(kernel, address, &start) || start == 0)
		return;
	ret_range->start = hvp_gva(start);
	ret_range->end = hvp_gva(start + hvp_layout_get(layout, HVP_AT_EXCEPTION_STACKS_SIZE));
}

static bool classify_vcpu(HvpKernel *kernel, guint vcpu, const HvpRegisters *registers,
			  HvpRunning *ret_running, GError **error)
{
	HvpRunning running = { .started = true,
			       .in_user_mode = hvp_registers_in_user_mode(registers) };
	HvpGva address;

	if (!find_cpu(kernel, registers, &running.cpu))
		return not_quiescent(error, vcpu, "is in entry code");
	if (!hvp_kernel_current_address(kernel, running.cpu, &address, NULL) ||
	    !read_pointer(kernel, address, &running.current.value) ||
	    !read_irq_stack(kernel, running.cpu, &running.irq_stack))
		return not_quiescent(error, vcpu, "has no readable per-CPU data");
	read_exception_stacks(kernel, running.cpu, &running.exception_stacks);
	*ret_running = running;
	return true;
}

static bool is_online(const guint8 *mask, guint cpu)
{
	return (mask[cpu / 8] >> (cpu % 8) & 1) != 0;
}

/* Each CPU that the guest has online must have been found. */
static bool check_online(HvpKernel *kernel, const HvpRunning *running, guint count, GError **error)
{
	guint8 mask[HVP_KERNEL_MAX_CPUS / 8] = { 0 };
	guint cpus = hvp_kernel_get_cpu_count(kernel);
	HvpGva address;

	if (!hvp_kernel_symbol(kernel, "__cpu_online_mask", &address, error) ||
	    !hvp_address_space_read(hvp_kernel_get_space(kernel), address, mask,
				    (cpus + 63) / 64 * 8, error))
		return false;
	for (guint cpu = 0; cpu < cpus; cpu++) {
		bool found = !is_online(mask, cpu);

		for (guint i = 0; i < count && !found; i++)
			found = running[i].started && running[i].cpu == cpu;
		if (!found)
			return hvp_error_set(error, HVP_ERROR_BUSY,
					     "no vCPU runs the guest's CPU %u", cpu);
	}
	return true;
}

bool hvp_running_classify(HvpKernel *kernel, const HvpRegisters *registers, guint count,
			  HvpRunning *ret_running, GError **error)
{
	for (guint i = 0; i < count; i++) {
		ret_running[i] = (HvpRunning){ .started = false };
		/*
		 * Waiting for its start, in firmware, in another kernel: not one of this kernel's
		 * CPUs, or one that is then missed.
		 */
		if ((registers[i].cr0 & CR0_PG) == 0 ||
		    !hvp_kernel_is_mapped_by(kernel, registers[i].cr3))
			continue;
		if (!classify_vcpu(kernel, i, &registers[i], &ret_running[i], error))
			return false;
		for (guint j = 0; j < i; j++)
			if (ret_running[j].started && ret_running[j].cpu == ret_running[i].cpu)
				return not_quiescent(error, i, "claims another's CPU");
	}
	return check_online(kernel, ret_running, count, error);
}

bool hvp_running_is_owner(const HvpRunning *self, const HvpTask *task, guint32 stack_bytes,
			  const HvpRegisters *registers)
{
	HvpGva rsp = hvp_gva(registers->general[HVP_RSP]);

	/* In user mode no kernel stack is in use; the others belong to whoever was interrupted. */
	if (self->in_user_mode || hvp_gva_range_contains(self->irq_stack, rsp) ||
	    rsp.value == self->irq_stack.end.value ||
	    hvp_gva_range_contains(self->exception_stacks, rsp))
		return task->address.value == self->current.value;
	return rsp.value >= task->stack.value && rsp.value - task->stack.value < stack_bytes;
}
