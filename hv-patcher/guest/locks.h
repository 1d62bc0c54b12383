/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the guest's kernel is in the middle of changing its own text or task
 * lists. Only of meaning while the guest stands still.
 */
#pragma once

#include "guest/kernel.h"

typedef struct HvpLocks HvpLocks;

/* Finds the locks once. UNSUPPORTED where one that every kernel has is missing. */
HvpLocks *hvp_locks_new(HvpKernel *kernel, GError **error);
void hvp_locks_free(HvpLocks *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpLocks, hvp_locks_free)

/*
 * BUSY naming the lock that is held: text_mutex, kprobe_mutex, jump_label_mutex, ftrace_lock,
 * module_mutex, klp_mutex, tasklist_lock (for writing), any run queue's. One batch of reads.
 */
bool hvp_locks_check_free(HvpLocks *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;
