/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pause is a handful of wake-ups: of the thread that waits for the vCPUs, of the tool that
 * judges, of the vCPUs themselves. Where a CPU of the host went to sleep deeply each of them takes
 * longer than all the rest. See Documentation/power/pm_qos_interface.rst of the kernel.
 */
#pragma once

/*
 * As long as the descriptor that it returns is open no CPU of the host sleeps deeply. -1 where that
 * is not allowed, or the kernel does not know of it: pauses are longer then.
 */
int hvp_wakeups_hasten(void);
