/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's ftrace records: one for each function that has an fentry slot. The
 * slot is where the record says; it is never derived from decoding the function
 * (kernels since 5.18 seal the ENDBR of many functions at boot with other bytes).
 *
 *   ftrace_pages_start -> struct ftrace_page { next, records, index } -> struct dyn_ftrace[]
 *
 * Source: kernel/trace/ftrace.c.
 */
#pragma once

#include "guest/kernel.h"

#define HVP_FTRACE_SLOT_BYTES 5U

typedef struct {
	HvpGva record; /* of the struct dyn_ftrace itself */
	HvpGva ip;     /* the slot */
	guint64 flags; /* FTRACE_FL_*, and how many tracers use it */
} HvpFtraceRecord;

typedef struct HvpFtrace HvpFtrace;

/* Copies all records, modules' included. UNSUPPORTED without DYNAMIC_FTRACE. */
HvpFtrace *hvp_ftrace_read(HvpKernel *kernel, GError **error);
void hvp_ftrace_free(HvpFtrace *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpFtrace, hvp_ftrace_free)

/*
 * The record of the function that starts at @function: its slot is at the function's first
 * byte, or behind an ENDBR (4 bytes). NOT_FOUND when it has none (notrace, assembly, inlined).
 */
bool hvp_ftrace_find(const HvpFtrace *self, HvpGva function, HvpFtraceRecord *ret_record,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Reads @record's flags again; may be called while stopped. */
bool hvp_ftrace_read_flags(HvpKernel *kernel, HvpGva record, guint64 *ret_flags,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Refuses a function that the guest itself redirects or has given up on: CONFLICT for IPMODIFY
 * (in-guest livepatch), UNSUPPORTED for a disabled record. Direct calls (BPF trampolines) arrive
 * before our jump and are fine.
 */
bool hvp_ftrace_check_flags(HvpKernel *kernel, guint64 flags, const char *name,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;
