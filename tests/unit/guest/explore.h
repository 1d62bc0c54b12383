/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything that is ever asked of a guest, asked of one whose memory may be broken: each
 * answer is an answer or one of our errors.
 */
#pragma once

#include "guest/kernel.h"

/* Attaches, and explores what was attached to. Whether there was a kernel. */
bool explore_memory(HvpPhysical *physical, const HvpRegisters *registers);

/* Modules with ORC and symbols, tasks with their stacks unwound, ftrace, sites, locks, policy. */
void explore_kernel(HvpKernel *kernel);
