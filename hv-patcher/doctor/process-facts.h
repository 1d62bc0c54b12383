/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What /proc tells of a QEMU process, and whether we may read it. Stops and changes nothing. */
#pragma once

#include "doctor/facts.h"

/*
 * Sets in @facts what is found of process facts->pid: its user, tracer, command line (gdb stub,
 * encryption), descriptors, and what came of reading one byte of its memory.
 */
void hvp_process_facts_gather(HvpFactsVm *facts);

/* The command line alone: @length_bytes of arguments, each ended by a NUL. */
void hvp_process_facts_read_arguments(const char *arguments, gsize length_bytes, HvpFactsVm *facts);
