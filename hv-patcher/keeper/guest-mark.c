/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/guest-mark.h"

#include <string.h>

#include "base/bytes.h"

#define CR0_PG (1ULL << 31)
#define PAGE_FAULT_GATE 14

/* Whether @index has an interrupt table of a kernel's, and its gate. */
static bool read_gate(HvpVcpus *vcpus, guint index, guint8 *ret_gate)
{
	guint64 base = vcpus->registers[index].idt_base;

	return (base >> 63) != 0 &&
	       hvp_backend_read_virtual(vcpus->backend, index,
					hvp_gva(base + PAGE_FAULT_GATE * HVP_GUEST_MARK_GATE_BYTES),
					ret_gate, HVP_GUEST_MARK_GATE_BYTES, NULL);
}

/* Whether there is memory at the handler that @gate leads to. */
static bool has_handler(HvpVcpus *vcpus, guint index, const guint8 *gate)
{
	guint64 handler = hvp_load_u16(gate) | (guint64)hvp_load_u16(gate + 6) << 16 |
			  (guint64)hvp_load_u32(gate + 8) << 32;
	guint8 byte;

	return (handler >> 63) != 0 && hvp_backend_read_virtual(vcpus->backend, index,
								hvp_gva(handler), &byte, 1, NULL);
}

void hvp_guest_mark_take(HvpGuestMark *self, HvpVcpus *vcpus)
{
	for (guint i = 0; i < vcpus->count && !self->is_known; i++) {
		self->idt_base = vcpus->registers[i].idt_base;
		self->is_known = read_gate(vcpus, i, self->gate) &&
				 has_handler(vcpus, i, self->gate);
	}
}

static HvpGuestMarkVerdict judge_vcpu(const HvpGuestMark *self, HvpVcpus *vcpus, guint index)
{
	const HvpRegisters *registers = &vcpus->registers[index];
	guint8 gate[HVP_GUEST_MARK_GATE_BYTES];

	if ((registers->cr0 & CR0_PG) == 0)
		return HVP_GUEST_MARK_RESET;
	if (!read_gate(vcpus, index, gate))
		return HVP_GUEST_MARK_UNSURE;
	if (registers->idt_base == self->idt_base && memcmp(gate, self->gate, sizeof gate) == 0)
		return HVP_GUEST_MARK_SAME;
	return has_handler(vcpus, index, gate) ? HVP_GUEST_MARK_RESET : HVP_GUEST_MARK_UNSURE;
}

/* Traps that are planted are not there any more, none of them. */
static bool has_lost_traps(const HvpVcpus *vcpus)
{
	if (!hvp_vcpus_uses_spins(vcpus) || vcpus->planted_count == 0)
		return false;
	for (gsize i = 0; i < vcpus->planted_count; i++) {
		const HvpKeeperSpin *site = hvp_spins_find(&vcpus->spins, vcpus->planted[i]);
		bool planted;

		if (site == NULL || !hvp_spins_is_planted(site, vcpus->backend, &planted, NULL) ||
		    planted)
			return false;
	}
	return true;
}

HvpGuestMarkVerdict hvp_guest_mark_judge(const HvpGuestMark *self, HvpVcpus *vcpus)
{
	HvpGuestMarkVerdict verdict = HVP_GUEST_MARK_RESET;

	for (guint i = 0; i < vcpus->count && verdict != HVP_GUEST_MARK_SAME; i++) {
		HvpGuestMarkVerdict own = judge_vcpu(self, vcpus, i);

		if (own != HVP_GUEST_MARK_RESET)
			verdict = own;
	}
	return verdict == HVP_GUEST_MARK_SAME && has_lost_traps(vcpus) ? HVP_GUEST_MARK_RESET
									: verdict;
}
