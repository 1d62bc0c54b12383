/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest is known by, for sessions without a monitor that would tell of its reset:
 * the page-fault gate of its vCPUs' interrupt table, read through their own page tables,
 * which KASLR puts elsewhere at each boot; and, once there are spin traps of ours, these: a
 * kernel that is loaded anew has none.
 *
 *   one vCPU has that gate    the same guest, unless all traps are gone: then reset
 *   all have none, or another of a kernel that is there    reset
 *   else    not sure: firmware, or a guest of the guest (its CR3 leads nowhere here)
 *
 * Allocates nothing; a few reads of memory.
 */
#pragma once

#include "keeper/vcpus.h"

#define HVP_GUEST_MARK_GATE_BYTES 16

typedef struct {
	bool is_known;
	guint64 idt_base;
	guint8 gate[HVP_GUEST_MARK_GATE_BYTES];
} HvpGuestMark;

typedef enum {
	HVP_GUEST_MARK_SAME,
	HVP_GUEST_MARK_RESET,
	HVP_GUEST_MARK_UNSURE,
} HvpGuestMarkVerdict;

/* While stopped, all registers known: takes the mark of the first vCPU that has one, if any. */
void hvp_guest_mark_take(HvpGuestMark *self, HvpVcpus *vcpus);

/* While stopped, all registers known; the mark is known. */
HvpGuestMarkVerdict hvp_guest_mark_judge(const HvpGuestMark *self, HvpVcpus *vcpus);
