/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A function that a stack has to show is HVP_PLACE: kept as it stands in the
 * source, neither inlined nor cloned. Its calls of other places are CALL(...):
 * calls, never jumps.
 */
#ifndef HVP_PLACE_H
#define HVP_PLACE_H

#define HVP_PLACE noinline __attribute__((noipa))
#define CALL(call)                     \
	do {                           \
		call;                  \
		asm volatile("" ::: "memory"); \
	} while (0)

#endif
